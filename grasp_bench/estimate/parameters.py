"""Trainable and active parameters of methods on backbones at their true size, in Markdown: a row for each method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from grasp_bench import plugins, seeds
from grasp_bench.backbones.recipes import recipe_of
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.sized import MISSED, OFF, misses
from grasp_bench.estimate.errors import NotEstimatedError, SkippedError
from grasp_bench.estimate.parts import fresh_backbone, fresh_method
from grasp_bench.estimate.simulate import SimulatedGpu
from grasp_bench.estimate.subject import Subject, choose
from grasp_bench.estimate.table import millions

BACKBONES = ("tiny-sd3", "sd3.5-medium", "pixart-sigma", "sana-0.6b", "flux-dev")
TASK = "digits-lt"
PRESUMED = "≈"
"""Mark of what is presumed of a method's study."""
BY_STUDY = "by its study"
NOTE = (
    "Trainable parameters and, in parentheses where they are fewer, those at work for one image. "
    f"{OFF}: the number before it is more than {100 * MISSED:.0f} % from the budget, which is for both."
)
STUDIED = {
    PRESUMED: "by what estimates presume of the method's study, which looks at the task's images or prompts first.",
    BY_STUDY: "not counted, so without a mark, since the method looks at the task's images or prompts first.",
}
"""What is in a cell → what it means; said where it occurs."""
ABSENT = "-"


def rows(
    methods: Iterable[tuple[str, Sequence[str]]] = (), task: str = TASK, backbones: Iterable[str] = BACKBONES
) -> list[list[str]]:
    """Return the table's rows, the heading first: methods with ``NAME=VALUE`` settings, by default all methods."""
    asked = list(methods) or [(name, ()) for name in plugins.entries("methods")]
    columns = [["method", *(" ".join([name, *settings]) for name, settings in asked)]]
    for name in backbones:
        budget = recipe_of(name).parameters
        heading = name if budget is None else f"{name}, budget {_number(budget)}"
        with SimulatedGpu():
            backbone = fresh_backbone(choose(asked[0][0], task, name))
            cells = [_cell(method, settings, task, name, backbone, budget) for method, settings in asked]
        columns.append([heading, *cells])
    return [list(row) for row in zip(*columns, strict=True)]


def lines(table: list[list[str]]) -> list[str]:
    """Return the lines of the table in Markdown, and what its cells mean."""
    heading, *body = table
    rule = f"|{'---|' * len(heading)}"
    written = [f"| {' | '.join(cells)} |" for cells in body]
    meanings = [f"{mark}: {meaning}" for mark, meaning in STUDIED.items() if mark in "".join(written)]
    return [f"| {' | '.join(heading)} |", rule, *written, "", " ".join([NOTE, *meanings])]


def _cell(method: str, settings: Sequence[str], task: str, name: str, backbone: Backbone, budget: int | None) -> str:
    subject = choose(method, task, name, method_settings=settings)
    try:
        return _counted(subject, backbone, budget)
    except NotEstimatedError:
        return BY_STUDY
    except SkippedError:
        return ABSENT


def _counted(subject: Subject, backbone: Backbone, budget: int | None) -> str:
    """Return a cell of the method on the backbone, which is left as it was; raises as :func:`fresh_method` does."""
    method = fresh_method(subject, backbone)
    method.attach(backbone, subject.task, seeds.generator("init", "estimate"))
    trained, active = sum(each.numel() for each in method.parameters().values()), method.active_parameters()
    method.detach()
    sizes = f"{PRESUMED} " * method.studies + "".join(f"{name} {size}: " for name, size in method.sizes.items())
    marked = [f"{_number(count)}{f' {OFF}' * misses(count, budget)}" for count in (trained, active)]
    return f"{sizes}{marked[0]}{f' ({marked[1]})' * (active < trained)}"


def _number(count: int) -> str:
    return f"{count:,}" if count < 1e6 else millions(count)

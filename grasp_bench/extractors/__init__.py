"""Feature extractors, one per module, by the name that a user writes: ``inception``, ``timm:resnet18``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grasp_bench import plugins
from grasp_bench.contracts.extractor import MOST, ChosenExtractor, PretrainedExtractor
from grasp_bench.errors import UserError
from grasp_bench.weights import VARIABLE, weights_folder


def choose_extractor(name: str) -> ChosenExtractor:
    """The extractor ``name`` or ``name:argument``, for `grasp-bench run` and `grasp-bench score` alike.

    Nothing is loaded. Raises :class:`UserError` for a name that is not known, and a missing or superfluous argument.
    """
    kind, colon, argument = name.partition(":")
    extractor = plugins.load("extractors", kind)
    takes = extractor.argument if issubclass(extractor, PretrainedExtractor) else ""
    if takes and not argument:
        raise UserError(f"{name}: the extractor {kind} needs an argument: {kind}:<{takes}>.")
    if colon and not takes:
        raise UserError(f"{name}: the extractor {kind} takes no argument. Write {kind}.")
    return ChosenExtractor(name, extractor, argument)


def resolve_extractor(name: str, weights: Path | None = None) -> PretrainedExtractor:
    """The extractor ``name`` or ``name:argument``, with the weights of a file where it takes one.

    Raises :class:`UserError` as :func:`choose_extractor`, for an extractor that a task trains, and for missing weights.
    """
    chosen = choose_extractor(name)
    if not issubclass(chosen.kind, PretrainedExtractor):
        raise UserError(f"{name}: is trained by a task, and serves `grasp-bench run` alone.")
    return chosen.kind.from_weights(weights, chosen.argument)


def choose_extractors(names: Sequence[str]) -> tuple[ChosenExtractor, ...]:
    """The extractors of a run. Raises :class:`UserError` where a run cannot have them."""
    found, asked = tuple(map(choose_extractor, names)), f"extractor={','.join(names)}"
    if len(found) > MOST:
        raise UserError(f"{asked}: a run has at most {MOST} extractors.")
    labels = [each.label for each in found]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise UserError(f"{asked}: two of them would be called {twice}. Leave one out.")
    for each in found:
        _check_is_no_path(each)
    return found


def _check_is_no_path(chosen: ChosenExtractor) -> None:
    """Raise :class:`UserError` for an argument that is a path: a run's specification holds none."""
    if Path(chosen.argument).is_absolute() or chosen.argument.startswith((".", "~")):
        kind = chosen.name.partition(":")[0]
        raise UserError(
            f"extractor={chosen.name}: a run is named by what it is made of, not by a path of one machine. Put it into "
            f"{weights_folder()} (${VARIABLE}), and write its name there: {kind}:{Path(chosen.argument).name}."
        )


def check_weights(chosen: tuple[ChosenExtractor, ...]) -> None:
    """Raise one :class:`UserError` that names all weights that are missing, and how to get them."""
    problems = []
    for each in chosen:
        try:
            each.check()
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))

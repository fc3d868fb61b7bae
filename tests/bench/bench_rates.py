"""What learning rates do as the transformer gets wider: every method on SD3's blocks with random weights.

``PYTHONPATH=tests python -m bench.bench_rates`` writes results/perf/rates.json after every method, and takes about five
hours on one core, nearly all of them at width 1536; ``--width`` and ``--method`` choose some, and what was measured
before stays. ``--quick`` tries it in a few steps. ``--table`` prints the table of docs/backbones.md from that file.
``--bare`` measures the two highest rates in 80 steps without warm-up and without a bound on the gradient, as "bare".
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from grasp_bench import plugins, seeds
from grasp_bench.backbones.sd3 import MEDIUM
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.method import Batch
from grasp_bench.contracts.spec import Budget
from grasp_bench.io import write_json
from grasp_bench.processes import ALONE
from grasp_bench.run.plan import plan
from grasp_bench.run.training.backward import GroupLoss, backward
from grasp_bench.run.training.optimizer import make_optimizer
from grasp_bench.run.training.placement import Placement

from .recording import RESULTS, TRIALS, environment_of
from .training import PROMPT_WIDTH, RandomSD3, Sizes, random_batch

CPU = torch.device("cpu")
STEPS = {64: 80, 768: 80, 1536: 40}
"""Width of the transformer (tiny-sd3's, one in between, SD3.5-medium's) → steps; fewer where each takes a second."""
BARE_STEPS = 80
NARROWEST = min(STEPS)
MEAN_OF = 10
"""Steps at the start and at the end whose losses are averaged."""
LABELS = (0, 0, 3, 3, 5, 5, 9, 9)
"""Classes of ``digits-lt`` in the batch: of head, medium and tail, two samples each."""
WITHOUT = {
    "lora-attn": "chooses its layers by what a pretrained model draws, which random weights are not; it trains LoRA",
    "prior": "learns from images of a pretrained model, which random weights are not; what it trains is vanilla-ft's",
}
"""Method → why it is left out."""
Cells = dict[str, dict[str, dict[str, Any]]]
"""Width → method → what was measured."""


def sizes(width: int) -> Sizes:
    """Two blocks of SD3, 16 tokens of the image and 4 of the prompt, batch 8."""
    return Sizes(width=width, blocks=2, latent_side=8, prompt_tokens=4, batch=len(LABELS))


def rates(name: str) -> dict[str, float]:
    """What is tried: the recipe's rate of what the method trains, a tenth and ten times of it, and the tiny default."""
    method = plan(method=name, task="digits-lt").method
    recipe = MEDIUM.rates[method.kind].value
    named = {"recipe / 10": recipe / 10, "recipe": recipe, "recipe * 10": recipe * 10}
    named |= {"default on tiny-sd3": method.config.learning_rate}
    return {words: float(f"{rate:.6g}") for words, rate in named.items()}  # equal where they are meant to be


def losses(name: str, width: int, rate: float, steps: int, bare: bool = False) -> list[float]:
    """The mean squared error of every step on one batch; it ends with the first one that is not finite.

    ``bare``: without warm-up and without a bound on the gradient's norm.
    """
    chosen = plan(method=name, task="digits-lt", method_settings=[f"learning_rate={rate}"])
    backbone, method, task = RandomSD3(sizes(width)), chosen.method, chosen.task
    method.attach(backbone, task, seeds.generator("init", "rates"))
    batch = labelled(random_batch(backbone, sizes(width), len(LABELS), CPU))
    budget = chosen.spec.budget.model_copy(update={"steps": steps, "warmup_steps": 0 if bare else steps // 10})
    parameters = list(method.parameters().values())
    optimizer = make_optimizer(budget, parameters, method.config)
    group_loss = GroupLoss(task.groups, task.group_indices(), CPU)
    placement = Placement(backbone, parameters, set(), ALONE)
    found: list[float] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = warmed_up(rate, step, budget)
        optimizer.zero_grad()
        loss = backward([batch], backbone, method, group_loss, "float32", placement, lambda part: None)
        found.append((group_loss.sums.sum() / group_loss.counts.sum()).item())
        group_loss.read()  # which begins again
        if not math.isfinite(found[-1]) or not torch.isfinite(loss):
            return found
        torch.nn.utils.clip_grad_norm_(parameters, math.inf if bare else budget.clip_norm)
        optimizer.step()
    return found


def warmed_up(rate: float, step: int, budget: Budget) -> float:
    """The rate at a step, as the harness has it: it rises linearly over a tenth of the steps."""
    return rate * min(1.0, (step + 1) / max(1, budget.warmup_steps))


def labelled(batch: Batch) -> Batch:
    """The batch with two samples of each class, and embeddings of prompts that are noise of their own."""
    batch.condition.labels.copy_(torch.tensor(LABELS))

    def embed(prompts: Iterable[str]) -> PromptEmbeddings:
        rows = [seeds.generator("prompt", each) for each in prompts]
        tokens = torch.stack([torch.randn(sizes(NARROWEST).prompt_tokens, PROMPT_WIDTH, generator=g) for g in rows])
        return PromptEmbeddings(tokens, torch.stack([torch.randn(PROMPT_WIDTH, generator=g) for g in rows]))

    object.__setattr__(batch, "embed", embed)
    return batch


def ratio(found: list[float], steps: int) -> float | None:
    """The mean of the last losses over that of the first; None where one was not finite."""
    if len(found) < steps or not math.isfinite(found[-1]):
        return None
    return (sum(found[-MEAN_OF:]) / MEAN_OF) / (sum(found[:MEAN_OF]) / MEAN_OF)


def measured(name: str, width: int, steps: int) -> dict[str, Any]:
    """Every rate of a method at a width; one that has two names is measured once."""
    tried = rates(name)
    ratios = {rate: ratio(losses(name, width, rate, steps), steps) for rate in dict.fromkeys(tried.values())}
    return {
        "kind": plan(method=name, task="digits-lt").method.kind,
        "rates": tried,
        "ratios": {words: ratios[rate] for words, rate in tried.items()},
    }


def measured_bare(name: str, width: int) -> dict[str, float | None]:
    """Learning rate → ratio, of the two highest rates."""
    highest = sorted(set(rates(name).values()))[-2:]
    return {f"{rate:g}": ratio(losses(name, width, rate, BARE_STEPS, bare=True), BARE_STEPS) for rate in highest}


def table(cells: Cells) -> str:
    """Markdown: a row per method, a column per width, in each the ratios at all rates."""
    lines = ["| method | learning rates | " + " | ".join(f"width {width}" for width in STEPS) + " |"]
    lines.append("|---|---|" + "---|" * len(STEPS))
    for name in dict.fromkeys(name for found in cells.values() for name in found):
        first = next(found[name] for found in cells.values() if name in found)
        tried = ", ".join(f"{rate:g}" for rate in first["rates"].values())
        shown = [_cell(cells.get(str(width), {}).get(name)) for width in STEPS]
        lines.append(f"| `{name}` | {tried} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not run"
    return ", ".join("not finite" if each is None else f"{each:.2f}" for each in found["ratios"].values())


def measured_before(path: Path, part: str = "widths") -> Cells:
    """What the file holds."""
    found: Cells = json.loads(path.read_text()).get(part, {}) if path.exists() else {}
    return found


def main() -> None:
    """Measure and write, one method at a time."""
    parser = argparse.ArgumentParser(prog="bench.bench_rates", description="Learning rates by width.")
    parser.add_argument(
        "--width", type=int, action="append", choices=tuple(STEPS), help="one or several; all by default"
    )
    parser.add_argument("--method", action="append", help="one or several; all by default")
    parser.add_argument("--quick", action="store_true", help="a few steps, which show that it works")
    parser.add_argument("--bare", action="store_true", help="without warm-up and without a bound on the gradient")
    parser.add_argument("--table", action="store_true", help="print the table of what was measured, and do no more")
    chosen = parser.parse_args()
    path = (TRIALS if chosen.quick else RESULTS) / "rates.json"
    if chosen.table:
        print(table(measured_before(path)))
        return
    names = chosen.method or [name for name in plugins.entries("methods") if name not in WITHOUT]
    for width in chosen.width or STEPS:
        for name in names:
            if chosen.bare:
                found = measured_bare(name, width)
            else:
                found = measured(name, width, 2 * MEAN_OF if chosen.quick else STEPS[width])
            parts = {part: measured_before(path, part) for part in ("widths", "bare")}  # by other processes, too
            parts["bare" if chosen.bare else "widths"].setdefault(str(width), {})[name] = found
            write(path, **parts)
            print(f"{width} {name} {found if chosen.bare else found['ratios']}", flush=True)


def write(path: Path, widths: Cells, bare: Cells) -> None:
    """Write the file, with where it was measured and what is missing in it."""
    every = plugins.entries("methods")
    missing = {str(width): [name for name in every if name not in widths.get(str(width), {})] for width in STEPS}
    write_json(
        path,
        {
            "command": "PYTHONPATH=tests python -m bench.bench_rates",
            **environment_of([]),
            "method": (
                f"{sizes(NARROWEST).text.replace(f'of width {NARROWEST}', 'of each width')}. One batch of noise, AdamW "
                f"without decay, gradient norm 1, a tenth of the steps to warm up. A ratio is the mean squared "
                f"error of the prediction over the last {MEAN_OF} steps, relative to the first {MEAN_OF}; null where "
                "it was not finite."
            ),
            "steps": {str(width): steps for width, steps in STEPS.items()},
            "left_out": WITHOUT,
            "not_run": missing,
            "widths": widths,
            "bare_steps": BARE_STEPS,
            "bare": bare,
        },
    )


if __name__ == "__main__":
    main()

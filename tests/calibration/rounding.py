"""What ``--quantize int8-guided`` does to merged clusters: how far adapters are off, and the loss, on held-out images.

``PYTHONPATH=tests python -m calibration.rounding [WORK_DIR]`` trains ``grasp`` on ``digits-lt`` for 200 steps, a minute
on one CPU thread, and prints the table in docs/sharing.md. Adapters are compared at what they read in the network as it
was trained, where every sample is served by its own cluster.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import torch

from grasp_bench import seeds
from grasp_bench.adapters.merging import Layers, layers_of, merged
from grasp_bench.adapters.residual import RoutedAdapter
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.progress import Progress
from grasp_bench.export.guided import ANCHOR, balanced, by_moments, moments_of
from grasp_bench.export.manifest import Manifest
from grasp_bench.export.pipeline import FineTunedPipeline
from grasp_bench.export.smaller import as_merged, dequantized, quantized
from grasp_bench.run.context import Context
from grasp_bench.run.files import TRAIN_SUMMARY, WEIGHTS
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.sampling import Network

STEPS = 200
CPU = torch.device("cpu")
Outputs = dict[str, torch.Tensor]
"""Layer → what its adapter adds, (B, N, O)."""


class HeldOut:
    """Validation images as training noises them, as many of each group."""

    def __init__(self, pipeline: FineTunedPipeline, context: Context) -> None:
        generator, split = seeds.generator("calibration", "rounding"), context.data.validation
        objective, infos = pipeline.backbone.objective, pipeline.manifest.classes
        rows = balanced(split.labels, infos, generator)
        self.groups = [infos[label].group for label in split.labels[rows]]
        clean = pipeline.backbone.encode_images(torch.from_numpy(split.read(rows)))
        noise = torch.randn(clean.shape, generator=generator)
        t = objective.timesteps(len(rows), generator)
        self.noisy, self.target = objective.add_noise(clean, noise, t), objective.target(clean, noise, t)
        prompts = context.embed([infos[label].prompt for label in split.labels[rows]])
        dropped = torch.zeros(len(rows), dtype=torch.bool)
        self.condition = Condition(torch.from_numpy(split.labels[rows]), dropped, prompts, t)

    def losses(self, pipeline: FineTunedPipeline) -> dict[str, float]:
        """Group → mean squared error."""
        network = Network(pipeline.backbone, pipeline.method, CPU)
        errors = (network(self.noisy, self.condition) - self.target).square().flatten(1).mean(1)
        return {group: errors[self.of(group)].mean().item() for group in dict.fromkeys(self.groups)}

    def of(self, group: str) -> torch.Tensor:
        """Which samples are of a group, bool (B,)."""
        return torch.tensor([each == group for each in self.groups])

    def read(self, pipeline: FineTunedPipeline) -> dict[str, torch.Tensor]:
        """Layer → what its adapters read, (B, N, I)."""
        found: dict[str, torch.Tensor] = {}
        with ExitStack() as stack:
            for name, module in pipeline.transformer.named_modules():
                if isinstance(module, RoutedAdapter):
                    hook = module.register_forward_pre_hook(
                        lambda _, states, name=name: found.__setitem__(name, states[0].double())
                    )
                    stack.callback(hook.remove)
            self.losses(pipeline)
        return found


def off(one: Outputs, other: Outputs, rows: torch.Tensor) -> float:
    """How far outputs of all layers are off others at some samples, relative to these."""
    apart = sum((one[layer] - given)[rows].square().sum().item() for layer, given in other.items())
    return float((apart / sum(given[rows].square().sum().item() for given in other.values())) ** 0.5)


def outputs(layers: Layers, read: dict[str, torch.Tensor], number: int = 0) -> Outputs:
    """What the adapter of this number adds in every layer."""
    given = {}
    for layer, states in read.items():
        down, up = layers[layer][number]
        given[layer] = torch.nn.functional.gelu(states @ down.double()) @ up.double()
    return given


def assembled(context: Context) -> FineTunedPipeline:
    """The weights after :data:`STEPS` as those of ``merged``, by counts, before it merges."""
    spec, folder = context.plan.spec, context.trained_after(STEPS)
    summary = json.loads((folder / TRAIN_SUMMARY).read_text())
    manifest = Manifest(
        grasp_bench="",
        run_id=spec.id,
        label="grasp",
        task_label="digits-lt",
        spec=spec,
        classes=context.plan.task.classes(),
        artifacts={name: json.loads((folder / name).read_text()) for name in summary["artifacts"]},
        weights="",
        private=False,
    )
    return FineTunedPipeline.assemble(as_merged(manifest, "counts"), folder / WEIGHTS, context.plan.backbone)


def main(work_dir: Path) -> None:
    chosen = plan(method="grasp", task="digits-lt", budget="standard")
    context = Pipeline(chosen, Options(work_dir / "results", work_dir, device="cpu", threads=1), CPU, Progress())
    table(assembled(context), context)


@torch.no_grad()
def table(pipeline: FineTunedPipeline, context: Context) -> None:
    """Print a row for the run as it was trained, and for every way to store its merged clusters."""
    held, state, groups = HeldOut(pipeline, context), pipeline.method.state_dict(), list(pipeline.method.map.clusters)
    before, count = layers_of(state), len(groups)
    seen, read = moments_of(pipeline, context, count), held.read(pipeline)
    own = {group: outputs(before, read, number) for number, group in enumerate(groups)}
    everything = torch.ones(len(held.groups), dtype=torch.bool)
    columns = ("off the average", *(f"off its own, {each}" for each in groups), *(f"loss, {each}" for each in groups))
    print(f"| export | {' | '.join(columns)} |")
    print(f"|---|{'---:|' * len(columns)}")
    print(f"| as trained | | {'0 | ' * count}{_shown(held.losses(pipeline), groups)} |")
    merges = {"counts": pipeline.method.finished(state), "mean": merged(state, [1 / count] * count)}
    for merge, after in merges.items():
        averages = layers_of(after)
        average = outputs(averages, read)
        ways = {"": after, " --quantize int8": dequantized(quantized(after))} | {
            f" --quantize int8-guided`, `ANCHOR = {anchor:g}": dequantized(
                by_moments(before, averages, seen, count, anchor)
            )
            for anchor in (ANCHOR, float("inf"), 0.0)
        }
        for way, weights in ways.items():
            given = outputs(layers_of(weights), read)
            pipeline.method.load_state_dict(dict(weights))
            apart = " | ".join(f"{off(given, own[group], held.of(group)):.2f}" for group in groups)
            print(
                f"| `--merge {merge}{way}` | {off(given, average, everything):.4f} | {apart} | "
                f"{_shown(held.losses(pipeline), groups)} |"
            )


def _shown(losses: dict[str, float], groups: list[str]) -> str:
    return " | ".join(f"{losses[group]:.3f}" for group in groups)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".grasp-bench/rounding"))

"""What a training step of routed adapters costs: as clusters are added, served in other ways, beside other methods.

``PYTHONPATH=tests python -m bench.bench_adapters`` writes results/perf/adapters.json and takes about six minutes on two
cores; ``--device cuda`` writes adapters-cuda.json, ``--quick`` tries it at a small size.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial

import torch

from grasp_bench.baselines.lora import Lora, LoraSettings
from grasp_bench.baselines.vanilla_ft import VanillaFineTuning, VanillaSettings
from grasp_bench.processes import pick_device
from grasp_bench.run.environment import describe

from .alternatives import LEARNING_RATE, Routed, RoutedByGathering, RoutedByMask, predict_by_cluster
from .measuring import memory_method, peak_memory, ratios, repeats, time_steps
from .recording import RESULTS, TRIALS, Measure, record
from .training import Predict, Sizes, Step, predict

QUICK = Sizes(width=128, latent_side=8, prompt_tokens=4, repeats=3)
CLUSTERS = (1, 4, 16, 64)
GROUPS = 3  # clusters of GRASP's own partition: head, medium, tail
TOLERANCE = 0.02  # of the number of parameters that are trained

OTHERS: dict[str, tuple[type[Routed], Predict, str]] = {
    "a forward pass for each cluster": (
        Routed,
        predict_by_cluster,
        "The same adapters; the predictions make one loss.",
    ),
    "weights gathered for each sample": (
        RoutedByGathering,
        predict,
        "Weights stacked, indexed by cluster, in batched products (bmm); absent clusters have a gradient, of zeros.",
    ),
    "all adapters and a mask": (
        RoutedByMask,
        predict,
        "Weights stacked, one product with all of them side by side; absent clusters have a gradient, of zeros.",
    ),
}
"""Other ways to serve a mixed batch: adapters, forward pass, what is done."""


def by_clusters(sizes: Sizes, device: torch.device) -> list[Measure]:
    """A mixed batch with more and more clusters, and other ways to serve the most."""
    most = CLUSTERS[-1]
    ours, one = f"K = {most}", "K = 1"
    routed = {f"K = {k}": Step(Routed(k, sizes.rank), sizes, k, device) for k in CLUSTERS}
    others = {name: Step(kind(most, sizes.rank), sizes, most, device, run) for name, (kind, run, _) in OTHERS.items()}
    check_agreement(routed[ours], others)
    details = time_steps(routed | others, sizes.repeats)
    growth = ratios(details, ours, one)
    return [
        Measure(
            name=f"step of {most} clusters over that of one, equal width",
            value=growth["step"],
            unit="times",
            at_most=1.10,
            method=(
                f"{repeats(sizes)}. {sizes.text}; adapters of rank {sizes.rank}, however many clusters K. The "
                f"samples are spread evenly over the clusters, in random order: at {most}, {sizes.batch // most} each. "
                "A step is the forward and the backward pass, clipping and AdamW, whose own work grows with the number "
                "of parameters; without_optimizer has the two passes alone."
            ),
            details={"device": describe(device).device, "ratios": growth, **details},
        ),
        *(
            Measure(
                name=f"{name}: step over that of routed adapters, {most} clusters",
                value=details["median_seconds"][name] / details["median_seconds"][ours],
                unit="times",
                method=f"Measured together with the above. {what}",
                details={"ratios": ratios(details, name, ours)},
            )
            for name, (_, _, what) in OTHERS.items()
        ),
    ]


def check_agreement(ours: Step, others: Mapping[str, Step]) -> None:
    """Raises AssertionError where another way predicts something else: its time would mean nothing."""
    with torch.no_grad():
        expected = ours.predict()
        for name, step in others.items():
            torch.testing.assert_close(
                step.predict(), expected, rtol=1e-3, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
            )


def against_methods(sizes: Sizes, device: torch.device) -> list[Measure]:
    """GRASP beside LoRA of as many parameters, and beside full fine-tuning."""
    makers = {"grasp": grasp, "lora": partial(lora, rank=lora_rank(sizes)), "full": full}
    memory = {name: peak_memory(make, sizes, device) for name, make in makers.items()}  # first, as ours is still small
    steps = {name: make(sizes, device) for name, make in makers.items()}
    counts = {name: step.trainable for name, step in steps.items()}
    if abs(counts["lora"] / counts["grasp"] - 1) > TOLERANCE:
        raise RuntimeError(f"no rank of LoRA has as many parameters as GRASP: {counts}")
    details = time_steps(steps, sizes.repeats)
    to_lora, to_full = (ratios(details, "grasp", other) for other in ("lora", "full"))
    return [
        Measure(
            name="step of grasp over that of peft's LoRA, as many trained parameters",
            value=to_lora["step"],
            unit="times",
            at_most=1.0,
            method=(
                f"{repeats(sizes)}. {sizes.text}. GRASP of {GROUPS} clusters of rank {sizes.rank} in a mixed batch, "
                f"{counts['grasp']:,} parameters; LoRA of rank {makers['lora'].keywords['rank']} on all attention "
                f"projections, {counts['lora']:,}."
            ),
            details={"device": describe(device).device, "ratios": to_lora, **details},
        ),
        Measure(
            name="step of grasp over that of full fine-tuning",
            value=to_full["step"],
            unit="times",
            method=f"Measured together with the above; {counts['full']:,} parameters are trained.",
            details={"ratios": to_full},
        ),
        Measure(
            name="peak memory of grasp over that of full fine-tuning",
            value=memory["grasp"]["peak_mib"] / memory["full"]["peak_mib"],
            unit="times",
            method=memory_method(device),
            details={"memory": memory},
        ),
    ]


def grasp(sizes: Sizes, device: torch.device) -> Step:
    """GRASP with as many clusters as there are groups."""
    return Step(Routed(GROUPS, sizes.rank), sizes, GROUPS, device)


def lora(sizes: Sizes, device: torch.device, rank: int) -> Step:
    """peft's LoRA."""
    settings = LoraSettings(learning_rate=LEARNING_RATE, rank=rank, alpha=rank)
    return Step(Lora(settings), sizes, GROUPS, device)


def full(sizes: Sizes, device: torch.device) -> Step:
    """Full fine-tuning."""
    method = VanillaFineTuning(VanillaSettings(learning_rate=LEARNING_RATE))
    method.detachable = False  # as in runs: no copy of the pretrained weights
    return Step(method, sizes, GROUPS, device)


def lora_rank(sizes: Sizes) -> int:
    """The rank that gives LoRA about as many parameters as GRASP."""
    device = torch.device("cpu")
    return round(grasp(sizes, device).trainable / lora(sizes, device, rank=1).trainable)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench.bench_adapters", description="Time a training step of adapters.")
    parser.add_argument("--device", default="cpu", help="cpu (the default), cuda, cuda:N or auto")
    parser.add_argument("--quick", action="store_true", help="a small size, for which the targets are not meant")
    chosen = parser.parse_args()
    sizes, device = QUICK if chosen.quick else Sizes(), pick_device(chosen.device)
    measures = [*against_methods(sizes, device), *by_clusters(sizes, device)]
    name = "adapters" if device.type == "cpu" else f"adapters-{device.type}"
    record(name, measures, [], TRIALS if chosen.quick else RESULTS)


if __name__ == "__main__":
    main()

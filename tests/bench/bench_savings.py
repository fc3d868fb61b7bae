"""What two methods are for: the memory that ladder side-tuning saves, the time that leaving tokens out saves.

``PYTHONPATH=tests python -m bench.bench_savings`` writes results/perf/savings.json and takes about four minutes on two
cores; ``--device cuda`` writes savings-cuda.json, ``--quick`` tries it at a small size.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from grasp_bench.adapters.tread import middle, routed_training
from grasp_bench.baselines.ladder import LadderSettings, LadderSideTuning
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Batch, Method, MethodSettings
from grasp_bench.processes import pick_device
from grasp_bench.run.environment import describe

from .alternatives import LEARNING_RATE
from .bench_adapters import GROUPS, full, grasp, lora, lora_rank
from .measuring import Maker, memory_method, peak_memory, ratios, repeats, time_steps
from .recording import RESULTS, TRIALS, Measure, record
from .training import Sizes, Step, predict

DEEP = Sizes(width=256, blocks=12, repeats=5)
"""Of as many blocks as the smallest transformer of TREAD's paper, since a share of the blocks is what tokens skip."""
QUICK = Sizes(width=128, blocks=4, latent_side=8, prompt_tokens=4, repeats=3)
NARROWER = 8  # times, than the transformer: the side network of the paper
SHARE = 0.5  # of the tokens skip blocks, as in the paper


def ladder(sizes: Sizes, device: torch.device) -> Step:
    """Ladder side-tuning with the paper's width."""
    settings = LadderSettings(learning_rate=LEARNING_RATE, side_width=sizes.width // NARROWER)
    return Step(LadderSideTuning(settings), sizes, GROUPS, device)


def memory_saved(sizes: Sizes, device: torch.device) -> list[Measure]:
    """Ladder side-tuning beside full fine-tuning, LoRA and GRASP."""
    others: dict[str, Maker] = {
        "full fine-tuning": full,
        "peft's LoRA": partial(lora, rank=lora_rank(sizes)),
        "grasp": grasp,
    }
    memory = {name: peak_memory(make, sizes, device) for name, make in {"lst": ladder, **others}.items()}
    trained = ladder(sizes, device).trainable
    taken = {name: each["peak_mib"] - each["before_mib"] for name, each in memory.items()}
    return [
        Measure(
            name=f"peak memory of lst over that of {name}",
            value=memory["lst"]["peak_mib"] / memory[name]["peak_mib"],
            unit="times",
            method=(
                f"{sizes.text}; a side network of width {sizes.width // NARROWER}, {trained:,} parameters. "
                f"{memory_method(device)} steps_alone is the ratio of what the steps took on top of that."
            ),
            details={
                "device": describe(device).device,
                "steps_alone": taken["lst"] / taken[name],
                "memory": {each: memory[each] for each in ("lst", name)},
            },
        )
        for name in others
    ]


def time_saved(sizes: Sizes, device: torch.device) -> list[Measure]:
    """Full fine-tuning and GRASP with and without half of the image's tokens in the middle blocks."""
    makers: dict[str, Maker] = {"vanilla-ft": full, "grasp": grasp}
    skipped = len(middle(sizes.blocks))
    found = []
    for name, make in makers.items():
        with_all, with_fewer = f"{name}, all tokens", f"{name}, tread={SHARE:g}"
        steps = {with_all: make(sizes, device), with_fewer: make(sizes, device)}
        steps[with_fewer].run = predict_with_fewer_tokens
        details = time_steps(steps, sizes.repeats)
        saved = ratios(details, with_fewer, with_all)
        found.append(
            Measure(
                name=f"step of {name} with tread={SHARE:g} over that with all tokens",
                value=saved["step"],
                unit="times",
                method=(
                    f"{repeats(sizes)}. {sizes.text}; {SHARE:.0%} of each image's tokens skip {skipped} of the "
                    f"{sizes.blocks} blocks."
                ),
                details={"device": describe(device).device, "ratios": saved, **details},
            )
        )
    return found


def predict_with_fewer_tokens(backbone: Backbone, method: Method[MethodSettings], batch: Batch) -> torch.Tensor:
    """One forward pass (B, C, H, W) in which other tokens than at the step before skip blocks."""
    with routed_training(backbone, SHARE) as leave_tokens_out:
        leave_tokens_out(batch)
        return predict(backbone, method, batch)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench.bench_savings", description="Memory and time that methods save.")
    parser.add_argument("--device", default="cpu", help="cpu (the default), cuda, cuda:N or auto")
    parser.add_argument("--quick", action="store_true", help="a small size, which shows that it works")
    chosen = parser.parse_args()
    device = pick_device(chosen.device)
    sizes, deep = (QUICK, QUICK) if chosen.quick else (Sizes(), DEEP)
    measures = [*memory_saved(sizes, device), *time_saved(deep, device)]
    name = "savings" if device.type == "cpu" else f"savings-{device.type}"
    record(name, measures, [], TRIALS if chosen.quick else RESULTS)


if __name__ == "__main__":
    main()

"""What is counted from records for BENCHMARKS.md and TABLES.md, of records with invented numbers."""

import re

from helpers.records import framed, metric, record

from grasp_bench.contracts.record import RunRecord, Tuning
from grasp_bench.results.grids import MINUS

from .benchmarks import sampling, scales

OWN, BALANCED = "grasp~tuned=16", "grasp~tuned=16,sampling=balanced"


def runs(label: str, value: float, guidance: str = "cfg", seeds: int = 5, **changed: object) -> list[RunRecord]:
    """Seeds of a row whose tail FD is about ``value``, and tail coverage about a thousandth of it."""
    made = []
    for seed in range(seeds):
        run = record(
            re.split(r"[+~]", label)[0],
            seed,
            [
                metric("fd", "tail", value * (1 + 0.01 * (seed % 3)), lower=True),
                metric("coverage", "tail", value / 1000 + 0.001 * (seed % 3)),
            ],
            label=label,
            tuned=Tuning(trials=16, best=3, settings={}),
            changed={"method": changed} if changed else {},
            default_guidance=guidance == "cfg",
        )
        named = run.spec.guidance.model_copy(update={"name": guidance})
        spec = run.spec.model_copy(update={"guidance": named})
        made.append(run.model_copy(update={"spec": spec, "run_id": spec.id}))
    return made


def test_balanced_sampling_is_compared_with_the_methods_own_row_whatever_else_was_run():
    rows = [*runs(OWN, 100.0), *runs(BALANCED, 150.0, sampling="balanced")]
    others = [
        *runs("grasp+none~tuned=16", 300.0, "none"),
        *runs("grasp~tuned=16,partition=class", 200.0, partition="class"),
    ]
    alone = sampling(framed(rows))
    assert "in tail FD(digits-cnn), with classes drawn equally often and not as they come, worse: grasp +50 %" in alone
    assert "in tail coverage, with classes drawn equally often and not as they come, better: grasp +0.050" in alone
    assert sampling(framed([*rows, *others])) == alone


def test_scales_stand_beside_a_methods_own():
    own = runs(OWN, 100.0)
    none, partition = runs("grasp+none~tuned=16", 80.0, "none", 3), runs("grasp~tuned=16,partition=class", 9.0, x=1)
    head, _, row = scales(framed([*own, *none, *partition])).splitlines()
    names = ("at its own scale", "without guidance", "at scale 2")
    columns = [f"tail {of} {name}" for of in ("FD(digits-cnn)", "coverage") for name in names]
    assert head == f"| method | {' | '.join(columns)} |"
    assert row == (
        "| grasp | 100.8 ± 1.0 | 80.8 ± 2.0 (3 seeds; 101.0 at its own) | 100.8 ± 1.0 "
        "| 0.101 ± 0.001 | 0.081 ± 0.002 (3 seeds; 0.101 at its own) | 0.101 ± 0.001 |"
    )


def test_orders_of_methods_at_two_scales_are_of_the_seeds_that_all_have():
    rows = []
    for method, own, unguided in (("grasp", 100.0, 60.0), ("lora", 200.0, 50.0), ("oc", 300.0, 40.0)):
        rows += runs(f"{method}~tuned=16", own)
        rows += runs(f"{method}+none~tuned=16", unguided, "none", seeds=2)
    *_, distance, coverage = scales(framed(rows)).splitlines()
    assert distance.replace(MINUS, "-") == (
        "- Spearman's correlation of 3 methods' tail FD(digits-cnn) over seeds 0, 1: at its own scale and without "
        "guidance -1.00; at its own scale and at scale 2 1.00; without guidance and at scale 2 -1.00."
    )
    assert coverage == distance.replace("FD(digits-cnn)", "coverage")

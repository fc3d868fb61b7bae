"""What share of scores may differ in a run that is reproduced, as it was measured on recorded runs."""

import pandas as pd
import pytest
from helpers.records import metric, record, save

from grasp_bench.contracts.record import Tuning
from grasp_bench.results.frame import frame_of
from grasp_bench.results.sharing.reproduce import BEYOND

from .reruns import PAGE, measure, own_data, recorded, same_data, written


def test_the_limit_is_the_95th_percentile_of_what_was_measured():
    found = recorded()
    assert set(found) == {"the same data", "data of its own"}
    highest = max(each.high for each in found.values())
    assert highest <= BEYOND < highest + 0.01


def test_the_page_has_what_is_recorded():
    text = PAGE.read_text()
    assert written(text) == text, "PYTHONPATH=tests python -m calibration.reruns writes it"
    assert f"at most {100 * BEYOND:.0f} %" in text


def row(method: str, values: list[float]):
    return [record(method, seed, [metric("recall", "tail", value)]) for seed, value in enumerate(values)]


def test_a_seed_is_judged_by_the_others():
    """Of four others that differ by 0.1 at most, the limit is 3.18 √2 0.05 = 0.23: only the last is beyond."""
    assert list(same_data(row("grasp", [0.5, 0.55, 0.45, 0.5, 2.5]))) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("far", [0.0, 3.0])
def test_what_seeds_do_to_all_rows_is_taken_out(far: float):
    data = [0.0, 5.0, -3.0, 8.0, 1.0]
    noise = [[0.1, -0.1, 0, 0.1, 0], [0, 0.1, 0.1, -0.1, 0], [-0.1, 0, 0, 0.1, 0.1]]
    made = [
        row(
            method,
            [
                d + e + far * (method == "grasp" and seed == 4)
                for seed, (d, e) in enumerate(zip(data, own, strict=True))
            ],
        )
        for method, own in zip(("grasp", "lora", "dora"), noise, strict=True)
    ]
    frame = frame_of((f"{run.label}/seed-{run.spec.seed}", run) for each in made for run in each)
    assert isinstance(frame, pd.DataFrame)
    assert list(own_data(frame, [run.run_id for run in made[0]]))[4] == (far > 0)


def test_rows_of_one_training_at_another_scale_do_not_count(tmp_path):
    def at(scale: float, label: str, seed: int, method: str):
        tuned = Tuning(trials=16, best=3, settings={}, scale=1.2)
        stages = {"prepare": f"split {seed}"}
        made = record(method, seed, [metric("recall", "tail", 0.1 * seed)], label=label, tuned=tuned, stages=stages)
        guidance = made.spec.guidance.model_copy(update={"settings": {"guidance_scale": scale}})
        spec = made.spec.model_copy(update={"guidance": guidance})
        return made.model_copy(update={"spec": spec, "run_id": spec.id})

    own = [at(1.2, method, seed, method) for method in ("grasp", "lora", "dora") for seed in range(5)]
    others = [at(2.0, f"{each.label}+cfg", each.spec.seed, each.spec.method.name) for each in own]
    save(tmp_path / "own", *own)
    save(tmp_path / "both", *own, *others)
    found = [measure(tmp_path / name)["data of its own"] for name in ("own", "both")]
    assert found[0] == found[1]
    assert (found[0].rows, found[0].comparisons) == (3, 15)

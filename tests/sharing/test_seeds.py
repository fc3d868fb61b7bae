"""What seeds differ by, where each of them draws data of its own and where all have the same."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from helpers.records import metric, record, save

from grasp_bench.contracts.record import RunRecord
from grasp_bench.results.sharing.seeds import seed_spread, seeds_beside, spread_beside

SEEDS, METHODS = 10, ("grasp", "lora", "dora", "oft", "loha", "oc", "cm", "ccua")
ERROR, DATA = 0.02, 0.3
"""Standard deviations of what two trainings on the same data differ by, and of what other data change."""


def rows(errors: Sequence[float], data: np.ndarray, own_data: bool = True) -> list[list[RunRecord]]:
    """Runs of methods whose errors have those deviations, on data that every seed draws or all seeds share."""
    stream = np.random.default_rng(0)
    return [
        [
            record(
                method,
                seed,
                [
                    metric("recall", "tail", 0.5 + data[seed] + error * stream.normal()),
                    metric("fd", "tail", float(np.exp(4 + data[seed] + error * stream.normal())), lower=True),
                ],
                stages={"prepare": f"data of {seed if own_data else 'all'}"},
            )
            for seed in range(SEEDS)
        ]
        for method, error in zip(METHODS, errors, strict=False)
    ]


@pytest.fixture
def data() -> np.ndarray:
    return DATA * np.random.default_rng(1).normal(size=SEEDS)


def paths(tmp_path, made: list[list[RunRecord]], seed: int = 3):
    for row in made:
        save(tmp_path, *row)
    return [tmp_path / row[0].task_label / row[0].label / f"seed-{seed}" / "record.json" for row in made]


def test_what_other_data_change_is_no_part_of_what_a_rerun_may_differ_by(tmp_path, data):
    made = rows([ERROR] * 8, data)
    found = spread_beside(paths(tmp_path, made)[0])
    assert found["spread"].to_numpy() == pytest.approx(ERROR, rel=0.4)
    assert found["log"].tolist() == [True, False] or found["log"].tolist() == [False, True]
    assert (found["freedom"] >= SEEDS - 2).all()
    assert seed_spread(made[:1])["spread"].min() > 5 * ERROR  # that of the seeds alone, data and all


def test_each_row_has_a_spread_of_its_own_and_two_rows_the_mean_of_their_variances(tmp_path, data):
    places = paths(tmp_path, rows([4 * ERROR, *[ERROR] * 7], data))
    noisy, quiet = (spread_beside(place)["spread"] for place in places[:2])
    assert noisy.to_numpy() == pytest.approx(4 * ERROR, rel=0.5)
    assert quiet.to_numpy() == pytest.approx(ERROR, rel=0.5)
    both = spread_beside(*places[:2])
    assert both["spread"].to_numpy() == pytest.approx(np.sqrt((noisy**2 + quiet**2) / 2).to_numpy())


def test_two_runs_on_other_data_differ_by_those_too(tmp_path, data):
    made = rows([ERROR] * 8, data)
    first, second = paths(tmp_path, made)[0], paths(tmp_path, made, seed=4)[1]
    pd.testing.assert_frame_equal(spread_beside(first, second), seed_spread(made[:2]))


def test_seeds_with_the_same_data_need_no_other_method(tmp_path):
    made = rows([ERROR], np.zeros(SEEDS), own_data=False)
    (place,) = paths(tmp_path, made)
    pd.testing.assert_frame_equal(spread_beside(place), seed_spread([seeds_beside(place)]))


def test_pairs_of_seeds_with_the_same_data_are_enough(tmp_path, data):
    """As where the order of classes is set and a seed draws one of five splits."""
    (row,) = rows([ERROR], np.tile(data[:5], 2))
    row = [each.model_copy(update={"stages": {"prepare": f"split {each.spec.seed % 5}"}}) for each in row]
    (place,) = paths(tmp_path, [row])
    found = spread_beside(place)
    assert found["freedom"].tolist() == [5, 5]
    assert found["spread"].to_numpy() == pytest.approx(ERROR, rel=0.6)


@pytest.mark.parametrize("methods", [1, 2])
def test_too_few_methods_do_not_show_what_data_change(tmp_path, data, methods):
    assert spread_beside(paths(tmp_path, rows([ERROR] * methods, data))[0]).empty


def test_rows_of_one_training_do_not_stand_in_for_other_methods(tmp_path, data):
    """Other guidances of the same weights share their errors, which would pass for what the data change."""
    (row,) = rows([ERROR], data)
    made = [[each.model_copy(update={"label": f"grasp+{number}"}) for each in row] for number in range(4)]
    for number, each in enumerate(made):
        each[:] = [
            run.model_copy(update={"spec": (spec := with_scale(run.spec, number)), "run_id": spec.id}) for run in each
        ]
    assert spread_beside(paths(tmp_path, made)[0]).empty


def with_scale(spec, scale: int):
    guidance = spec.guidance.model_copy(update={"settings": {"guidance_scale": scale}})
    return spec.model_copy(update={"guidance": guidance})

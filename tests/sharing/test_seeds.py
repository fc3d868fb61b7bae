"""What seeds differ by, where each of them draws data of its own and where all have the same."""

import shutil
from collections.abc import Sequence
from pathlib import Path

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


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        (".", "digits-lt/grasp/seed-3/record.json"),
        ("digits-lt", "grasp/seed-3/record.json"),
        ("digits-lt/grasp", "seed-3/record.json"),
        ("digits-lt/grasp/seed-3", "record.json"),
        ("digits-lt/lora", "../grasp/seed-3/record.json"),
    ],
)
def test_a_run_may_be_named_from_any_folder(tmp_path, data, monkeypatch, folder, named):
    (path, *_) = paths(tmp_path, rows([ERROR] * 3, data))
    expected = spread_beside(path)
    monkeypatch.chdir(tmp_path / folder)
    pd.testing.assert_frame_equal(spread_beside(Path(named)), expected)


def test_a_linked_folder_is_where_its_link_lies(tmp_path, data):
    (path, *_) = paths(tmp_path / "results", rows([ERROR] * 3, data))
    expected = spread_beside(path)
    (tmp_path / "results/digits-lt/grasp").rename(tmp_path / "elsewhere")
    (tmp_path / "results/digits-lt/grasp").symlink_to(tmp_path / "elsewhere")
    pd.testing.assert_frame_equal(spread_beside(path), expected)


@pytest.mark.parametrize("copy", ["grasp", "x/y"])
def test_a_copied_row_has_no_results_around_it(tmp_path, data, monkeypatch, copy):
    """What lies three folders above it would be searched for records otherwise, were it the whole disk."""
    (path, *_) = paths(tmp_path / "results", rows([ERROR] * 3, data))
    shutil.copytree(path.parents[1], tmp_path / copy)
    monkeypatch.setattr("grasp_bench.results.sharing.seeds.load_results", lambda folder: pytest.fail(f"read {folder}"))
    assert spread_beside(tmp_path / copy / "seed-3" / "record.json").empty


def test_the_results_around_one_of_two_copies_are_enough(tmp_path, data):
    (path, *_) = paths(tmp_path / "results", rows([ERROR] * 3, data))
    shutil.copytree(path.parents[1], tmp_path / "copy")
    found = spread_beside(tmp_path / "copy/seed-3/record.json", path)
    pd.testing.assert_frame_equal(found, spread_beside(path))


def test_runs_of_two_results_are_each_compared_with_their_own(tmp_path, data):
    made = rows([4 * ERROR, *[ERROR] * 7], data)
    first, second = paths(tmp_path / "a", [made[0], *made[2:5]])[0], paths(tmp_path / "b", [made[1], *made[5:]])[0]
    noisy, quiet = (spread_beside(each)["spread"] for each in (first, second))
    for pair in ((first, second), (second, first)):
        both = spread_beside(*pair)["spread"]
        assert both.to_numpy() == pytest.approx(np.sqrt((noisy**2 + quiet**2) / 2).to_numpy())


def versioned(row: list[RunRecord], shift: float = 0.0, label: str | None = None) -> list[RunRecord]:
    """The runs as another version of their method makes them, with scores that the change has shifted."""
    changed = []
    for each in row:
        method = each.spec.method.model_copy(update={"version": "0"})
        spec = each.spec.model_copy(update={"method": method})
        scores = [one.model_copy(update={"value": one.value + shift}) for one in each.scores]
        new = {"spec": spec, "run_id": spec.id, "scores": scores, "label": label or each.label}
        changed.append(each.model_copy(update=new))
    return changed


def test_what_another_version_of_the_method_changes_is_no_spread_of_seeds(tmp_path, data):
    made = rows([ERROR] * 8, data)
    made[0][5:] = versioned(made[0][5:], 30)
    found = spread_beside(paths(tmp_path, made)[0])
    assert found["spread"].to_numpy() == pytest.approx(ERROR, rel=0.5)


def test_two_versions_of_another_method_are_two_rows(tmp_path, data):
    made = rows([ERROR] * 3, data)
    shared = [made[0], [*made[1][:5], *versioned(made[1][5:], 30)], made[2]]
    apart = [made[0], made[1][:5], versioned(made[1][5:], 30, "lora of version 0"), made[2]]
    found = [spread_beside(paths(tmp_path / name, each)[0]) for name, each in (("a", shared), ("b", apart))]
    pd.testing.assert_frame_equal(*found)
    assert (found[0]["spread"] < 2 * ERROR).all()


def test_a_row_without_seeds_of_others_has_no_spread(tmp_path, data):
    """The others alone have a model, in which this row has no variance of its own."""
    made = rows([ERROR] * 5, data)
    assert spread_beside(paths(tmp_path, [made[0][:5], *(each[5:] for each in made[1:])])[0]).empty


def test_a_fault_of_the_model_is_not_taken_for_too_few_seeds(tmp_path, data, monkeypatch):
    def broken(values):
        raise ValueError("a fault")

    monkeypatch.setattr("grasp_bench.stats.blocks", broken)
    (path, *_) = paths(tmp_path, rows([ERROR] * 3, data))
    with pytest.raises(ValueError, match="a fault"):
        spread_beside(path)


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


def test_sums_over_data_are_in_the_order_of_the_seeds(tmp_path, monkeypatch):
    """In that of their hashes, which Python draws for each process, the last digits would differ between processes."""
    row = [record("grasp", seed, stages={"prepare": f"split {seed // 2}"}) for seed in range(10)]
    summed = []
    monkeypatch.setattr("grasp_bench.results.sharing.seeds.seed_spread", summed.extend)
    spread_beside(paths(tmp_path, [row])[0])
    assert [[each.spec.seed for each in group] for group in summed] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


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

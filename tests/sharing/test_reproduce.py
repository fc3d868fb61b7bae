import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import runs
from helpers.records import metric, record

from grasp_bench.baselines.lora import Lora
from grasp_bench.contracts.record import read_record
from grasp_bench.errors import UserError
from grasp_bench.results.sharing.reproduce import BEYOND, MARK, compare_with_record, recorded_plan, reproduce
from grasp_bench.results.sharing.runs import with_data
from grasp_bench.results.sharing.seeds import seed_spread
from grasp_bench.run.pipeline import STAGES
from grasp_bench.run.plan import plan

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, quick):
    """The record.json of a run of lora with settings of its own."""
    folder = tmp_path_factory.mktemp("finished")
    runs.finish(folder, runs.small("lora", method_settings=["rank=4"], guidance_settings=["guidance_scale=3"], seed=1))
    (path,) = (folder / "results").rglob("record.json")
    return path


def edited(finished: Path, to: Path, **changes) -> Path:
    """The record with other fields, as a file of its own."""
    to.write_text(json.dumps(json.loads(finished.read_text()) | changes))
    return to


@pytest.mark.slow
def test_a_run_comes_out_bit_for_bit(finished, tmp_path):
    before = finished.read_bytes()
    chosen, recorded = recorded_plan(finished)
    found = reproduce(finished, chosen, recorded, tmp_path / "results", tmp_path / "work", "cpu", runs.Listener())
    assert found.agrees
    assert set(found.scores["verdict"]) == {"equal"}
    assert found.streams_equal
    assert found.weights_equal
    assert found.path.is_relative_to(tmp_path)
    assert read_record(found.path).run_id == recorded.run_id
    assert finished.read_bytes() == before
    with pytest.raises(UserError, match="a finished run lies where the new one would go"):
        reproduce(finished, chosen, recorded, tmp_path / "results", tmp_path / "new", "cpu", runs.Listener())
    assert not (tmp_path / "new").exists()


def test_the_record_itself_is_never_overwritten(finished, tmp_path):
    chosen, recorded = recorded_plan(finished)
    results = finished.parents[3]
    for named in (finished, finished.parent):
        with pytest.raises(UserError, match="that record lies where the new one would go"):
            reproduce(named, chosen, recorded, results, tmp_path / "work", "cpu", runs.Listener())


def test_finished_work_is_not_taken_for_a_new_run(finished, tmp_path):
    chosen, recorded = recorded_plan(finished)
    with pytest.raises(UserError, match="other work lies there"):
        reproduce(finished, chosen, recorded, tmp_path, finished.parents[4] / "work", "cpu", runs.Listener())
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / MARK).write_text('{"run_id": "of another run"}')
    with pytest.raises(UserError, match="other work lies there"):
        reproduce(finished, chosen, recorded, tmp_path, tmp_path / "work", "cpu", runs.Listener())


@pytest.mark.slow
def test_an_interrupted_reproduction_goes_on(finished, tmp_path):
    chosen, recorded = recorded_plan(finished)

    def again():
        return reproduce(finished, chosen, recorded, tmp_path / "results", tmp_path / "work", "cpu", runs.Listener())

    with pytest.MonkeyPatch.context() as patch:
        runs.fail_at_step(patch, 10, runs.interrupt)
        with pytest.raises(KeyboardInterrupt):
            again()
    assert again().agrees


def test_a_fault_beside_the_record_is_told_before_the_work(finished, tmp_path, monkeypatch):
    chosen, recorded = recorded_plan(finished)
    folder = tmp_path / "row" / "seed-1"
    shutil.copytree(finished.parent, folder)
    (tmp_path / "row" / "seed-0").mkdir()
    (tmp_path / "row" / "seed-0" / "record.json").write_text("{}")
    monkeypatch.setattr("grasp_bench.results.sharing.reproduce.carry_out", lambda *_: pytest.fail("carried out"))
    with pytest.raises(UserError, match="not a record this version reads"):
        reproduce(folder, chosen, recorded, tmp_path / "new", tmp_path / "work", "cpu", runs.Listener())
    assert not (tmp_path / "work").exists()


def test_what_is_of_another_version_cannot_be_made_again(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Lora, "version", "99")
        with pytest.raises(UserError, match="method lora is of version 99 here"):
            recorded_plan(finished)
    with monkeypatch.context() as patch:
        patch.setattr("grasp_bench.tasks.digits_lt.DigitsLT.version", "99")
        with pytest.raises(UserError, match="task digits-lt is of version 99 here"):
            recorded_plan(finished)
    with monkeypatch.context() as patch:
        patch.setitem(STAGES, "score", replace(STAGES["score"], version=99))
        with pytest.raises(UserError, match="score is of version 99 here, the run was made with"):
            recorded_plan(finished)
    stages = json.loads(finished.read_text())["stages"] | {"score": "0" * 64}
    with pytest.raises(UserError, match="its stage score is not the one of this version"):
        recorded_plan(edited(finished, tmp_path / "record.json", stages=stages))


def test_a_plugin_that_is_not_here_is_named(finished, tmp_path):
    spec = json.loads(finished.read_text())["spec"]
    spec["method"]["name"] = "mine"
    changed = read_record(finished).spec.model_validate(spec)
    path = edited(finished, tmp_path / "record.json", spec=spec, run_id=changed.id)
    with pytest.raises(UserError, match="unknown method 'mine'"):
        recorded_plan(path)


def test_data_that_is_not_here_is_told_before_anything_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "nih-lt").mkdir()
    (tmp_path / "mimic-lt").mkdir()
    monkeypatch.setenv("GRASP_BENCH_DATA", str(tmp_path))
    chosen = plan(method="lora", task="nih-lt", backbone="tiny-sd3-32")
    rootless = type(chosen.task)(chosen.task.config)
    without = type(chosen)(**vars(chosen) | {"task": rootless})
    assert with_data(without, None).task.root == tmp_path / "nih-lt"
    monkeypatch.setenv("GRASP_BENCH_DATA", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="there is no such folder, but task nih-lt reads its data there"):
        with_data(without, None)
    assert with_data(chosen, None) is chosen


def test_scores_are_compared_with_other_seeds():
    def run(value: float | None, n: int = 30, seed: int = 0):
        found = metric("recall", "tail", 0.5).model_copy(update={"value": value, "n": n})
        return record("lora", seed, [found], streams="a")

    seeds = [run(0.5), run(0.52, seed=1), run(0.48, seed=2)]  # two differ by at most 4.30 √2 0.02 = 0.122

    def verdict(recorded, rerun, beside=tuple(seeds)):
        found = compare_with_record(recorded, rerun, Path("record.json"), seed_spread([beside or [recorded]]))
        (score,) = found.scores.itertuples()
        assert found.agrees == (score.verdict in ("equal", "within"))
        return score.verdict

    assert verdict(run(0.5), run(0.5)) == "equal"
    assert verdict(run(0.5), run(0.62)) == "within"
    assert verdict(run(0.5), run(0.63)) == "outside"
    assert verdict(run(0.5), run(None)) == "missing"
    assert verdict(run(0.5), run(0.5, n=29)) == "missing"
    assert verdict(run(None), run(None), ()) == "equal"
    assert verdict(run(0.5), run(0.5000001), seeds[:2]) == "unknown"
    assert not compare_with_record(run(0.5), record("lora", 0, [], streams="a"), Path(), seed_spread([seeds])).agrees


def test_few_scores_further_apart_than_seeds_are_no_disagreement():
    def run(seed: int, far: int = 0):
        values = [metric("recall", str(group), 0.5 + 0.02 * (seed - 1) + (group < far)) for group in range(40)]
        return record("lora", seed, values, streams="a")

    seeds = [run(seed) for seed in range(3)]
    allowed = int(BEYOND * 40)
    for far, agrees in ((0, True), (allowed, True), (allowed + 1, False)):
        assert compare_with_record(seeds[0], run(0, far), Path(), seed_spread([seeds])).agrees == agrees


def test_other_streams_disagree_and_other_weights_do_not():
    recorded = record("lora", 0, [metric("recall", "all", 0.5)], streams="a", weights="1")
    rerun = recorded.model_copy(update={"weights": "2"})
    spread = seed_spread([[recorded]])
    found = compare_with_record(recorded, rerun, Path(), spread)
    assert found.agrees
    assert not found.weights_equal
    assert not compare_with_record(recorded, recorded.model_copy(update={"streams": "b"}), Path(), spread).agrees

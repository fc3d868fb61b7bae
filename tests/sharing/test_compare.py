import io
import json

import pandas as pd
import pytest
from helpers.records import BUDGET, metric, record, save
from PIL import Image
from rich.console import Console

from grasp_bench.contracts.record import Interval, write_record
from grasp_bench.errors import UserError
from grasp_bench.export.restore import find_record, finished_record
from grasp_bench.results.sharing.compare import compare
from grasp_bench.results.sharing.picture import write_comparison
from grasp_bench.results.sharing.render import json_payload, rich_comparison
from grasp_bench.results.sharing.seeds import seed_spread, seeds_beside


def scored(method: str, value: float, seed: int = 0, *, low: float = 0.4, high: float = 0.6, **fields):
    """A run with a recall of ``value`` for the tail, which is at most what real images score."""
    found = metric("recall", "tail", value, floor=0.9)
    interval = Interval(low=low, high=high, unit="equal-count draw", units=20)
    return record(method, seed, [found.model_copy(update={"interval": interval})], **fields)


def printed(found) -> str:
    """What the terminal shows, in one line."""
    console = Console(width=100, file=io.StringIO())
    console.print(rich_comparison(found))
    return " ".join(console.file.getvalue().split())


def test_runs_under_equal_conditions_are_comparable():
    found = compare(scored("dora", 0.5, streams="a" * 64), scored("lora", 0.55, streams="a" * 64))
    assert found.comparable
    assert found.streams_equal
    assert found.fields == {
        "spec": [("method.name", "dora", "lora")],
        "environment": [],
        "protocol": [],
        "cost": [],
    }
    assert "Comparable: same task version, budget, backbone and rules." in printed(found)


def only_score(a, b):
    """The row of the only score of two runs."""
    (pair,) = compare(a, b).scores.itertuples()
    return pair


def test_a_difference_is_measured_by_those_between_seeds():
    seeds = [scored("grasp", value, seed) for seed, value in enumerate((0.5, 0.52, 0.48))]
    limit = 4.302653 * 0.02 * 2**0.5  # t of two degrees of freedom, standard deviation 0.02
    (pair,) = compare(seeds[0], scored("lora", 0.7), seed_spread([seeds, [scored("lora", 0.7)]])).scores.itertuples()
    assert (pair.better, pair.difference) == ("b", pytest.approx(0.2))
    assert pair.apart == pytest.approx(0.2 / limit)
    more = [scored("lora", value, seed) for seed, value in enumerate((0.7, 0.72, 0.68))]
    (pair,) = compare(seeds[0], more[0], seed_spread([seeds, more])).scores.itertuples()
    assert pair.apart == pytest.approx(0.2 / (2.776445 * 0.02 * 2**0.5))  # of both, with four degrees of freedom
    assert pd.isna(only_score(scored("grasp", 0.5), scored("lora", 0.7)).apart)


def test_distances_are_compared_on_the_log_scale():
    seeds = [record("grasp", seed, [metric("fd", "all", value, lower=True)]) for seed, value in enumerate((1, 2, 4))]
    other = record("lora", 0, [metric("fd", "all", 8.0, lower=True)])
    (pair,) = compare(seeds[0], other, seed_spread([seeds])).scores.itertuples()
    assert pair.apart == pytest.approx(3 / (4.302653 * 2**0.5))


def test_seeds_lie_beside_a_run(tmp_path):
    runs = [scored("grasp", 0.5, seed) for seed in range(3)] + [scored("lora", 0.5, 7)]
    for run in runs:
        save(tmp_path, run)
    found = seeds_beside(tmp_path / runs[1].task_label / runs[1].label / "seed-1" / "record.json")
    assert [each.spec.seed for each in found] == [0, 1, 2]


def test_a_record_elsewhere_is_alone_whatever_lies_beside_it(tmp_path):
    path = write_record(tmp_path / "mine", scored("grasp", 0.5, 1))
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "record.json").write_text("{}")
    (found,) = seeds_beside(path)
    assert found.spec.seed == 1


def test_lower_is_better_where_it_is():
    a, b = (record(name, 0, [metric("fd", "all", value, lower=True)]) for name, value in (("a", 3.0), ("b", 5.0)))
    pair = only_score(a, b)
    assert (pair.better, pair.difference) == ("a", 2.0)
    assert pd.isna(pair.apart)
    pair = only_score(a, a)
    assert pd.isna(pair.better)
    assert pair.difference == 0.0


def test_a_score_that_one_run_lacks_is_kept():
    found = compare(record("a", 0, [metric("fd", "all", 1.0), metric("fd", "tail", 1.0)]), record("b", 0, []))
    assert list(found.scores.index.get_level_values("group")) == ["all", "tail"]
    assert list(found.scores["value_a"]) == [1.0, 1.0]
    assert found.scores[["value_b", "n_b", "difference", "better"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (record("lora", 0, task_version="2"), "another task: version: 1 | 2"),
        (record("lora", 0, task="faces"), "another task: name: digits-lt | faces"),
        (record("lora", 0, status="oom", reason="big"), "run B is oom: it has no scores"),
    ],
)
def test_what_makes_runs_incomparable_is_said(other, reason):
    found = compare(record("grasp", 0, [metric("fd", "all", 1.0)]), other)
    assert reason in found.reasons
    shown = printed(found)
    assert "NOT comparable" in shown
    assert reason in shown


def test_another_budget_backbone_or_protocol_is_no_common_table():
    a = record("grasp", 0)
    spec = a.spec.model_copy(
        update={
            "budget": BUDGET.model_copy(update={"steps": 5}),
            "backbone": a.spec.backbone.model_copy(update={"version": "def"}),
        }
    )
    b = a.model_copy(update={"spec": spec, "run_id": spec.id, "protocol": {"rules": "2.0", "score": "4"}})
    assert compare(a, b).reasons == [
        "another backbone: version: abc | def",
        "another budget: steps: 600 | 5",
        "another version of the rules: 1.0 | 2.0",
        "another version of what decides scores: score: - | 4",
    ]
    patch = a.model_copy(update={"protocol": {"rules": "1.0.3"}})
    assert compare(a, patch).comparable


@pytest.mark.parametrize(
    ("streams", "seeds", "words"),
    [
        (("a", "a"), (0, 0), "equal: both saw"),
        (("a", "b"), (0, 1), "different, as they are for different seeds (0 | 1)"),
        (("a", "b"), (0, 0), "DIFFERENT at the same seed"),
        (("a", None), (0, 0), "not known"),
    ],
)
def test_streams_are_told_in_words(streams, seeds, words):
    a, b = (record(m, seed, streams=each) for m, each, seed in zip(("x", "y"), streams, seeds, strict=True))
    assert compare(a, b).streams.startswith(words)


def test_environment_and_cost_show_what_changed_only():
    a = scored("grasp", 0.5)
    environment = a.environment.model_copy(
        update={"device": "H200", "versions": {"torch": "2"}, "cpu_instructions": "AVX2"}
    )
    cost = a.cost.model_copy(update={"train_seconds": 1.0})
    found = compare(a, a.model_copy(update={"environment": environment, "cost": cost}))
    assert found.same_run
    assert set(found.fields["environment"]) == {
        ("device", "cpu", "H200"),
        ("versions.torch", None, "2"),
        ("cpu_instructions", None, "AVX2"),
    }
    assert [each.field for each in found.fields["cost"]] == ["train_seconds"]
    shown = printed(found)
    assert "specification: equal" in shown
    assert "They are two runs of one specification." in shown


def test_the_json_holds_every_score_and_no_record():
    payload = json.loads(json.dumps(json_payload(compare(scored("grasp", 0.5), scored("lora", 0.7)))))
    assert payload["a"]["label"] == "grasp"
    assert payload["comparable"] is True
    (pair,) = payload["scores"]
    assert pair["value_b"] == 0.7
    assert pair["apart"] is None


def test_names_are_shown_as_they_are():
    assert "A [bold]x[/bold] cfg" in printed(compare(record("[bold]x[/bold]", 0), record("lora", 0)))


def test_the_picture_shows_both(tmp_path):
    a, b = scored("gra$p", 0.5), scored("lora", 0.7)
    for folder, colour in (("a", "#ff0000"), ("b", "#00ff00")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 30), colour).save(tmp_path / folder / "samples.png")
    write_comparison(tmp_path / "both.png", compare(a, b), (tmp_path / "a", tmp_path / "b"), "grasp-bench compare")
    pixels = {colour for _, colour in Image.open(tmp_path / "both.png").convert("RGB").getcolors(1 << 20)}
    assert {(255, 0, 0), (0, 255, 0), (0, 0x72, 0xB2), (0xE6, 0x9F, 0)} <= pixels  # both grids, bars of either run
    once = (tmp_path / "both.png").read_bytes()
    write_comparison(tmp_path / "both.png", compare(a, b), (tmp_path / "a", tmp_path / "b"), "grasp-bench compare")
    assert (tmp_path / "both.png").read_bytes() == once


def test_a_picture_without_samples_or_scores_is_drawn_and_a_broken_one_named(tmp_path):
    found = compare(record("a", 0), record("b", 0))
    write_comparison(tmp_path / "both.png", found, (tmp_path, tmp_path), "grasp-bench compare")
    assert Image.open(tmp_path / "both.png").size[0] == 1400
    (tmp_path / "samples.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"samples\.png: cannot be read as a picture"):
        write_comparison(tmp_path / "both.png", found, (tmp_path, tmp_path), "grasp-bench compare")


def test_a_run_is_its_folder_or_its_record(tmp_path):
    save(tmp_path, record("grasp", 0), record("lora", 0, status="failed", reason="no space"))
    folder = tmp_path / "digits-lt/grasp/seed-0"
    assert find_record(folder) == find_record(folder / "record.json") == finished_record(folder)
    with pytest.raises(UserError, match="there is no such record"):
        find_record(tmp_path)
    assert find_record(tmp_path / "digits-lt/lora/seed-0")[1].status == "failed"
    with pytest.raises(UserError, match=r"this run is failed \('no space'\), so it has neither weights nor scores"):
        finished_record(tmp_path / "digits-lt/lora/seed-0")


def test_what_other_users_write_cannot_steer_the_terminal():
    hostile = record("\x1b]0;owned\x07", 0, [metric("\x1b[2Jfd", "\x1b[5mtail", 1.0)], task="x\x1b[31m")
    shown = printed(compare(hostile, record("lora", 0, [])))
    assert "\x1b" not in shown
    assert "\\u001b[2Jfd" in shown


def test_a_picture_made_to_fill_the_memory_is_one_message(tmp_path, monkeypatch):
    save(tmp_path, *(record(name, 0, []) for name in ("grasp", "lora")))
    folders = [tmp_path / "digits-lt" / name / "seed-0" for name in ("grasp", "lora")]
    Image.new("L", (64, 64)).save(folders[0] / "samples.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="cannot be read as a picture"):
        write_comparison(
            tmp_path / "c.png",
            compare(*(find_record(each)[1] for each in folders)),
            tuple(folders),
            "grasp-bench compare",
        )

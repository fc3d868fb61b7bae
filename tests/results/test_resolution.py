"""Tables and commands of runs on a backbone that has a choice of resolution."""

from __future__ import annotations

import shlex
from pathlib import Path

from helpers.records import boards, framed, metric, record, reported

from grasp_bench.contracts.record import RunRecord
from grasp_bench.contracts.spec import Component
from grasp_bench.results.missing import missing_text
from grasp_bench.results.options import Options
from grasp_bench.results.site.view import conditions, run_command
from grasp_bench.results.tables import sections


def at(resolution: int, method: str = "lora", seed: int = 0, **fields: object) -> RunRecord:
    """A run of the second track, at a resolution."""
    run = record(method, seed, [metric("recall", "tail", 0.5)], label=f"{method}@sd3.5-medium@{resolution}", **fields)
    backbone = Component(name="sd3", version="abcdef012345", settings={"resolution": resolution, "shift": 3.0})
    spec = run.spec.model_copy(update={"backbone": backbone})
    changes = {"spec": spec, "run_id": spec.id, "backbone_label": "sd3.5-medium", "default_backbone": False}
    return run.model_copy(update=changes)


def test_resolutions_are_tables_of_their_own_that_say_so():
    runs = [at(512), at(256), at(256, "grasp")]
    found = boards(runs)
    assert [(board.resolution, len(board.costs)) for board in found] == [("512", 1), ("256", 2)]
    headings = [section.heading for section in sections(reported(runs))]
    assert [heading.rpartition(" · ")[2] for heading in headings] == ["512×512 pixels", "256×256 pixels"]  # noqa: RUF001
    assert conditions(found[1]).endswith("sd3 at revision abcdef012345 · 256×256 pixels")  # noqa: RUF001


def test_a_backbone_without_a_choice_has_no_size_in_its_headings():
    (found,) = boards([record("lora", 0, [metric("recall", "tail", 0.5)])])
    assert (found.resolution, found.pixels) == ("", "")
    assert conditions(found).endswith("tiny-sd3 at revision abc")


def test_the_frame_names_the_backbone_with_its_resolution():
    found = framed([at(512)]).iloc[0]
    assert (found["backbone_label"], found["resolution"]) == ("sd3.5-medium", "512")
    assert found["settings"] == "backbone=sd3.5-medium@512"


def test_commands_ask_for_the_resolution():
    words = shlex.split(run_command(at(512)))
    assert words[words.index("--backbone") :] == ["--backbone", "sd3.5-medium", "--resolution", "512"]
    lines = missing_text(framed([at(512), at(512, "grasp", 1)]), Options(), Path("results")).splitlines()
    assert lines[0] == "# 2 of 4 runs are missing"
    assert all("--backbone sd3.5-medium --resolution 512" in line for line in lines[1:])


def test_the_tasks_own_backbone_is_not_asked_for():
    assert "--resolution" not in run_command(at(512).model_copy(update={"default_backbone": True}))

"""Entries of one name that are evaluated at once: the first is published, and the other is told."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

from helpers import records
from helpers.runs import Listener

from grasp_bench.contracts.entry import Entry
from grasp_bench.contracts.record import read_record
from grasp_bench.errors import UserError
from grasp_bench.run.entry.plan import plan_entry
from grasp_bench.run.pipeline import Outcome
from grasp_bench.run.runner import RecordWriter, check_free

context = multiprocessing.get_context("fork")
SAME, OTHERS = ("a" * 64, "a" * 64), ("a" * 64, "b" * 64)


def publish(results: Path, images: str, begun: Barrier, ends: multiprocessing.Queue) -> None:
    """Publish the record of images once both processes have found the name free, as `evaluate` does."""
    plan = plan_entry(Entry("mine", {"images": images}), "digits-lt", budget="smoke")
    check_free(plan, results)
    begun.wait(60)
    kept = results.parent / f"{images[0]}.csv"
    kept.write_text(images)
    writer = RecordWriter(plan, results / plan.folder, records.record("lora").environment, Listener(), "2026-01-01")
    try:
        writer.keep(Outcome({"scores": []}, [kept], {}))
    except UserError as error:
        ends.put((images, str(error)))
    else:
        ends.put((images, ""))


def at_once(results: Path, images: tuple[str, str]) -> list[tuple[str, str]]:
    begun, ends = context.Barrier(2), context.Queue()
    processes = [context.Process(target=publish, args=(results, each, begun, ends)) for each in images]
    for process in processes:
        process.start()
    found = [ends.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    return sorted(found, key=lambda each: each[1])


def test_other_images_of_the_same_name_do_not_overwrite_the_record(tmp_path: Path) -> None:
    (first, nothing), (_, told) = at_once(tmp_path / "results", OTHERS)
    assert nothing == ""
    assert "is the record of other images of the name mine. Choose another --name" in told
    (path,) = (tmp_path / "results").rglob("record.json")
    assert read_record(path).spec.method.settings == {"images": first}
    assert sorted(each.name for each in path.parent.iterdir()) == [f"{first[0]}.csv", "record.json"]


def test_the_same_images_are_published_by_both(tmp_path: Path) -> None:
    assert [told for _, told in at_once(tmp_path / "results", SAME)] == ["", ""]
    (path,) = (tmp_path / "results").rglob("record.json")
    assert read_record(path).status == "finished"

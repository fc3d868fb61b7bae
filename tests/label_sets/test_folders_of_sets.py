"""Images of several labels: sets from a file, prompts, counts, groups, classes by rule, and label sets to generate."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.task import Dataset, Split
from grasp_bench.data.label_sets import class_of, drawn_rows, in_words
from grasp_bench.errors import UserError
from grasp_bench.tasks.folder import FolderTask
from grasp_bench.testing import run_checks, task_checks

from .shapes import NAMES, write_shapes

SHAPE = (3, 16, 16)


def opened(path: Path, *settings: str) -> tuple[FolderTask, Dataset]:
    _, task = FolderTask.from_file(path, settings)
    task.prepare(path.parent / "work", Progress())
    return task, task.open(path.parent / "work", SHAPE)


@pytest.mark.parametrize("form", ["list", "columns"])
def test_counts_groups_and_prompts_are_those_of_labels(tmp_path: Path, form: str) -> None:
    task, data = opened(write_shapes(tmp_path, form))
    assert [(info.name, info.train_count, info.group) for info in task.classes()] == [
        *(("bar", 18, "head"), ("dot_big", 9, "medium"), ("ring", 6, "tail"))
    ]
    found = Counter(
        (tuple(name for name, has in zip(NAMES, row, strict=True) if has), NAMES[label], prompt)
        for split in (data.train, data.validation, data.test)
        for row, label, prompt in zip(split.truth, split.labels, split.prompts, strict=True)
    )
    assert found == {
        (("bar",), "bar", "a photo of bar"): 30,
        (("bar", "dot_big"), "dot_big", "a photo of bar and dot big"): 15,
        (("dot_big",), "dot_big", "a photo of dot big"): 9,
        (("bar", "ring"), "ring", "a photo of bar and ring"): 6,
        (("dot_big", "ring"), "ring", "a photo of dot big and ring"): 6,
    }


def test_both_forms_of_a_file_give_one_task(tmp_path: Path) -> None:
    (first, one), (second, other) = (opened(write_shapes(tmp_path / form, form)) for form in ("list", "columns"))
    assert first.classes() == second.classes()
    assert np.array_equal(one.train.truth, other.train.truth)
    assert first.train_images() == len(one.train) < one.train.truth.sum()


@pytest.mark.parametrize(("rule", "expected"), [("rarest", "c"), ("commonest", "b"), ("drawn", None)])
def test_the_class_of_a_set(rule: str, expected: str | None) -> None:
    counts = {"a": 9, "b": 9, "c": 9, "d": 8}
    found = {class_of(("c", "b"), counts, rule, str(number)) for number in range(50)}
    assert found == ({expected} if expected else {"b", "c"})
    assert class_of(("b", "d"), counts, "rarest", "x") == "d"


def test_the_rule_is_a_setting_and_keeps_the_sets(tmp_path: Path) -> None:
    path = write_shapes(tmp_path)
    rarest, commonest = opened(path), opened(path, "class_of=commonest")
    assert rarest[0].identity() != commonest[0].identity()
    assert np.array_equal(rarest[1].train.truth, commonest[1].train.truth)
    assert not np.array_equal(rarest[1].train.labels, commonest[1].train.labels)


def test_sets_in_focus_are_as_frequent_as_among_images_of_the_label_and_natural_ones_as_in_all(tmp_path: Path) -> None:
    _, data = opened(write_shapes(tmp_path))
    train, each = data.train, 3000
    rows = drawn_rows(train, 3, each, "focus", "shapes", 0).reshape(3, each)
    for index in range(3):
        own = train.truth[rows[index]]
        assert own[:, index].all()
        assert own.mean(axis=0) == pytest.approx(train.truth[train.truth[:, index]].mean(axis=0), abs=0.04)
    natural = drawn_rows(train, 3, each, "natural", "shapes", 0)
    assert train.truth[natural].mean(axis=0) == pytest.approx(train.truth.mean(axis=0), abs=0.02)
    assert np.array_equal(rows.ravel(), drawn_rows(train, 3, each, "focus", "shapes", 0))
    assert not np.array_equal(rows.ravel(), drawn_rows(train, 3, each, "focus", "shapes", 1))


def test_a_drawn_split_gives_every_label_an_image_to_train_on(tmp_path: Path) -> None:
    path = write_shapes(tmp_path)
    path.write_text(path.read_text().replace('split_column = "split"\n', 'patient_column = "patient"\n'))
    for seed in range(5):
        task = FolderTask.from_file(path, [f"split_seed={seed}", "test_share=0.6", "validation_share=0.3"])[1]
        assert min(task.counts().values()) > 0


def test_words() -> None:
    assert [in_words(each) for each in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("edit", "settings", "message"),
    [
        (("bar | ring", "bar | "), [], r"labels.csv, line 56: 'bar \|' has an empty label or one twice"),
        (("bar | ring", "bar | bar"), [], "has an empty label or one twice"),
        (("bar | ring", "|"), ["no_label=none"], "has an empty label or one twice"),
        (None, ["label_separator="], "label_separator"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, edit: tuple[str, str] | None, settings: list[str], message: str) -> None:
    path = write_shapes(tmp_path)
    if edit:
        file = tmp_path / "labels.csv"
        file.write_text(file.read_text().replace(*edit))
    with pytest.raises(UserError, match=message):
        FolderTask.from_file(path, settings)[1].classes()


def test_columns_hold_0_and_1_and_who_has_none_has_the_class_of_such(tmp_path: Path) -> None:
    path, file = write_shapes(tmp_path, "columns"), tmp_path / "labels.csv"
    text = file.read_text()
    file.write_text(text.replace("000.png,1,0,0", "000.png,1.0,0,0"))
    with pytest.raises(UserError, match=r"line 2: bar is '1.0', expected 0 or 1"):
        FolderTask.from_file(path, [])[1].classes()
    file.write_text(text.replace("000.png,1,0,0", "000.png,0,0,0"))
    with pytest.raises(UserError, match=r"line 2: 000.png has no label"):
        FolderTask.from_file(path, [])[1].classes()
    task = FolderTask.from_file(path, ["no_label=nothing"])[1]
    assert task.counts() == {"bar": 17, "dot_big": 9, "ring": 6, "nothing": 1}
    path.write_text(path.read_text().replace("'ring'", "'rung'"))
    with pytest.raises(UserError, match="has no column 'rung' of label_columns"):
        FolderTask.from_file(path, [])[1].classes()


def test_what_is_of_label_sets_alone_is_refused_elsewhere(tmp_path: Path) -> None:
    path = write_shapes(tmp_path)
    path.write_text(path.read_text().replace('label_separator = "|"', 'class_of = "drawn"'))
    with pytest.raises(UserError, match="class_of: only where label_separator or label_columns"):
        FolderTask.from_file(path, [])
    path.write_text(path.read_text().replace('class_of = "drawn"', 'label_separator = "|"\nlabel_columns = ["bar"]'))
    with pytest.raises(UserError, match="label_separator and label_columns are two forms of the same"):
        FolderTask.from_file(path, [])
    path.write_text('label_separator = "|"\n')
    with pytest.raises(UserError, match="several labels per image stand in a file"):
        FolderTask.from_file(path, [])


def test_the_contract_is_kept(tmp_path: Path) -> None:
    checks = [each for each in task_checks(str(write_shapes(tmp_path))) if each.name not in ("import", "smoke-run")]
    assert {each.status for each in run_checks(checks).outcomes} == {"passed"}


def test_a_class_beside_its_labels_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, split = write_shapes(tmp_path), FolderTask._split

    def wrong(self: FolderTask, *arguments: object) -> Split:
        found = split(self, *arguments)
        return replace(found, sets=~found.truth)

    monkeypatch.setattr(FolderTask, "_split", wrong)
    check = next(each for each in task_checks(str(path)) if each.name == "labels")
    with pytest.raises(AssertionError, match="has a class that is not among its labels"):
        check()

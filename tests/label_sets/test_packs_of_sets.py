"""Packs of runs on images of several labels: scores follow from them, and what does not fit is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import packing
from helpers.packing import forged, members, named, run_folder, with_manifest
from safetensors.numpy import load, save

from grasp_bench import api
from grasp_bench.results.sharing.collect import submit
from grasp_bench.results.sharing.verify import verify

from .shapes import write_shapes

pytestmark = pytest.mark.slow
SETS = "stages/label-sets-"


@pytest.fixture(scope="module", params=["focus", "natural"])
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp(request.param)
    toml = write_shapes(folder, lines=f'label_sets = "{request.param}"\n')
    told = {"budget": "smoke", "device": "cpu", "quiet": True}
    with packing.quick():
        api.run("lora", str(toml), results=folder / "results", work_dir=folder / "work", **told)
        submit([run_folder(folder)], folder / "pack.zip", folder / "work", task=toml)
        yield folder / "pack.zip"


def checks(pack: Path, toml: Path) -> tuple[list[str], list[str]]:
    """What passed, and what failed with the reason."""
    found = verify(pack, task=toml).checks
    failed = [f"{each.what}: {each.detail}" for each in found if each.outcome == "failed"]
    return [each.what for each in found if each.outcome == "passed"], failed


def test_scores_follow_from_the_labels_in_a_pack(pack: Path) -> None:
    passed, failed = checks(pack, pack.parent / "shapes.toml")
    assert failed == []
    assert any("scores follow from the features" in each for each in passed)
    assert any(each.endswith("images of every class" + " on average" * (pack.parent.name[0] == "n")) for each in passed)


def test_other_labels_of_an_image_do_not_give_the_scores(pack: Path, tmp_path: Path) -> None:
    name = named(pack, SETS)
    sets = load(members(pack)[name])
    sets["real"] = np.ones_like(sets["real"])
    _, failed = checks(forged(pack, tmp_path / "p.zip", {name: save(sets)}), pack.parent / "shapes.toml")
    assert any("scores follow from the features: " in each and "the features give" in each for each in failed)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda sets: sets | {"train": sets["train"][1:]}, "train does not say which labels each of its"),
        (lambda sets: sets | {"fake": sets["fake"].astype(np.int64)}, "fake does not say which labels"),
        (lambda sets: {name: each for name, each in sets.items() if name != "real"}, "real does not say which labels"),
        (lambda sets: sets | {"real": np.zeros_like(sets["real"])}, "real has images without the label"),
    ],
)
def test_labels_that_do_not_fit_the_images_are_named(pack: Path, tmp_path: Path, change, fault: str) -> None:
    name = named(pack, SETS)
    content = save(change(load(members(pack)[name])))
    _, failed = checks(forged(pack, tmp_path / "p.zip", {name: content}), pack.parent / "shapes.toml")
    assert len(failed) == 1
    assert fault in failed[0]


def test_test_images_of_one_label_each_do_not_fit(pack: Path, tmp_path: Path) -> None:
    name = named(pack, "stages/tests-")
    tests = load(members(pack)[name])
    content = save(tests | {"test": tests["test"].argmax(axis=1)})
    _, failed = checks(forged(pack, tmp_path / "p.zip", {name: content}), pack.parent / "shapes.toml")
    assert any("test does not say which labels each image has" in each for each in failed)


def test_another_way_of_drawing_sets_is_not_that_of_the_task(pack: Path, tmp_path: Path) -> None:
    def change(manifest: dict) -> None:
        (run,) = manifest["runs"]
        run["label_sets"] = "natural" if run["label_sets"] == "focus" else "focus"

    _, failed = checks(with_manifest(pack, tmp_path / "p.zip", change), pack.parent / "shapes.toml")
    assert any("how label sets are drawn is not the task's" in each for each in failed)

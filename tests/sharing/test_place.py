import zipfile

import pytest
from helpers.packing import run_folder

from grasp_bench.contracts.record import read_record
from grasp_bench.errors import UserError
from grasp_bench.results.sharing.archive import write_archive
from grasp_bench.results.sharing.place import LONGEST_NAME, default_path, replaces_a_pack


@pytest.fixture
def called(pack):
    """What makes a record of a label, task and seed."""
    record = read_record(run_folder(pack.parent) / "record.json")

    def make(label="lora", task="digits-lt", seed=0):
        part = record.spec.task.model_copy(update={"name": task})
        return record.model_copy(
            update={"label": label, "spec": record.spec.model_copy(update={"task": part, "seed": seed})}
        )

    return make


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("grasp", "grasp-seed-3.zip"),
        ("lora@sd3-1a2b3c4d+cfg++~rank=2,alpha=0.5", "lora@sd3-1a2b3c4d+cfg++~rank=2,alpha=0.5-seed-3.zip"),
        ("../../lora", "lora-seed-3.zip"),
        ('lora~file=C:\\a b/c*?<>|"\n', "lora~file=C-a-b-c--seed-3.zip"),
    ],
)
def test_a_run_is_called_by_its_label_and_seed(label, name, called):
    assert str(default_path([called(label, seed=3)])) == name


def test_a_long_label_is_cut_and_the_seed_stays(called):
    path = default_path([called("lora~" + "rank=2," * 100, seed=12)])
    assert len(path.stem) == LONGEST_NAME
    assert path.name.endswith("-seed-12.zip")


def test_several_runs_are_called_by_their_task_or_as_results(called):
    assert str(default_path([called(), called(seed=1)])) == "digits-lt.zip"
    assert str(default_path([called(), called(task="cifar10-lt")])) == "results.zip"


def test_a_pack_may_be_replaced_and_nothing_is_nothing(pack, tmp_path):
    assert replaces_a_pack(pack)
    assert not replaces_a_pack(tmp_path / "new.zip")


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thesis.tex", "all of it")


PLACED = {
    "a text": lambda path: path.write_text("my only copy"),
    "an empty file": lambda path: path.touch(),
    "a folder": lambda path: path.mkdir(),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "another archive": other_zip,
    "another manifest": lambda path: write_archive(path, {"manifest.json": b"{}"}),
}


@pytest.mark.parametrize("what", PLACED)
def test_what_is_no_pack_is_refused(what, tmp_path):
    path = tmp_path / "pack.zip"
    PLACED[what](path)
    with pytest.raises(UserError, match=r"pack\.zip: exists, and is not a pack .* another file with --out"):
        replaces_a_pack(path)

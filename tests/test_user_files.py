"""Parsers of a user's files: whatever the bytes, there is a result or one :class:`UserError`, and nothing else."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers import hostile
from helpers.records import metric, record
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some
from safetensors.numpy import save as tensors

from grasp_bench import cli, plugins
from grasp_bench.cli.score_input import Source, classes_of
from grasp_bench.contracts.entry import Facts, read_facts
from grasp_bench.contracts.record import read_record, record_bytes
from grasp_bench.contracts.settings import parse_settings
from grasp_bench.contracts.spec import Budget
from grasp_bench.data.features import FeatureSet, read_features
from grasp_bench.data.images import read_image_set
from grasp_bench.data.labels import align, read_labels
from grasp_bench.data.root import VARIABLE, config_path, data_root, remember
from grasp_bench.errors import UserError
from grasp_bench.results.sharing.archive import open_archive
from grasp_bench.results.sharing.manifest import MANIFEST, Manifest, Member, PackedRun
from grasp_bench.results.sharing.verify import read_manifest
from grasp_bench.run.plan import plan
from grasp_bench.sweep.cells import read_choices
from grasp_bench.sweep.config import Execution, SweepConfig
from grasp_bench.tasks.folder import FolderTask
from grasp_bench.tasks.folder_settings import FolderBudget, FolderSettings
from grasp_bench.tuning.trials import read_tuning

often = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
LABELS = b"id,label,split\nx/a.png,x,train\ny/b.png,y,test\n"
TASK = b'images = "images"\nprompt = "a {class}"\n[budget]\nsteps = 10\n'
SWEEP = b'methods = ["lora", "grasp"]\ntasks = ["digits-lt"]\nseeds = [0, 1]\n[set.lora]\nrank = [4, 8]\n'
RECORD = json.loads(record_bytes(record("lora", 0, [metric("fd", "tail", 3.5, lower=True, floor=1.0)])))
MEMBER = Member(sha256="0" * 64, bytes=3)
PACKED = PackedRun(
    run_id="0" * 64,
    private=False,
    classes=[{"name": "x", "prompt": "x", "group": "tail", "train_count": 3}],
    extractors=["pixels"],
    files={"record.json": "runs/000000000000/record.json"},
    inputs={},
)
PACK = Manifest(grasp_bench="1", rules="1.0", runs=[PACKED], members={"runs/000000000000/record.json": MEMBER})


def keys(*models: type) -> list[str]:
    return [name for model in models for name in model.model_fields]


def refused_or_read(read: Callable[[], object]) -> None:
    """Call what reads, and let it refuse in a message of some length; any other exception fails the test.

    An OSError that names its file is one, since the command line makes a message of it.
    """
    message = "read"
    try:
        read()
    except UserError as error:
        message = str(error)
    except OSError as error:
        message = error.filename or ""
    assert 0 < len(message) < 30_000


def parses(path: Path, content: bytes, parse: Callable[[Path], object]) -> None:
    """Give a parser a file, and let it refuse that in words that can be printed; any other exception fails the test."""
    path.write_bytes(content)
    refused_or_read(lambda: parse(path))


@often
@given(content=some.binary(max_size=80) | hostile.spliced(LABELS))
@example(content=b'id,label\n"' + b"x" * 200_000 + b'",y\n')
@example(content=b"id,label\na\0b,x\n")
def test_labels(content: bytes, tmp_path: Path) -> None:
    def parse(path: Path) -> None:
        align(read_labels(path), ["x/a.png", "y/b.png"], path, tmp_path)

    parses(tmp_path / "labels.csv", content, parse)


TASK_KEYS = [*keys(FolderSettings), *(f"budget.{name}" for name in keys(FolderBudget)), "groups.x", "odd"]


@often
@given(content=some.binary(max_size=80) | hostile.spliced(TASK) | hostile.toml(TASK_KEYS))
@example(content=b'images = "' + b"n" * 300 + b'"')
@example(content=rb'images = "a\u0000b"')
@example(content=b'images = "loop"')
@example(content=rb'labels = "a\u0000b"')
def test_the_file_of_a_task(content: bytes, tmp_path: Path) -> None:
    if not (tmp_path / "images").exists():
        (tmp_path / "images" / "x").mkdir(parents=True)
        (tmp_path / "images" / "x" / "a.png").write_bytes(b"not looked into")
        (tmp_path / "loop").symlink_to("loop")

    def parse(path: Path) -> None:
        _, task = FolderTask.from_file(path, ())
        with suppress(UserError):
            task.counts()

    parses(tmp_path / "mine.toml", content, parse)


def zipped(member: bytes, name: str = "images.npy") -> bytes:
    """Bytes of an .npz with one array."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(name, member)
    return content.getvalue()


def array(header: bytes) -> bytes:
    """Bytes of an .npy with a header and nothing behind it."""
    return b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"


def saved(**arrays: np.ndarray) -> bytes:
    """Bytes of an .npz."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


PICTURES, NAMES = np.zeros((2, 4, 4), np.uint8), np.array(["a", "b"])
SHAPED = "{'descr': '|u1', 'fortran_order': False, 'shape': (%s, 4, 4), }"
HEADERS = (b"(" * 300, b"{", b"'''", *((SHAPED % number).encode() for number in (-2, 10**12, 10**40)))
ARRAY = saved(images=PICTURES, labels=NAMES, ids=NAMES)
ENCRYPTED = ARRAY.replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\1").replace(
    b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1"
)
HEADER = some.sampled_from(HEADERS) | hostile.spliced((SHAPED % 2).encode())


@often
@given(content=some.binary(max_size=80) | hostile.spliced(ARRAY) | HEADER.map(array).map(zipped))
@example(content=zipped(b"no array"))
@example(content=ENCRYPTED)
@example(content=saved(images=PICTURES, labels=np.array(["a\0b", "c"])))
@example(content=saved(images=PICTURES, ids=np.array(["a\udcff", "c"])))
def test_images_in_one_file(content: bytes, tmp_path: Path) -> None:
    def parse(path: Path) -> None:
        found = read_image_set(path)
        json.dumps([found.ids, found.labels], ensure_ascii=False).encode()

    parses(tmp_path / "images.npz", content, parse)


TENSORS = tensors({"features": np.zeros((2, 3))}, {"classes": '["a"]', "ids": '["x", "y"]', "extractor": "{}"})
NARROW = TENSORS.replace(b'"F64"', b'"F8_E4M3"').replace(b"[0,48]", b"[0,6]")
METADATA = some.dictionaries(
    some.sampled_from(["classes", "ids", "extractor"]), hostile.JSON.map(json.dumps) | hostile.WORDS.filter(str.isascii)
)


@often
@given(
    content=some.binary(max_size=80)
    | hostile.spliced(TENSORS)
    | METADATA.map(lambda found: tensors({"features": np.zeros((2, 3)), "labels": np.array([0, 1])}, found))
)
@example(content=NARROW)
@example(content=tensors({"features": np.zeros((2, 3))}, {"ids": "[1, {}]"}))
@example(content=tensors({"features": np.zeros((2, 3))}, {"ids": r'["a\u0000", "\ud800"]'}))
@example(content=tensors({"features": np.zeros((2, 3))}, {"extractor": "[1]"}))
def test_features_in_one_file(content: bytes, tmp_path: Path) -> None:
    def parse(path: Path) -> None:
        found = read_features(path)
        assert {type(each) for each in (*(found.ids or ()), *(found.labels or ()))} <= {str}
        assert found.extractor is None or set(map(type, found.extractor.values())) <= {str}
        json.dumps([found.ids, found.labels, found.extractor], ensure_ascii=False).encode()

    parses(tmp_path / "x.safetensors", content, parse)


DECLARED = b'trainer = "diffusers"\nnfe = 28.0\nimages_seen = 1000\nnotes = "x"\n'


@often
@given(content=some.binary(max_size=80) | hostile.spliced(DECLARED) | hostile.toml([*keys(Facts), "odd"]))
@example(content=b"trainable_parameters = " + hostile.DIGITS.encode())
def test_the_file_of_what_is_declared(content: bytes, tmp_path: Path) -> None:
    parses(tmp_path / "facts.toml", content, read_facts)


def test_a_declared_number_is_one_that_tables_can_add_up(tmp_path: Path) -> None:
    (tmp_path / "facts.toml").write_text("nfe = 1e308")
    with pytest.raises(UserError, match=r"nfe=1e\+308"):
        read_facts(tmp_path / "facts.toml")


@often
@given(content=some.binary(max_size=80) | hostile.spliced(b"class,group\nx,head\ny,tail\n"))
@example(content=b'class,group\n"' + b"x" * 200_000 + b'",y\n')
@example(content=b"class,group\nx,all\ny,\n")
def test_the_groups_of_a_score(content: bytes, tmp_path: Path) -> None:
    held = FeatureSet(np.zeros((2, 1)), ["x", "y"], None, None)
    source = Source("REAL", tmp_path, ["a", "b"], ["x", "y"], {}, held)
    parses(tmp_path / "groups.csv", content, lambda path: classes_of([source, source], path, (None, None), False))


SWEEP_KEYS = [*keys(SweepConfig), "set.lora", "task_set.digits-lt", *(f"options.{name}" for name in keys(Execution))]
START = SWEEP[: SWEEP.index(b"[set")]


@often
@given(content=some.binary(max_size=80) | hostile.spliced(SWEEP) | hostile.toml(SWEEP_KEYS).map(START.__add__))
@example(content=b"a = " + b"[" * 100_000)
@example(content=b"\xef\xbb\xbf" + SWEEP)
@example(content=SWEEP + b"".join(b"x%d = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n" % number for number in range(30)))
def test_the_file_of_a_sweep(content: bytes, tmp_path: Path) -> None:
    parses(tmp_path / "sweep.toml", content, read_choices)


@often
@given(content=some.binary(max_size=80) | hostile.toml([*keys(Budget), "base", "odd"]))
@example(content=b"steps = " + hostile.DIGITS.encode())
def test_the_file_of_a_budget(content: bytes, tmp_path: Path) -> None:
    def parse(path: Path) -> None:
        plan(method="lora", task="digits-lt", budget=str(path))

    parses(tmp_path / "mine.toml", content, parse)


CONFIG = b'other = 1\n[data]\n"mimic-lt" = "/nowhere"\n"nih-lt" = "."\n'
CONFIG_KEYS = ["data", 'data."mimic-lt"', "data.nih-lt", "data.nih-lt.x", "other", "more.data", '""']


@often
@given(content=some.binary(max_size=80) | hostile.spliced(CONFIG) | hostile.toml(CONFIG_KEYS))
@example(content=b"[data]\nmimic-lt = " + b"[" * 100_000)
@example(content=b"more = " + b"[" * 400 + b"]" * 400)
@example(content=b"more = " + b"{a = " * 200 + b"1" + b"}" * 200)
@example(content=rb'[data]\n"mimic-lt" = "a\u0000b"'.replace(rb"\n", b"\n"))
@example(content=b'[data]\n"mimic-lt" = "' + b"n" * 5000 + b'"\n')
@example(content=b'[data]\n"mimic-lt" = "loop"\n')
@example(content=b"more = " + hostile.DIGITS.encode())
@example(content=b"more = 0x" + b"f" * 5000)
def test_the_configuration_of_a_user(content: bytes, tmp_path: Path) -> None:
    """What is remembered is read, and another folder is remembered beside it, or one message says why not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        patch.delenv(VARIABLE, raising=False)
        patch.chdir(tmp_path)
        if not (tmp_path / "loop").is_symlink():
            (tmp_path / "loop").symlink_to("loop")
        path = config_path()
        path.parent.mkdir(exist_ok=True)
        parses(path, content, lambda _: data_root("mimic-lt", None))
        parses(path, content, lambda _: data_root("nih-lt", None))
        parses(path, content, lambda _: remember("cxr-lt", tmp_path))
        if path.read_bytes() != content:  # it was written
            assert data_root("cxr-lt", None) == tmp_path.resolve()


@pytest.mark.parametrize(
    "content", [b"\xff", b"[data", b"data = 4", b'[data]\n"mimic-lt" = "a\\u0000b"', b"[" * 100_000]
)
def test_a_wrong_configuration_is_one_message_and_exit_2(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    config_path().parent.mkdir()
    config_path().write_bytes(content)
    monkeypatch.setattr("sys.argv", ["grasp-bench", "prepare", "--task", "mimic-lt"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert err.startswith("error: ")
    assert "config.toml" in err
    assert "Traceback" not in err


CONFIGS = [
    (kind, name, plugin.Config)
    for kind in ("methods", "guidance", "tasks")
    for name, plugin in plugins.available(kind).items()
]


@often
@given(some.data())
def test_settings_on_the_command_line(data) -> None:
    kind, name, config = data.draw(some.sampled_from(CONFIGS))
    names = some.sampled_from([*config.model_fields, "odd"]) | some.text(max_size=5)
    assignments = data.draw(some.lists(some.builds("{}={}".format, names, hostile.WORDS) | hostile.WORDS, max_size=3))

    def parse() -> None:
        found = parse_settings(config, assignments, f"{plugins.SINGULAR[kind]} {name}", {})
        json.dumps(found.model_dump(mode="json"), allow_nan=False)

    refused_or_read(parse)


@often
@given(content=some.binary(max_size=80) | hostile.changed(json.loads(PACK.model_dump_json())))
@example(content=b'{"runs": ' + b"[" * 100_000)
@example(content=PACK.model_dump_json().replace('"train_count":3', f'"train_count":{hostile.DIGITS[:400]}').encode())
def test_the_manifest_of_a_pack(content: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as pack:
        pack.writestr(MANIFEST, content)

    def parse() -> None:
        with open_archive(tmp_path / "pack.zip") as archive:
            read_manifest(archive)

    refused_or_read(parse)


@often
@given(data=some.data())
def test_a_pack(data, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as pack:
        pack.writestr(MANIFEST, PACK.model_dump_json())
    content = data.draw(some.binary(max_size=80) | hostile.spliced((tmp_path / "pack.zip").read_bytes()))

    def parse(path: Path) -> None:
        with open_archive(path) as archive:
            read_manifest(archive)

    parses(tmp_path / "odd.zip", content, parse)


@pytest.mark.parametrize(("before", "behind"), [(b"#!/bin/sh\n", b""), (b"PK", b""), (b"", b"behind")])
def test_bytes_before_or_behind_a_pack_are_refused(before: bytes, behind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w") as pack:
        pack.writestr(MANIFEST, PACK.model_dump_json())
        pack.comment = behind
    path.write_bytes(before + path.read_bytes())
    with pytest.raises(UserError, match="refused: it holds bytes before or behind"), open_archive(path):
        pass


@often
@given(content=some.binary(max_size=80) | hostile.changed(RECORD))
@example(content=b"[" * 100_000)
@example(content=b'{"schema_version": 1}')
def test_a_record(content: bytes, tmp_path: Path) -> None:
    parses(tmp_path / "record.json", content, read_record)


@often
@given(content=some.binary(max_size=80) | hostile.JSON.map(lambda value: json.dumps(value).encode()))
def test_the_file_of_a_search(content: bytes, tmp_path: Path) -> None:
    parses(tmp_path / "lora.json", content, read_tuning)


@pytest.mark.parametrize("path", ["n" * 300 + ".toml", "loop.toml", "folder.toml", "pipe.toml", "/dev/zero"])
def test_a_path_that_is_no_file(path: str, tmp_path: Path) -> None:
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    for parse in (read_choices, lambda path: FolderTask.from_file(path, ()), read_labels):
        with pytest.raises(UserError):
            parse(tmp_path / path)

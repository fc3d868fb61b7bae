"""Whatever the file system refuses once, the message is one, and the same command then ends with equal bits."""

import errno
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import runs
from helpers.faults import CODES, EachKindOnce, Faults
from helpers.records import record

from grasp_bench.checked import remove_checked, save_checked, undamaged
from grasp_bench.contracts.record import read_record, write_record
from grasp_bench.data.features import FeatureCache
from grasp_bench.data.root import remember
from grasp_bench.errors import UserError
from grasp_bench.io import folder_written_whole, write_bytes, write_json, write_tensors, write_with_digest
from grasp_bench.journal import JOURNAL
from grasp_bench.locks import publishing
from grasp_bench.run.store import Store

VOLATILE = ("seen", "started", "finished")


def work(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A run in small: stages that are kept in two places, caches, a record, tables, an export, the user's config."""
    patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    said: list[str] = []
    stages = Store(folder / "work", said.append, sync_to=folder / "kept")

    def prepare(folder: Path) -> None:
        write_json(folder / "data.json", list(range(20)))

    def train(folder: Path) -> None:
        done = [number for number, _ in undamaged(folder, "step", said.append)]
        for number in range(2):
            if number not in done:
                save_checked(folder, "step", number, {"w": torch.arange(9.0) + number})
                stages.keep(folder)
        if not (folder / "weights.safetensors").exists():
            write_tensors(folder / "weights.safetensors", {"w": torch.arange(9.0)})
        write_json(folder / "summary.json", {"steps": 2})
        remove_checked(folder, "step")

    stages.run("prepare", {"of": "a"}, prepare)
    trained = stages.run("train", {"of": "b"}, train)
    cache = FeatureCache(folder / "features", {"extractor": "pixels"}, said.append)
    if not cache.find({"00" * 32}):
        cache.add({"00" * 32: np.arange(4.0)})
    with publishing(folder / "results"):
        write_record(folder / "results" / "digits-lt" / "lora" / "seed-0", record("lora"))
    write_with_digest(folder / "results" / ".index", b"a cache")
    if not (folder / "model").exists():
        with folder_written_whole(folder / "model") as model:
            write_bytes(model / "weights.safetensors", (trained / "weights.safetensors").read_bytes())
    remember("nih-lt", folder)


def content(folder: Path) -> dict[str, object]:
    """Path → what must be the same, however often the work was interrupted."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.name.startswith(".") or ".corrupt-" in name or path.suffix in (".lock", ".lease"):
            continue
        if JOURNAL.fullmatch(path.name):  # which nothing reads in a finished stage
            continue
        if path.suffix == ".json":
            value = json.loads(path.read_text())
            found[name] = (
                {key: each for key, each in value.items() if key not in VOLATILE} if "files" in value else value
            )
        else:
            found[name] = path.read_bytes().replace(str(folder).encode(), b"FOLDER")
    return found


def end_of(attempt: Callable[[], object], code: int, call: object) -> str:
    """How an attempt ended that met a fault: it went on, or said what the system said, and of which file."""
    try:
        attempt()
    except UserError as error:
        message = str(error)
    except OSError as error:
        message = str(error) if error.filename else ""  # with a file's name the command line makes one message of it
    else:
        return "went on"
    assert os.strerror(code) in message, call
    return "one message"


@pytest.fixture
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, object], list[str]]:
    """What an undisturbed run leaves, and the calls that it makes."""
    faults = Faults(tmp_path / "undisturbed")
    with faults.at_work():
        work(tmp_path / "undisturbed", monkeypatch)
    return content(tmp_path / "undisturbed"), faults.calls


IN_TURN = pytest.param(CODES, id="in turn")
ALL = [pytest.param((code,), id=errno.errorcode[code], marks=pytest.mark.slow) for code in CODES]


@pytest.mark.parametrize("codes", [IN_TURN, *ALL])
def test_every_call_may_fail_once(
    tmp_path: Path,
    expected: tuple[dict[str, object], list[str]],
    codes: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every call of the small run fails once with each error; of the errors in turn, each call with one."""
    whole, calls = expected
    assert {call.split()[0] for call in calls} >= {"write", "replace", "fsync", "flock", "open", "unlink", "mkdir"}
    assert {call.split()[0] for call in calls} >= {"rmdir", "pwrite", "sendfile"}
    assert [call for call in calls if call.startswith("unlink") and "/train/*.partial/" in call]  # by shutil.rmtree
    ends = Counter[str]()
    for number, call in enumerate(calls):
        folder, code = tmp_path / str(number), codes[number % len(codes)]
        with Faults(folder, number, code).at_work():
            ends[end_of(partial(work, folder, monkeypatch), code, call)] += 1
        work(folder, monkeypatch)
        assert content(folder) == whole, call
    print(f"{len(calls)} faults tried: {dict(ends)}")
    assert ends["one message"] > len(calls) / 2


def kind_of(call: str) -> str:
    """What is called of which file, of all stages alike and whatever numbers are in its name.

    All folders that are made are one kind, and so are all temporary files that are removed.
    """
    name = call.split()[0]
    if name == "mkdir" or (name == "unlink" and call.endswith(".tmp")):
        return name
    return re.sub("[0-9]+", "#", re.sub("work/[^/]+/", "work/STAGE/", call))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_every_kind_of_call_of_a_real_run_may_fail_once(tmp_path: Path) -> None:
    """One run is attempted until no kind of call is left that has not failed once, with errors in turn.

    An attempt that goes on in spite of a fault ends the run, and the next one starts anew.
    """
    undisturbed = Faults(tmp_path / "undisturbed")
    with undisturbed.at_work():
        whole = runs.outcome(runs.finish(tmp_path / "undisturbed", runs.small()))
    met, ends, attempts, folder = set[str](), Counter[str](), 0, tmp_path / "0"
    while True:
        code = CODES[attempts % len(CODES)]
        faults = EachKindOnce(folder, met, code, kind_of)
        with faults.at_work():
            end = end_of(partial(runs.finish, folder, runs.small()), code, faults.calls)
        attempts += 1
        if end == "went on":
            (path,) = (folder / "results").rglob("record.json")
            assert runs.outcome(read_record(path)) == whole, faults.failed
            shutil.rmtree(folder)
            folder = tmp_path / str(attempts)
        if not faults.failed:
            break
        ends[end] += 1
    print(f"{len(met)} kinds of {len(undisturbed.calls)} calls failed once: {dict(ends)}")
    assert met >= set(map(kind_of, undisturbed.calls))
    assert ends["one message"] > len(met) / 2

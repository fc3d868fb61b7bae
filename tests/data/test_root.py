import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_bench.data.root import VARIABLE, config_path, data_root, remember
from grasp_bench.errors import UserError


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(VARIABLE, raising=False)


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_what_is_asked_goes_before_the_environment_and_that_before_what_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, remembered = folder(tmp_path / "asked"), folder(tmp_path / "remembered")
    named = folder(tmp_path / "all" / "mimic-lt")
    remember("mimic-lt", remembered)
    assert data_root("mimic-lt", None) == remembered
    monkeypatch.setenv(VARIABLE, str(tmp_path / "all"))
    assert data_root("mimic-lt", None) == named
    assert data_root("mimic-lt", asked) == asked


def test_roots_of_several_tasks_are_kept_beside_each_other(tmp_path: Path) -> None:
    places = {task: folder(tmp_path / f'{task} "quoted" \\ ü') for task in ("mimic-lt", "imagenet-lt")}
    for task, place in places.items():
        remember(task, place)
    assert {task: data_root(task, None) for task in places} == places


def test_without_data_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"grasp-bench show mimic-lt.*grasp-bench prepare --task mimic-lt --data-root"):
        data_root("mimic-lt", None)
    with pytest.raises(UserError, match=r"nowhere \(from --data-root\): there is no such folder"):
        data_root("mimic-lt", tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["[data", "[data]\nmimic-lt = 3", "data = 4"])
def test_a_damaged_config_is_named(text: str) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text(text)
    with pytest.raises(UserError, match=r"config.toml"):
        data_root("mimic-lt", None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[data]\nmimic-lt = "a\\u0000b"', "data: a value holds a NUL character"),
        (f"more = 0x{'f' * 20}", "more: a value is an integer beyond"),
    ],
)
def test_a_value_that_no_path_or_table_can_hold_is_named(text: str, told: str) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text(text)
    with pytest.raises(UserError, match=rf"config\.toml, {told}"):
        data_root("mimic-lt", None)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(NAMES, NAMES))
def test_whatever_a_path_is_called_can_be_read_again(named: dict[str, str]) -> None:
    config_path().unlink(missing_ok=True)
    for task, name in named.items():
        remember(task, Path("/data") / name)
    kept = tomllib.loads(config_path().read_text()).get("data", {}) if named else {}
    assert kept == {task: str((Path("/data") / name).resolve()) for task, name in named.items()}


def test_what_else_the_config_says_stays(tmp_path: Path) -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_bytes(b'\xef\xbb\xbfother = "\xf0\x9f\xa6\x9c"\n[more]\nlist = [1, 2]\n')
    place = folder(tmp_path / "\U0001f99c")
    remember("mimic-lt", place)
    found = tomllib.loads(config_path().read_text())
    assert found == {
        "other": "\U0001f99c",
        "more": {"list": [1, 2]},
        "data": {"mimic-lt": str(place)},
    }


def test_a_path_that_toml_cannot_hold_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    remember("mimic-lt", folder(tmp_path / "a"))
    with pytest.raises(UserError, match="is no UTF-8"):
        remember("nih-lt", tmp_path / "\udcff")
    assert data_root("mimic-lt", None) == tmp_path / "a"


def test_processes_that_remember_at_once_lose_nothing(tmp_path: Path) -> None:
    tasks = [f"task-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda task: remember(task, folder(tmp_path / task)), tasks))
    assert {task: data_root(task, None).name for task in tasks} == {task: task for task in tasks}


def without_home(patch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise RuntimeError("Could not determine home directory.")

    patch.delenv("XDG_CONFIG_HOME")
    patch.setattr(Path, "home", missing)


def unreadable(patch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    patch.setattr(Path, "open", refused)


@pytest.mark.parametrize("lacks", [without_home, unreadable])
def test_a_root_that_is_named_needs_no_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks) -> None:
    place = folder(tmp_path / "all" / "mimic-lt")
    lacks(monkeypatch)
    assert data_root("mimic-lt", place) == place
    with pytest.raises(UserError):
        data_root("mimic-lt", None)
    with pytest.raises(UserError):
        remember("mimic-lt", place)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "all"))
    assert data_root("mimic-lt", None) == place


def test_defaults_of_options_survive_what_is_remembered(tmp_path: Path) -> None:
    from typer.main import get_command

    from grasp_bench.cli import app
    from grasp_bench.cli.defaults import option_defaults

    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text('\ufeff# mine\n[defaults]\ndevice = "cpu"\n[defaults.report]\nmetric = ["fd"]\n', encoding="utf-8")
    before = option_defaults(get_command(app))
    assert before["report"]["metric"] == ["fd"]
    assert before["run"]["device"] == "cpu"
    remember("mimic-lt", folder(tmp_path / "mimic"))
    assert option_defaults(get_command(app)) == before
    assert data_root("mimic-lt", None) == tmp_path / "mimic"

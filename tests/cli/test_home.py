"""A tilde stands for the home folder wherever a path is given, and a byte-order mark for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.cli.options import with_home
from grasp_bench.errors import UserError
from grasp_bench.sweep.config import read_config


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_an_option_with_an_equals_sign_writes_there(home: Path) -> None:
    result = CliRunner().invoke(app, ["new", "method", "my-method", "--dir=~"])
    assert result.exit_code == 0, result.output
    assert (home / "my-method").is_dir()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Path("~/x"), "{home}/x"),
        ("~/task.toml", "{home}/task.toml"),
        ("dit:~/weights", "dit:{home}/weights"),
        (["weights=~/w", "a=1"], ["weights={home}/w", "a=1"]),
        ([Path("~")], ["{home}"]),
        ("a~/b", "a~/b"),
        ("~5", "~5"),
        (Path("a/~/b"), "a/~/b"),
        (None, None),
        (3, 3),
    ],
)
def test_only_the_start_of_a_path_is_a_home(given: object, expected: object, home: Path) -> None:
    found: list[object] = []
    with_home(lambda value: found.append(value))(value=given)

    def shown(value: object) -> object:
        if isinstance(value, list):
            return [shown(each) for each in value]
        return str(value).replace("{home}", str(home)) if isinstance(value, str | Path) else value

    assert shown(found[0]) == shown(expected)
    assert type(found[0]) is type(given)


def test_a_user_who_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"~nobody-of-that-name/x.*Write out"):
        with_home(lambda value: None)(value=Path("~nobody-of-that-name/x"))


def test_a_sweep_file_may_begin_with_a_mark_and_name_the_home(home: Path) -> None:
    text = 'methods = "lora"\ntasks = "digits-lt"\nseeds = 0\n[options]\nresults = "~/results"\n'
    Path("sweep.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_config(Path("sweep.toml")).options.results == home / "results"


def test_commands_need_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", missing)
    result = CliRunner().invoke(app, ["list", "tasks"])
    assert result.exit_code == 0, result.exception

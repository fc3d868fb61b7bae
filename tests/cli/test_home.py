"""A tilde stands for the home folder wherever a path is given, and a byte-order mark for nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.cli.options import expands_home
from grasp_bench.data import root
from grasp_bench.errors import UserError
from grasp_bench.sweep.config import read_config
from grasp_bench.tasks.folder import FolderTask
from grasp_bench.weights import VARIABLE, weights_folder


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
    expands_home(lambda value: found.append(value))(value=given)

    def shown(value: object) -> object:
        if isinstance(value, list):
            return [shown(each) for each in value]
        return str(value).replace("{home}", str(home)) if isinstance(value, str | Path) else value

    assert shown(found[0]) == shown(expected)
    assert type(found[0]) is type(given)


def test_a_user_who_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"~nobody-of-that-name/x.*Write out"):
        expands_home(lambda value: None)(value=Path("~nobody-of-that-name/x"))


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--task", "digits-lt", "--name", "a-b", "--pipeline", "~nobody-of-that-name/x"],
        ["run", "--method", "lora", "--task", "digits-lt", "--backbone", "sd3:~nobody-of-that-name/x"],
        ["estimate", "--method", "lora", "--task", "digits-lt", "--backbone", "sd3:~nobody-of-that-name/x"],
        ["score", ".", ".", "--extractor", "hf:~nobody-of-that-name/x"],
        ["score", ".", ".", "--extractor", "torchscript:~nobody-of-that-name/x.pt"],
    ],
    ids=lambda words: f"{words[0]} {words[-1].partition(':')[0]}",
)
def test_a_user_who_is_not_there_is_one_message(words: list[str]) -> None:
    for number in range(14):
        Image.new("L", (8, 8)).save(f"{number}.png")
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UserError), result.output
    assert "~nobody-of-that-name/x" in str(result.exception)


def test_a_sweep_file_may_begin_with_a_mark_and_name_the_home(home: Path) -> None:
    text = 'methods = "lora"\ntasks = "digits-lt"\nseeds = 0\n[options]\nresults = "~/results"\n'
    Path("sweep.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_config(Path("sweep.toml")).options.results == home / "results"


def test_a_sweep_names_tasks_settings_and_folders_of_data_in_the_home(home: Path) -> None:
    text = (
        'methods = "lora"\ntasks = ["~/t.toml"]\nseeds = 0\nbackbones = "dit:~/w"\nbudget = "~/b.toml"\n'
        '[task_set."~/t.toml"]\nsplit_seed = 1\n[options.data_root]\n"~/t.toml" = "~/data"\n'
    )
    Path("sweep.toml").write_text(text)
    found = read_config(Path("sweep.toml"))
    assert (found.tasks, found.backbones, found.budget) == ([f"{home}/t.toml"], [f"dit:{home}/w"], f"{home}/b.toml")
    assert found.task_set == {f"{home}/t.toml": {"split_seed": ["1"]}}
    assert found.options.data_root == {f"{home}/t.toml": home / "data"}


def test_a_sweep_that_names_a_user_who_is_not_there_is_refused() -> None:
    text = 'methods = "lora"\ntasks = "digits-lt"\nseeds = 0\n[options]\nresults = "~nobody-of-that-name/x"\n'
    Path("sweep.toml").write_text(text)
    with pytest.raises(UserError, match=r"~nobody-of-that-name/x.*Write out"):
        read_config(Path("sweep.toml"))


def test_a_task_names_images_and_labels_in_the_home(home: Path) -> None:
    (home / "images").mkdir()
    Path("t.toml").write_text('images = "~/images"\nlabels = "~/labels.csv"\n')
    _, task = FolderTask.from_file(Path("t.toml"), ())
    assert (task.data, task.labels) == ((home / "images").resolve(), home / "labels.csv")


def test_variables_and_the_config_file_name_the_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "data" / "nih-lt").mkdir(parents=True)
    monkeypatch.setenv(root.VARIABLE, "~/data")
    assert root.data_root("nih-lt", None) == (home / "data" / "nih-lt").resolve()
    monkeypatch.delenv(root.VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", "~/config")
    assert root.config_path() == home / "config" / "grasp-bench" / "config.toml"
    root.config_path().parent.mkdir(parents=True)
    root.config_path().write_text('[data]\nnih-lt = "~/data/nih-lt"\n')
    assert root.data_root("nih-lt", None) == (home / "data" / "nih-lt").resolve()
    monkeypatch.setenv("XDG_DATA_HOME", "~/share")
    assert weights_folder() == home / "share" / "grasp-bench" / "weights"


def test_doctor_tells_the_rest_where_the_home_cannot_be_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME", "HF_HUB_OFFLINE", VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/" + "n" * 300)  # which not even root can look into
    monkeypatch.setenv(root.VARIABLE, "/data")
    for name in ("versions", "devices", "backbones"):  # which take seconds
        monkeypatch.setattr(f"grasp_bench.cli.doctor._{name}", dict)
    monkeypatch.setattr("grasp_bench.cli.doctor._plugins", lambda: ({"methods": "1"}, []))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1, result.exception
    found = json.loads(result.stdout)
    assert found["plugins"] == {"methods": "1"}
    assert found["configuration"] == {root.VARIABLE: "/data"}
    assert len(found["folders"]) == 2
    assert [each.split(":")[0] for each in found["problems"]] == ["configuration", "weights"]
    assert all("cannot be read (File name too long)" in each for each in found["problems"])


def test_commands_need_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", missing)
    result = CliRunner().invoke(app, ["list", "tasks"])
    assert result.exit_code == 0, result.exception

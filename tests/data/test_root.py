from pathlib import Path

import pytest

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

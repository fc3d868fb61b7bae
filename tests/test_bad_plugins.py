"""Plugins that do their worst: each is one warning, and the others are listed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest
from helpers.signals import listening
from pydantic import Field, field_validator

from grasp_bench import plugins
from grasp_bench.contracts.settings import Settings, parse_settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import NoGuidance
from grasp_bench.run.recipes import with_defaults
from grasp_bench.run.resolve import validated

AT_IMPORT = {
    "interrupts": "raise KeyboardInterrupt",
    "interrupts_on_lines": "raise (\n    KeyboardInterrupt\n)",
    "interrupts_by_name": "stop = KeyboardInterrupt()\ndef end():\n    raise stop\nend()",
    "interrupts_unseen": "exec('raise KeyboardInterrupt')",
    "leaves": "raise SystemExit(3)",
    "exits": "import sys; sys.exit(3)",
    "base": "class Odd(BaseException): pass\nraise Odd('x')",
    "generator": "raise GeneratorExit",
    "mute": "class Mute(Exception):\n    def __str__(self): raise RuntimeError\nraise Mute",
}


def exploding() -> float:
    raise SystemExit(3)


class FactorySettings(Settings):
    x: float = Field(default_factory=exploding)


class ValidatedSettings(Settings):
    x: float = Field(default=1.0, validate_default=True)

    @field_validator("x")
    @classmethod
    def _never(cls, value: float) -> float:
        raise RuntimeError("never")


class Factory(NoGuidance):
    """A guidance whose default cannot be made."""

    Config = FactorySettings


class Validated(NoGuidance):
    """A guidance whose validator raises."""

    Config = ValidatedSettings


class Documented(NoGuidance):
    __doc__ = 5  # type: ignore[assignment] # what is tested


def refused(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> str:
    """What ``list`` warns of the only odd plugin, which ``load`` raises as well."""
    entry = EntryPoint("odd", f"{module}:{name}", "grasp_bench.guidance")
    monkeypatch.setitem(plugins._claims("guidance"), "odd", [entry])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = plugins.available("guidance")
    assert "odd" not in found
    assert "cfg" in found
    with pytest.raises(UserError, match="guidance 'odd' of an unknown package"):
        plugins.load("guidance", "odd")
    return str(next(each.message for each in caught if "'odd'" in str(each.message)))


@pytest.mark.parametrize("name", AT_IMPORT)
def test_what_an_import_raises(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"odd_{name}.py").write_text(AT_IMPORT[name])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, f"odd_{name}", raising=False)
    assert "cannot be used" in refused(monkeypatch, f"odd_{name}", "Plugin")


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (Factory, "FactorySettings() cannot be made of its defaults: SystemExit: 3"),
        (Validated, "ValidatedSettings() cannot be made of its defaults: RuntimeError: never"),
        (Documented, "Documented.__doc__ is 5, expected text"),
    ],
)
def test_what_a_class_raises(plugin: type, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert message in refused(monkeypatch, __name__, plugin.__name__)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_users_own_interruption_is_none_of_a_plugin(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted.py").write_text(f"import signal\nsignal.raise_signal({int(number)})")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("odd", "interrupted:Plugin", "grasp_bench.guidance")
    monkeypatch.setitem(plugins._claims("guidance"), "odd", [entry])
    with listening(signal.SIGINT):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            plugins.available("guidance")


@pytest.mark.parametrize(
    ("file", "content"), [("entry_points.txt", b"\xff\xfe"), ("entry_points.txt", b"[x]\nno entry"), ("METADATA", None)]
)
def test_a_broken_package_beside_the_plugins_hides_none(
    file: str, content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "other-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[grasp_bench.guidance]\nother = nowhere:Other\n")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    plugins._claims.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert {"cfg", "none"} <= set(plugins.available("guidance"))
        assert any("broken" in str(each.message) or "other" in str(each.message) for each in caught)
    finally:
        plugins._claims.cache_clear()


def test_commands_run_beside_a_package_that_no_library_can_read(tmp_path: Path) -> None:
    """Pydantic looks for plugins before a command begins, and fsspec, which diffusers imports, while it runs."""
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe")
    code = "from grasp_bench.cli import main; import fsspec; main()"
    found = subprocess.run(
        [sys.executable, "-c", code, "list", "guidance"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "cfg" in found.stdout
    assert f"warning: an installed package in {tmp_path} is broken and passed over" in found.stderr


def test_a_package_without_metadata_is_told_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nameless-1.0.dist-info").mkdir()
    (tmp_path / "nameless-1.0.dist-info" / "entry_points.txt").write_text("[grasp_bench.guidance]\nodd = nowhere:Odd\n")
    (package,) = distributions(path=[str(tmp_path)])
    monkeypatch.setitem(plugins._claims("guidance"), "odd", list(package.entry_points))
    with pytest.raises(UserError) as refused:
        plugins.load("guidance", "odd")
    assert "of None" not in str(refused.value)
    assert str(refused.value).endswith(f"or remove a package without metadata in {tmp_path}.")


class Looking(Settings):
    x: int = 0

    @field_validator("x")
    @classmethod
    def _known(cls, value: int) -> int:
        if value > 1:
            raise SystemExit(3)
        return {0: 0}[value]


@pytest.mark.parametrize(("value", "told"), [(1, "KeyError: 1"), (2, "SystemExit: 3")])
def test_what_a_check_of_a_setting_raises_is_told(value: int, told: str) -> None:
    with pytest.raises(UserError, match=rf"settings of guidance odd: a check of Looking raised {told}\. Run"):
        parse_settings(Looking, [f"x={value}"], "guidance odd", {})
    with pytest.raises(UserError, match=rf"settings of guidance odd: a check of Looking raised {told}"):
        validated(Looking, {"x": value}, "guidance odd")
    with pytest.raises(UserError, match=rf"Looking does not take x={value}, .*: a check of Looking raised {told}"):
        with_defaults(Looking(), {"x": value})

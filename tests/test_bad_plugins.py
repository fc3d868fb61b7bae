"""Plugins that do their worst: each is one warning, and the others are listed."""

from __future__ import annotations

import signal
import sys
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from pydantic import Field, field_validator

from grasp_bench import plugins
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import NoGuidance

AT_IMPORT = {
    "interrupts": "raise KeyboardInterrupt",
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


def test_the_users_own_interruption_is_none_of_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(kind: plugins.Kind, entry: EntryPoint) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(plugins, "_loaded", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            plugins.available("guidance")
    finally:
        signal.signal(signal.SIGINT, before)


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

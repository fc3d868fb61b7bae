"""The tables that say how close each method and guidance is to its source name all of them, and all their defaults."""

import re
from typing import NamedTuple

import pytest
from bench.bench_rates import measured_before, table
from bench.recording import RESULTS

from grasp_bench import plugins
from grasp_bench.contracts.method import MethodSettings

from .pages import ROOT

CLOSENESS = {"as published", "simplified", "after", "ours"}
EVERY = "every one"
"""Name, in the table of methods, for the settings that all of them have."""
PAGES: dict[plugins.Kind, str] = {
    "methods": (ROOT / "docs/methods.md").read_text(),
    "guidance": (ROOT / "docs/guidances.md").read_text(),
}
HEADINGS: dict[plugins.Kind, str] = {
    "methods": "| name | setting | here | paper | its code | source |",
    "guidance": "| guidance | setting | here | paper | code | source of both |",
}


class Row(NamedTuple):
    """A row of a table of defaults."""

    names: tuple[str, ...]
    setting: str
    here: str
    source: str


def ours(kind: plugins.Kind) -> list[str]:
    return sorted(
        name for name, entry in plugins.entries(kind).items() if entry.dist and entry.dist.name == "grasp-bench"
    )


def cells(page: str, heading: str) -> list[list[str]]:
    """The rows below a table's heading."""
    below = page.partition(f"{heading}\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below.splitlines()[1:]]


def defaults(kind: plugins.Kind) -> list[Row]:
    rows = []
    for names, setting, here, *others in cells(PAGES[kind], HEADINGS[kind]):
        value = re.match(r"`([^`]+)`|(\S+)", here)
        assert value, (names, setting)
        named = (EVERY,) if names == EVERY else tuple(re.findall(r"`([^`]+)`", names))
        rows.append(Row(named, setting.strip("`"), value[1] or value[2], others[-1]))
        assert kind == "guidance" or all(others), (names, setting)
    return rows


def default_of(kind: plugins.Kind, name: str) -> dict[str, object]:
    """Setting → default, of a method or guidance, or of all methods."""
    config = MethodSettings if name == EVERY else plugins.load(kind, name).Config
    return {setting: field.get_default(call_default_factory=True) for setting, field in config.model_fields.items()}


@pytest.mark.parametrize(("kind", "closeness"), [("methods", CLOSENESS), ("guidance", CLOSENESS - {"ours"})])
def test_every_one_says_how_close_it_is_and_what_it_was_read_against(kind: plugins.Kind, closeness: set[str]) -> None:
    rows = cells(PAGES[kind], f"| {'name' if kind == 'methods' else kind} | audit | how | read against |")
    assert sorted(row[0].strip("`") for row in rows) == ours(kind)
    assert {row[1] for row in rows} == closeness
    assert all(all(row) for row in rows)


@pytest.mark.parametrize("kind", PAGES)
def test_a_default_in_the_tables_is_the_one_that_the_class_has(kind: plugins.Kind) -> None:
    for row in defaults(kind):
        assert row.source, row
        for name in row.names:
            default = default_of(kind, name)[row.setting]
            assert row.here == ("none" if default is None else str(default) or '""'), (name, row.setting)


@pytest.mark.parametrize("kind", PAGES)
def test_every_setting_with_a_default_has_its_row(kind: plugins.Kind) -> None:
    """But for what all methods have, what has no value in a method by default, and versions, which nobody chooses."""
    common = default_of(kind, EVERY) if kind == "methods" else {}
    needed = {(EVERY, setting) for setting in common}
    for name in ours(kind):
        own = default_of(kind, name).items() - common.items()
        valued = {setting for setting, default in own if default is not None or kind == "guidance"}
        needed |= {(name, setting) for setting in valued - {"on_version"}}
    there = [(name, row.setting) for row in defaults(kind) for name in row.names]
    assert needed - {*there} == set()
    assert len(there) == len({*there})
    assert {name for name, _ in there} - {EVERY} == {*ours(kind)} - {"none"}


def test_the_table_of_rates_is_what_was_measured():
    page = (ROOT / "docs/backbones.md").read_text()
    shown = page[page.index("<!-- rates -->\n") : page.index("<!-- end rates -->")].split("\n", 1)[1].strip()
    assert shown == table(measured_before(RESULTS / "rates.json"))

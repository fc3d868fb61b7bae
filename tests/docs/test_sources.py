"""The tables that say how close each method is to its source name all methods, and the defaults that they have."""

import re

import pytest
from bench.bench_rates import measured_before, table
from bench.recording import RESULTS

from grasp_bench import plugins
from grasp_bench.contracts.method import MethodSettings

from .pages import ROOT

PAGE = (ROOT / "docs/methods.md").read_text()
SECTION = PAGE[PAGE.index("\n## How close to their sources\n") : PAGE.index("\n## Settings of every method\n")]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in SECTION.splitlines() if line.startswith("| ")]
CLOSENESS = {"as published", "simplified", "after", "ours"}
SHORT, LONG = 4, 6
"""Columns of the two tables."""
GUIDANCES = (ROOT / "docs/guidances.md").read_text()


def ours(kind: plugins.Kind) -> list[str]:
    return sorted(
        name for name, entry in plugins.entries(kind).items() if entry.dist and entry.dist.name == "grasp-bench"
    )


def test_every_method_says_how_close_it_is_and_what_it_was_read_against():
    header, *rows = [row for row in ROWS if len(row) == SHORT]
    assert header == ["name", "audit", "how", "read against"]
    assert sorted(row[0].strip("`") for row in rows) == ours("methods")
    assert {row[1] for row in rows} == CLOSENESS
    assert all(all(row) for row in rows)


def test_every_guidance_says_how_close_it_is_and_what_it_was_read_against():
    table = GUIDANCES.partition("| guidance | audit | how | read against |\n|---|---|---|---|\n")[2].partition("\n\n")[
        0
    ]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert sorted(row[0].strip("`") for row in rows) == ours("guidance")
    assert {row[1] for row in rows} == CLOSENESS - {"ours"}
    assert all(all(row) for row in rows)


@pytest.mark.parametrize("row", [row for row in ROWS if len(row) == LONG][1:], ids=lambda row: f"{row[0]} {row[1]}")
def test_a_default_is_the_one_that_the_method_has(row):
    name, setting, here = row[0].strip("`"), row[1].strip("`"), re.match(r"`([^`]+)`", row[2])
    config = MethodSettings if name == "every one" else plugins.load("methods", name).Config
    assert here
    assert here[1] == str(config.model_fields[setting].default)
    assert all(row[3:])


def test_the_table_of_rates_is_what_was_measured():
    page = (ROOT / "docs/backbones.md").read_text()
    shown = page[page.index("<!-- rates -->\n") : page.index("<!-- end rates -->")].split("\n", 1)[1].strip()
    assert shown == table(measured_before(RESULTS / "rates.json"))

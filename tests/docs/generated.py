"""What the documentation says of the code itself, written by `make graph`: packages, facts, recipes."""

from __future__ import annotations

import math
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

from grasp_bench import plugins
from grasp_bench.backbones.aliases import available
from grasp_bench.backbones.recipes import described, recipe_of

from .facts import filled
from .pages import ROOT

PICTURE = ROOT / "docs" / "images" / "packages.svg"
TABLE = ROOT / "CONTRIBUTING.md"
RECIPES = ROOT / "docs" / "backbones.md"
BASE = {"checked", "errors", "io", "known", "processes", "seeds", "version"}
"""Modules at the bottom, drawn as one."""
ENTRIES = {"__main__"}
WIDTH, ROW, BOX = 960, 74, (96, 32)
READ = {
    "method": "method.py",
    "task": "task.py",
    "guidance": "guidance.py",
    "metric": "metric.py",
    "extractor": "extractor.py",
    "backbone": "backbone.py",
}
"""Kind of plugin → module of its contract."""
BETWEEN = re.compile(r"(?<=<!-- what to read -->\n).*?(?=<!-- end -->)", re.DOTALL)
RECIPES_BETWEEN = re.compile(r"(?<=<!-- recipes -->\n).*?(?=<!-- end -->)", re.DOTALL)


def imports() -> dict[str, set[str]]:
    """Package → the packages that it imports, also for types alone, but for what import-linter is told to ignore."""
    graph = grimp.build_graph("grasp_bench", "baselines", "tasks", cache_dir=None)
    for expression in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0].get(
        "ignore_imports", ()
    ):
        for each in graph.find_matching_direct_imports(expression):
            graph.remove_import(importer=each["importer"], imported=each["imported"])
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            importer, target = package(module), package(imported)
            if importer and target and importer != target:
                found.setdefault(importer, set()).add(target)
                found.setdefault(target, set())
    return found


def package(module: str) -> str:
    """The node that a module belongs to; empty for the public interface, which imports lazily from everywhere."""
    top, *rest = module.split(".")
    name = top if top != "grasp_bench" else rest[0] if rest else ""
    return "" if name in ENTRIES else "base" if name in BASE else name


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The edges that no longer path implies. Raises graphlib.CycleError if packages import each other."""
    below: dict[str, set[str]] = {}
    for node in TopologicalSorter(edges).static_order():
        below[node] = edges[node].union(*(below[each] for each in edges[node]))
    return {node: {to for to in ends if not any(to in below[other] for other in ends)} for node, ends in edges.items()}


def picture() -> str:
    """The packages in layers, each above all that it imports, as SVG."""
    edges = imports()
    level: dict[str, int] = {}
    for node in TopologicalSorter(edges).static_order():
        level[node] = max((level[each] + 1 for each in edges[node]), default=0)
    top = max(level.values())
    rows = [sorted(node for node in level if level[node] == top - row) for row in range(top + 1)]
    centre = {
        node: (round(WIDTH * (place + 0.5) / len(row)), 36 + number * ROW)
        for number, row in enumerate(rows)
        for place, node in enumerate(row)
    }
    lines = [
        f'<path d="M{centre[node][0]} {centre[node][1] + BOX[1] // 2} L{centre[to][0]} {centre[to][1] - BOX[1] // 2}"/>'
        for node, ends in sorted(reduced(edges).items())
        for to in sorted(ends)
    ]
    boxes = [
        f'<rect x="{x - BOX[0] // 2}" y="{y - BOX[1] // 2}" width="{BOX[0]}" height="{BOX[1]}" rx="6"/>'
        f'<text x="{x}" y="{y + 5}">{node}</text>'
        for node, (x, y) in sorted(centre.items())
    ]
    style = (
        "path{stroke:#90a4ae;stroke-width:1.2;fill:none}rect{fill:#e0f2f1;stroke:#607d8b}"
        "text{fill:#263238;text-anchor:middle}.back{fill:#f5f7f8;stroke:none}"
    )
    height = len(rows) * ROW + 4
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t" '
            'font-family="system-ui, sans-serif" font-size="14">',
            '<title id="t">Packages of grasp-bench; each imports only what is below it</title>',
            f"<style>{style}</style>",
            f'<rect class="back" width="{WIDTH}" height="{height}" rx="10"/>',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def table() -> str:
    """For every kind of plugin, the files to touch and the lines to read, which are rounded up to fifty."""
    rows = ["| to add a … | files touched | lines read: contract | lines read: an example |", "|---|---|---|---|"]
    for kind, module in READ.items():
        contract = _lines(ROOT / "grasp_bench" / "contracts" / module)
        template = ROOT / "grasp_bench" / "templates" / kind
        example = [*template.glob("*.py.txt")] or [ROOT / "grasp_bench" / "backbones" / "sd3.py"]
        what = "template" if template.exists() else "`backbones/sd3.py`"
        modules = len(example)
        rows.append(
            f"| {kind} | {modules} new, and 1 line in `pyproject.toml` | {contract} (`contracts/{module}`) | "
            f"{_lines(*example)} ({what}) |"
        )
    return "\n".join(rows) + "\n"


def recipes() -> str:
    """All recipes side by side, a row per figure, and under the table where each one's figures come from.

    They are those of every alias, and of families without one, as far as they have figures of their own.
    """
    aliased = {named.partition(":")[0] for named in available().values()}
    names = sorted({*available(), *(set(plugins.entries("backbones")) - aliased)})
    found = {name: recipe for name in names if (recipe := recipe_of(name)).name}
    columns = {name: described(recipe) for name, recipe in found.items()}
    labels = list(dict.fromkeys(label for column in columns.values() for label in column))
    rows = ["| | " + " | ".join(f"`{name}`" for name in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    rows += [
        f"| {label} | " + " | ".join(column.get(label, "") for column in columns.values()) + " |" for label in labels
    ]
    sources = [f"- `{name}`: {recipe.source}" for name, recipe in found.items()]
    return "\n".join([*rows, "", *sources]) + "\n"


def _lines(*paths: Path) -> int:
    count = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
    return math.ceil(count / 50) * 50


def renewed() -> dict[Path, str]:
    """File → what should stand in it."""
    pages = {path: filled(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "docs").glob("*.md"))}
    pages[RECIPES] = RECIPES_BETWEEN.sub(lambda _: recipes(), pages[RECIPES])
    return {
        PICTURE: picture(),
        TABLE: BETWEEN.sub(lambda _: table(), TABLE.read_text(encoding="utf-8")),
        **pages,
    }


if __name__ == "__main__":
    stale = {path: text for path, text in renewed().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    sys.exit("--check" in sys.argv and bool(stale))

"""That the pages say what there is: every plugin and score has its section, links resolve, messages are the code's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from PIL import Image
from results.site.screenshot import SCHEMES, SIZES

from grasp_bench import plugins
from grasp_bench.backbones.aliases import available
from grasp_bench.cli import app
from grasp_bench.results.site.rules import RULES

from .pages import ROOT, anchors, blocks, by_hand, headings, nav, pages, prose

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)\s]+)\)")
HOLE = "…"


def sections(page: str, level: int) -> list[str]:
    return headings(DOCS / page, level)


def ours(kind: plugins.Kind) -> set[str]:
    """Names that come with the package, whatever else is installed."""
    return {name for name, entry in plugins.entries(kind).items() if entry.dist and entry.dist.name == "grasp-bench"}


@pytest.mark.parametrize(
    ("kind", "page", "level"),
    [
        ("methods", "methods.md", 3),
        ("tasks", "tasks.md", 2),
        ("guidance", "guidances.md", 2),
        ("backbones", "backbones.md", 2),
        ("extractors", "extractors.md", 2),
    ],
)
def test_every_plugin_has_its_section_and_its_facts(kind, page, level):
    words = [each for each in sections(page, level) if " " not in each]  # others are about several
    assert len(words) == len(set(words))
    assert set(words) == ours(kind)
    facts = re.findall(r"^<!-- facts (\w+) (\S+) -->$", (DOCS / page).read_text(), re.MULTILINE)
    assert facts == [(kind, name) for name in words]


def test_metrics_are_filled_in_from_their_classes():
    assert (DOCS / "metrics.md").read_text().count("\n<!-- metrics -->\n") == 1
    assert ours("metrics") <= set(sections("metrics.md", 2))


def test_every_guidance_has_its_evaluations_and_every_short_name_its_repository():
    rows = "\n".join(line for line in by_hand(DOCS / "guidances.md").splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([a-z+-]+)`", "\n".join(row.split(" | ")[0] for row in rows.splitlines()))) == ours(
        "guidance"
    )
    named = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", prose(DOCS / "backbones.md"), re.MULTILINE)
    assert dict(named) == available()


def test_readme_lists_every_method_guidance_and_task():
    named = set(re.findall(r"`([^`\s]+)`", prose(ROOT / "README.md")))
    for kind in ("methods", "guidance"):
        assert ours(kind) <= named
    assert ours("tasks") - {"folder"} <= named


def test_the_rules_are_those_of_the_code():
    text = " ".join(prose(DOCS / "protocol.md").split())
    assert [rule for rule in RULES if rule not in text] == []


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_page_is_shown_at_two_sizes_in_light_and_dark():
    shown = {"": re.findall(r"docs/images/([\w-]+)\.png", (ROOT / "README.md").read_text())}
    shown["-phone"] = re.findall(r"images/(leaderboard-phone[\w-]*)\.png", (DOCS / "sharing.md").read_text())
    for size, names in shown.items():
        assert set(names) == {f"leaderboard{size}{dark}" for dark in SCHEMES}
        for name in names:
            with Image.open(DOCS / "images" / f"{name}.png") as picture:
                assert picture.size == SIZES[size]


def test_contracts_of_plugins_are_those_of_the_code():
    named = set(re.findall(r"`(\w+)[(`]", prose(DOCS / "plugins.md")))
    for kind, functions in plugins.FUNCTIONS.items():
        assert {*functions, *plugins.ATTRIBUTES[kind]} <= named, kind


def test_every_command_is_documented():
    known = {command.name for command in app.registered_commands}
    shown = set(re.findall(r"grasp-bench ([a-z]+)", "\n".join(path.read_text() for path in pages())))
    assert known <= shown


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_links_resolve(path: Path):
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.is_file(), f"{path.name}: {target} is no file that is there; the site has no folders"
        assert found.is_relative_to(ROOT), f"{path.name}: {target} leads out of the repository"
        if anchor:
            assert anchor in anchors(found), f"{path.name}: {target} has no such heading"


def test_every_picture_of_the_documentation_is_shown_on_a_page():
    shown = "\n".join(path.read_text() for path in pages())
    pictures = [path.name for path in (ROOT / "docs" / "images").iterdir()]
    assert len(pictures) > 4
    assert [name for name in pictures if f"images/{name})" not in shown] == []


def test_every_page_is_in_the_navigation():
    assert {path for path in nav() if path.parent == DOCS} == set(DOCS.glob("*.md"))


def templates() -> set[str]:
    """Every string of the sources, with … where a value goes."""
    found: set[str] = set()
    for folder in ("grasp_bench", "baselines", "tasks"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= {_text(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))}
    return found - {""}


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else HOLE for part in node.values)
    return ""


def in_order(pieces: list[str], text: str) -> bool:
    """Whether ``text`` holds the pieces one after the other."""
    start = 0
    for piece in pieces:
        start = text.find(piece, start)
        if start < 0:
            return False
        start += len(piece)
    return True


def test_messages_of_troubleshooting_are_those_of_the_code():
    messages = re.findall(r"^\| `([^`]+)` \|", prose(DOCS / "troubleshooting.md"), re.MULTILINE)
    assert len(messages) == prose(DOCS / "troubleshooting.md").count("\n| `")
    known = templates()
    pieces = {message: [piece for piece in message.split(HOLE) if piece.strip(" .,:;()")] for message in messages}
    assert all(pieces.values())
    assert [each for each in messages if not any(in_order(pieces[each], text) for text in known)] == []


def test_site_settings_are_submitits():
    submitit = pytest.importorskip("submitit", reason="needs the extra grasp-bench[slurm]")
    import tomllib

    from grasp_bench.sweep.config import Execution
    from grasp_bench.sweep.slurm import OF_THE_EXECUTOR

    known = submitit.AutoExecutor._typed_parameters().keys() | {
        f"slurm_{name}" for name in submitit.SlurmExecutor._valid_parameters()
    }
    sites = [tomllib.loads(block.text) for block in blocks(DOCS / "slurm.md") if block.language == "toml"]
    assert len(sites) == 2
    for site in sites:
        assert site["slurm"].keys() <= known | set(OF_THE_EXECUTOR)
        Execution.model_validate(site.get("options", {}))

"""What mkdocs is told besides the pages: facts out of the classes themselves, and files that lie outside this folder.

A page says ``<!-- facts methods grasp -->`` where the site shows what the class says of itself: its docstring, source
and settings; ``<!-- settings methods -->`` shows what all methods have, and ``<!-- metrics -->`` a section for each
metric. So no page repeats a default, and none can be
out of date.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from grasp_bench import plugins
from grasp_bench.cli.show import bounds, type_name
from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.metric import FeatureMetric
from grasp_bench.contracts.task import TaskSettings
from grasp_bench.tuning.ranges import tuned_ranges

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("BENCHMARKS.md", "CHANGELOG.md", "CONTRIBUTING.md")
"""Pages of the site that stand at the top of the repository."""
FACTS = re.compile(r"^<!-- facts (\w+) (\S+) -->$", re.MULTILINE)
METRICS = "<!-- metrics -->"
SETTINGS = re.compile(r"^<!-- settings (\w+) -->$", re.MULTILINE)
LINK = re.compile(r"(\]\()([^)\s#:]+)(?=[)#])")
ROLE = re.compile(r":\w+:`~?([^`]+)`")
CODE_OR_LESS = re.compile(r"(`[^`]*`)|<")
HEADER = "| setting | type | default | bounds | searched | what it is |\n|---|---|---|---|---|---|\n"
COMMON: dict[str, tuple[type[Any], str]] = {
    "methods": (MethodSettings, "methods.md#settings-of-every-method"),
    "tasks": (TaskSettings, "tasks.md#settings-of-every-task"),
}
"""Kind → the settings that all of it have, and where these are described."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages at the top of the repository, and every file outside this folder that a page links to."""
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for page in list(files.documentation_pages()):
        for _, target in LINK.findall(page.content_string):
            path = (_origin(page).parent / target).resolve()
            inside = path.is_relative_to(ROOT) and path.is_file() and not path.is_relative_to(ROOT / "docs")
            if inside and not files.get_file_from_path(uri := path.relative_to(ROOT).as_posix()):
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the facts, and let links lead to where the site has what they name."""
    filled = FACTS.sub(lambda found: facts(found[1], found[2]), markdown)
    filled = SETTINGS.sub(lambda found: settings(found[1], COMMON[found[1]][0]), filled)
    filled = filled.replace(METRICS, metrics())
    top = page.file.src_uri in PAGES
    return LINK.sub(lambda found: found[1] + _in_the_site(found[2], top), filled)


def facts(kind: Any, name: str) -> str:
    """Markdown of what a plugin says of itself."""
    plugin = plugins.load(kind, name)
    first, _, rest = (inspect.getdoc(plugin) or "").partition("\n")
    parts = [f"**{_plain(first)}**", _plain(rest).strip()]
    if source := getattr(plugin, "paper", None) or getattr(plugin, "source", None):
        parts.append(f"*Source:* {_plain(source)}.")
    if layout := getattr(plugin, "layout", ""):
        parts.append(f"*Folder of the download:* {_plain(layout)}.")
    if hasattr(plugin, "Config"):
        parts.append(settings(kind, plugin.Config))
    return "\n\n".join(part for part in parts if part)


def metrics() -> str:
    """A section for each installed metric, made from its class, in the order of tables."""
    found = [plugins.load("metrics", name) for name in plugins.entries("metrics")]
    return "\n\n".join(_metric(each) for each in sorted(found, key=lambda each: (each.position, each.name)))


def _metric(metric: type[Any]) -> str:
    first, _, rest = (inspect.getdoc(metric) or "").partition("\n")
    ways = {"lower": "lower is better", "higher": "higher is better"}
    title = f"**{_plain(first)}** ({ways[metric.direction]})"
    parts = [f"## {metric.name}", title, _plain(rest).strip(), metric.definition]
    parts.append(f"*Misleads:* {metric.misleads}")
    needs = (
        f"{metric().minimum(k=5)} images of each kind"
        if issubclass(metric, FeatureMetric)
        else "1 test image of a class"
    )
    if training := getattr(metric, "train_minimum", 0):
        needs += f", and {training} training images"
    parts.append(f"*Needs:* {needs}. *Source:* {_plain(metric.source)}. *Version:* {metric.version}.")
    return "\n\n".join(part for part in parts if part)


def settings(kind: str, config: type[Any]) -> str:
    """A table of settings: those of every plugin of the kind only where their default is another here."""
    base, where = COMMON.get(kind, (None, ""))
    common = base.model_fields if base and config is not base else {}
    ranges, rows = tuned_ranges(config), []
    for name, field in config.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if name in common and default == common[name].default:
            continue
        searched = f"{ranges[name].low:g} to {ranges[name].high:g}" if name in ranges else ""
        limits = f"`{bounds(field)}`" if bounds(field) else ""  # a pattern's brackets are no link
        shown = "none" if default is None else str(default) or '""'
        cells = (f"`{name}`", type_name(field.annotation), f"`{shown}`", limits, searched)
        rows.append("| " + " | ".join(_cell(each) for each in (*cells, _plain(field.description or ""))) + " |")
    shared = f"[those of all {kind}]({where})" if common else ""
    if not rows:
        return f"*Settings:* {shared or 'none'}."
    return HEADER + "\n".join(rows) + (f"\n\nAnd {shared}." if shared else "")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _plain(text: str) -> str:
    """Docstrings' reStructuredText as Markdown."""
    marked = ROLE.sub(r"`\1`", text).replace("``", "`")
    return CODE_OR_LESS.sub(lambda found: found[1] or "&lt;", marked)


def _origin(page: File) -> Path:
    return Path(page.abs_src_path or ROOT / page.src_uri)


def _in_the_site(target: str, top: bool) -> str:
    """A link of a page at the top of the repository, or of one in this folder, as the site has it."""
    if top:
        return target.removeprefix("docs/")
    parts = PurePosixPath(target).parts
    return "/".join(parts[1:]) if parts and parts[0] == ".." else target

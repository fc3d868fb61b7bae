"""Facts out of the classes themselves, written between markers of the pages, so that no default is out of date.

``<!-- facts methods grasp -->`` begins what a class says of itself: its docstring, source and settings;
``<!-- settings methods -->`` the settings that all methods have, and ``<!-- metrics -->`` a section for each metric.
Each block ends with ``<!-- end -->``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from typing import Any

from grasp_bench import plugins
from grasp_bench.cli.show import bounds, type_name
from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.metric import FeatureMetric
from grasp_bench.contracts.task import TaskSettings
from grasp_bench.tuning.ranges import tuned_ranges

BLOCK = re.compile(
    r"^(<!-- (?:facts (?P<kind>\w+) (?P<name>\S+)|settings (?P<all>\w+)|(?P<metrics>metrics)) -->\n)"
    r".*?^(?=<!-- end -->$)",
    re.MULTILINE | re.DOTALL,
)
ROLE = re.compile(r":\w+:`~?([^`]+)`")
CODE_OR_LESS = re.compile(r"(`[^`]*`)|<")
HEADER = "| setting | type | default | bounds | searched | what it is |\n|---|---|---|---|---|---|\n"
COMMON: dict[str, tuple[type[Any], str]] = {
    "methods": (MethodSettings, "methods.md#settings-of-every-method"),
    "tasks": (TaskSettings, "tasks.md#settings-of-every-task"),
}
"""Kind → the settings that all of it have, and where these are described."""


def filled(text: str) -> str:
    """Return a page with the facts of today in every block."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{_block(found)}\n\n", text)


def _block(found: re.Match[str]) -> str:
    if found["metrics"]:
        return metrics(name for name, entry in plugins.entries("metrics").items() if _is_ours(entry))
    return settings(found["all"], COMMON[found["all"]][0]) if found["all"] else facts(found["kind"], found["name"])


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


def metrics(names: Iterable[str]) -> str:
    """A section for each metric, made from its class, in the order of tables."""
    found = [plugins.load("metrics", name) for name in names]
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


def _is_ours(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == "grasp-bench"

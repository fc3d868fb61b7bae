"""The site as mkdocs builds it: whole, filled in, and asking for nothing outside."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from grasp_bench import plugins
from grasp_bench.baselines.moe import MoeSettings

from .pages import ROOT, nav

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="needs the extra grasp-bench[docs]"),
]
ASKED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\"\s>]+)|<link\b[^>]*>", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_and_picture_is_there(site: Path):
    names = {path.with_suffix(".html").name for path in nav()}
    assert names <= {path.name for path in site.rglob("*.html")}
    for path in site.rglob("*.html"):
        for source in re.findall(r"<img[^>]* src=\"?([^\"\s>]+)", path.read_text()):
            assert (path.parent / unquote(source)).is_file(), f"{path.name}: {source}"


def test_facts_are_those_of_the_classes(site: Path):
    methods = (site / "methods.html").read_text()
    shown = methods[methods.index('id="moe"') : methods.index('id="moe-sample"')]
    own = [name for name in MoeSettings.model_fields if name in MoeSettings.__annotations__]
    for name in own:
        default = MoeSettings.model_fields[name].default
        row = next(row for row in shown.split("<tr>") if f"<td><code>{name}</code></td>" in row)
        assert f"<code>{default}</code>" in row
    assert "DiT-MoE" in shown


def test_every_metric_has_its_section(site: Path):
    shown = (site / "metrics.html").read_text()
    for name, metric in plugins.available("metrics").items():
        assert f'id="{name}"' in shown
        for text in (metric.definition, metric.misleads, metric.source):
            assert html.escape(text, quote=False) in html.unescape(shown).replace("&", "&amp;"), name


def test_nothing_outside_is_asked_for(site: Path):
    for path in site.glob("*.html"):
        for found in ASKED.finditer(path.read_text()):
            tag = found[0]
            if not re.search(r'rel="?(canonical|prev|next)', tag):
                assert "//" not in tag.replace("data:", ""), f"{path.name}: {tag}"
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"url\(\"?(?:https?:)?//[^)]+|@import[^;]+//", styles)

"""What mkdocs is told besides the pages: files that lie outside this folder, and where links to them lead."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "BENCHMARKS.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "results/digits-lt/TABLES.md",
    "results/archive/digits-lt/TABLES.md",
)
"""Pages of the site that stand outside this folder."""
LINK = re.compile(r"(\]\()([^)\s#:]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside this folder, and every file outside this folder that a page links to."""
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
    """Let links lead to where the site has what they name."""
    return LINK.sub(lambda found: found[1] + _in_the_site(found[2], page.file), markdown)


def _origin(page: File) -> Path:
    return Path(page.abs_src_path or ROOT / page.src_uri)


def _in_the_site(target: str, page: File) -> str:
    """Return a link to a file of the repository as the site has it, in which this folder is the top."""
    path = Path(os.path.normpath(_origin(page).parent / target))
    if ":" in target or not path.is_relative_to(ROOT):
        return target
    uri = path.relative_to(ROOT).as_posix().removeprefix("docs/")
    return posixpath.relpath(uri, posixpath.dirname(page.src_uri) or ".")

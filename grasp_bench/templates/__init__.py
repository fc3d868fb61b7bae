"""Templates to start from: a package for each kind of plugin, and a task in one file.

They are kept as ``.txt``, so that no tool takes them for modules of this package, and are filled by
:class:`string.Template`: ``$name``, ``$module``, ``$Class`` and the like.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import keyword
import os
import re
import sys
from pathlib import Path
from string import Template

from grasp_bench import plugins
from grasp_bench.errors import UserError
from grasp_bench.io import folder_written_whole, write_bytes
from grasp_bench.version import VERSION

FOLDER = Path(__file__).parent
NAME = re.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME = 30  # lines that hold it stay within 120 columns


def write_package(kind: str, name: str, parent: Path) -> Path:
    """Write the package ``name`` of a working plugin into the folder of that name in ``parent``; that folder.

    It is written whole or not at all. Raises :class:`UserError` for a name that will not do, and where the folder
    cannot be written or is there already.
    """
    check_name(kind, name)
    folder = parent / name
    if os.path.lexists(folder):
        raise UserError(f"{folder}: is there already. Choose another name, or another place with --dir.")
    with folder_written_whole(folder) as unfinished:
        for path, text in package(kind, name).items():
            write_bytes(unfinished / path, text.encode())
    return folder


def package(kind: str, name: str) -> dict[str, str]:
    """Path → text of every file of a package; what is in the folder of the kind is its code, and its README."""
    module, camel = name.replace("-", "_"), "".join(part.capitalize() for part in name.split("-"))
    suffix = kind.capitalize()
    words = {
        "name": name,
        "module": module,
        # what templates import does not end like this, so that no name can clash with it
        "Class": camel if camel.endswith(suffix) and camel != suffix else camel + suffix,
        "kind": kind,
        "group": plugins.BY_SINGULAR[kind],
        "version": VERSION,
    }
    sources = {"pyproject.toml": FOLDER / "pyproject.toml.txt", f"tests/test_{module}.py": FOLDER / "contract.py.txt"}
    for source in sorted((FOLDER / kind).glob("*.txt")):
        place = source.name.removesuffix(".txt")
        sources[f"src/{module}/{place}" if source.suffixes[0] == ".py" else place] = source
    return {place: filled(source, words) for place, source in sources.items()}


def filled(source: Path, words: dict[str, str]) -> str:
    """The text of a template with ``words`` in their places."""
    return Template(source.read_text(encoding="utf-8")).substitute(words)


def check_name(kind: str, name: str) -> None:
    """Raise :class:`UserError` for a name that cannot be a package's and a plugin's, or that is taken."""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"{name!r}: expected at most {LONGEST_NAME} lower-case letters, digits and single hyphens, with a letter "
            f"first, as in my-{kind}."
        )
    if name in plugins.entries(plugins.BY_SINGULAR[kind]):
        origin = plugins.origin(plugins.entries(plugins.BY_SINGULAR[kind])[name])
        raise UserError(f"{name}: {origin} has a {kind} of that name. Choose another.")
    module = name.replace("-", "_")
    if keyword.iskeyword(module):
        raise UserError(f"{name}: is a keyword of Python, and no module can be called that. Choose another name.")
    if module in sys.stdlib_module_names or _is_installed(name, module):
        raise UserError(f"{name}: would hide the installed package or module {module}. Choose another name.")


def _is_installed(name: str, module: str) -> bool:
    """Whether there is a distribution or a module of that name; a mere folder is none."""
    found = importlib.util.find_spec(module)
    if found and found.origin:
        return True
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True

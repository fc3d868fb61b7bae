"""``grasp-bench new``: something that works, to start from."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from grasp_bench.cli import completion
from grasp_bench.errors import UserError

TRY = {
    "task": "--method lora --task {}",
    "method": "--method {} --task digits-lt",
    "guidance": "--method lora --task digits-lt --guidance {}",
    "extractor": "--method lora --task digits-lt --task-set extractor={}",
    "metric": "--method lora --task digits-lt",
    "backbone": "--method lora --task digits-lt --backbone {}",
}
"""Kind → what `grasp-bench run` needs to use one, with its name for the braces."""
ENTRY = "entry"
PREPARE = "name your images in it, then: grasp-bench prepare --task {} --check"
EVALUATE = "fill it in, then: grasp-bench evaluate --task digits-lt --images DIR --name my-lora --declare {}"


def new(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"What to start: {', '.join([*TRY, ENTRY])}.",
            autocompletion=completion.among([*TRY, ENTRY]),
        ),
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of the package and its plugin, as in my-method.")
    ] = None,
    parent: Annotated[
        Path, typer.Option("--dir", help="Folder in which the package gets a folder of its name.")
    ] = Path(),
    path: Annotated[
        Path | None,
        typer.Option(help="TOML file of a task without NAME (else mytask.toml) or of an entry (else facts.toml)."),
    ] = None,
) -> None:
    """Write a template that works: with NAME a Python package, commented and with tests, to install and change.

    A task of your own images needs no Python: `grasp-bench new task`, without NAME, writes one commented TOML file.
    `grasp-bench new entry` writes one in which to declare how images for `grasp-bench evaluate` were made.
    """
    if kind == ENTRY:
        if name is not None or parent != Path():
            raise UserError("new entry: writes one TOML file; --path says where. Leave the rest out.")
        _toml_file(path or Path("facts.toml"), "facts.toml.txt", EVALUATE)
        return
    if kind not in TRY:
        raise UserError(f"new {kind}: there is a template of: {', '.join([*TRY, ENTRY])}.")
    if name is not None:
        if path is not None:
            raise UserError(f"--path {path}: is for a task without a name; a package goes where --dir says.")
        _package(kind, name, parent)
    elif kind != "task":
        raise UserError(f"new {kind}: expected a name, as in `grasp-bench new {kind} my-{kind}`.")
    elif parent != Path():
        raise UserError(f"--dir {parent}: is for packages; --path {parent / 'mytask.toml'} says where the file goes.")
    else:
        _toml_file(path or Path("mytask.toml"), "task.toml.txt", PREPARE)


def _package(kind: str, name: str, parent: Path) -> None:
    from grasp_bench.cli.output import console
    from grasp_bench.templates import write_package

    if name.endswith(".toml"):
        raise UserError(f"{name}: for a task in one file, `grasp-bench new task --path {name}`.")
    folder = write_package(kind, name, parent)
    commands = [
        f"pip install -e {shlex.quote(str(folder))}",
        f"grasp-bench check {kind} {name}",
        f"grasp-bench run {TRY[kind].format(name)} --budget smoke",
    ]
    code = folder / "src" / name.replace("-", "_") / "__init__.py"
    lines = [f"wrote the {kind} {folder}, which works as it is. Try it:", *(f"  {command}" for command in commands)]
    console().print("\n".join([*lines, f"Then make it yours: {code}"]), soft_wrap=True, markup=False)


def _toml_file(path: Path, template: str, then: str) -> None:
    from grasp_bench.cli.output import console
    from grasp_bench.io import write_bytes
    from grasp_bench.templates import FOLDER, filled

    if path.exists():
        raise UserError(f"{path}: is there already. Choose another name with --path.")
    if path.suffix != ".toml":
        raise UserError(f"--path {path}: expected a name that ends in .toml.")
    name = re.sub("[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "mytask"
    write_bytes(path, filled(FOLDER / template, {"path": str(path), "name": name}).encode())
    console().print(f"wrote {path}; {then.format(shlex.quote(str(path)))}", soft_wrap=True, markup=False)

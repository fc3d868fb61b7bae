"""The command line: one module per command; torch is imported only inside the commands that need it."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from grasp_bench import shielded  # noqa: F401 # ahead of whatever imports pydantic
from grasp_bench.bounds import option_fault
from grasp_bench.cli import streams
from grasp_bench.cli.cache import clear_stages, list_stages
from grasp_bench.cli.check import check as check_plugin
from grasp_bench.cli.compare import compare as compare_runs
from grasp_bench.cli.data import export as export_data
from grasp_bench.cli.defaults import from_config, noted, option_defaults
from grasp_bench.cli.diagnose import diagnose as diagnose_gradients
from grasp_bench.cli.doctor import doctor as examine
from grasp_bench.cli.estimate import estimate as estimate_runs
from grasp_bench.cli.evaluate import evaluate as evaluate_images
from grasp_bench.cli.export import export as export_run
from grasp_bench.cli.help import Group, write_options
from grasp_bench.cli.list import list_plugins
from grasp_bench.cli.migrate import migrate_results
from grasp_bench.cli.new import new as write_template
from grasp_bench.cli.options import expands_home
from grasp_bench.cli.output import WIDTH
from grasp_bench.cli.prepare import prepare as prepare_data
from grasp_bench.cli.report import report_runs
from grasp_bench.cli.reproduce import reproduce as reproduce_run
from grasp_bench.cli.run import run as run_method
from grasp_bench.cli.sample import sample as sample_run
from grasp_bench.cli.score import score as score_images
from grasp_bench.cli.show import show_plugin
from grasp_bench.cli.status import status as show_status
from grasp_bench.cli.submit import submit as submit_runs
from grasp_bench.cli.sweep import sweep as run_sweep
from grasp_bench.cli.tune import tune as tune_methods
from grasp_bench.cli.verify import verify as verify_pack
from grasp_bench.errors import UserError
from grasp_bench.processes import CANCELLED
from grasp_bench.terminal import tell
from grasp_bench.text import printable
from grasp_bench.version import VERSION

app = typer.Typer(
    name="grasp-bench",
    cls=Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
    pretty_exceptions_enable=False,  # a bug of ours is a plain traceback, ready for a bug report
    rich_markup_mode=None,  # its tables cut names off
)


class Command(TyperCommand):
    """A command whose numbers are bounded: those of an option that are too large for a table are refused at once."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options for the help."""
        write_options(self, ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options.

        Raises :class:`UserError` for a number that is not finite or has more than 64 bits, and for a value of the
        config file that its option does not take.
        """
        try:
            rest = super().parse_args(ctx, args)
            for name, value in ctx.params.items():
                if why := option_fault(value):
                    raise UserError(f"--{name.strip('_').replace('_', '-')}: a value {why}.")
        except typer.BadParameter as error:
            if error.param is None or not from_config(ctx, str(error.param.name)):
                raise
            refused = UserError(error.format_message())
            noted(refused, ctx)
            raise refused from error
        except UserError as error:
            noted(error, ctx)
            raise
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Carry the command out. A :class:`UserError` names what it says of options that the config file gives."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            noted(error, ctx)
            raise


def examples(*commands: str) -> str:
    """An epilog that keeps every command on its own line, as long as it is."""
    return "\n".join(["\b", "Examples:" if len(commands) > 1 else "Example:", *(f"  {each}" for each in commands)])


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"grasp-bench {VERSION}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "grasp-bench list",
        "grasp-bench run --method grasp --task digits-lt",
        "grasp-bench report",
    )
)
def grasp_bench(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    no_defaults: Annotated[
        bool, typer.Option("--no-defaults", help="Take no defaults of options from the config file.")
    ] = False,
) -> None:
    """How well do fine-tuned text-to-image transformers serve rare classes? Head, medium and tail are scored apart."""
    if isinstance(context.command, TyperGroup) and not no_defaults:
        context.default_map = option_defaults(context.command)


COMMANDS: dict[str, tuple[Callable[..., None], *tuple[str, ...]]] = {
    "list": (list_plugins, "grasp-bench list", "grasp-bench list methods"),
    "show": (show_plugin, "grasp-bench show grasp", "grasp-bench show digits-lt"),
    "prepare": (
        prepare_data,
        "grasp-bench prepare --task mimic-lt --data-root /data/mimic-cxr-jpg",
        "grasp-bench prepare --task mimic-lt --check",
        "grasp-bench prepare --task ./mytask.toml --cache tiny-sd3-32",
    ),
    "data export": (
        export_data,
        "grasp-bench data export --task digits-lt --split train --to digits --prompts-out prompts.csv",
    ),
    "new": (
        write_template,
        "grasp-bench new task --path birds.toml",
        "grasp-bench new method my-method",
        "grasp-bench new guidance my-guidance --dir ~/packages",
    ),
    "run": (
        run_method,
        "grasp-bench run --method grasp --task digits-lt",
        "grasp-bench run grasp digits-lt",
        "grasp-bench run --method lora --task digits-lt --seed 0 --seed 1 --set rank=16",
        "grasp-bench run --method grasp --task digits-lt --budget smoke",
        "grasp-bench run --method grasp --task ./mytask.toml",
        "grasp-bench run --method grasp --task digits-lt --tuned",
        "grasp-bench run --method grasp --task digits-lt --guidance cfg-interval --evaluations 40",
    ),
    "evaluate": (
        evaluate_images,
        "grasp-bench evaluate --task digits-lt --images generated/ --name my-lora --declare facts.toml",
        "grasp-bench evaluate --task mimic-lt --pipeline ./my-pipeline --lora my.safetensors --name my-lora --steps 28",
    ),
    "report": (
        report_runs,
        "grasp-bench report",
        "grasp-bench report --task digits-lt --metric fd --baseline vanilla-ft",
        "grasp-bench report --task digits-lt --format latex --out table.tex",
        "grasp-bench report --html site",
        "grasp-bench report --update BENCHMARKS.md --check",
        "grasp-bench report --only-missing",
    ),
    "score": (
        score_images,
        "grasp-bench score real/ generated/ --weights weights-inception-2015-12-05-6726825d.pth",
        "grasp-bench score real/ generated/ --extractor pixels --groups groups.csv --per-class --json scores.json",
        "grasp-bench score real.safetensors generated.safetensors --bootstrap 1000",
    ),
    "tune": (tune_methods, "grasp-bench tune --method grasp --method lora --task digits-lt"),
    "diagnose": (
        diagnose_gradients,
        "grasp-bench diagnose --task digits-lt",
        "grasp-bench diagnose --task digits-lt --method lora --at 0,150,600",
        "grasp-bench diagnose --run results/digits-lt/moe/seed-0",
    ),
    "sweep": (
        run_sweep,
        "grasp-bench sweep sweep.toml",
        "grasp-bench sweep sweep.toml --max-parallel 2 --retry-failed",
        "grasp-bench sweep sweep.toml --launcher print",
        "grasp-bench sweep sweep.toml --launcher slurm",
    ),
    "estimate": (
        estimate_runs,
        "grasp-bench estimate --method grasp --task mimic-lt --backbone sd3.5-medium --resolution 512",
        "grasp-bench estimate -m lora -t mimic-lt --backbone sana-0.6b --gpu 48,181,960 --rate 1.2 --json lora.json",
        "grasp-bench estimate sweep.toml --gpu a100-80gb --rate 2.5",
        "grasp-bench estimate --table --method grasp --backbone sana-0.6b",
    ),
    "status": (show_status, "grasp-bench status sweep.toml", "grasp-bench status sweep.toml --watch"),
    "sample": (
        sample_run,
        "grasp-bench sample results/digits-lt/grasp/seed-0 --out grid.png",
        "grasp-bench sample my-model --class 7 --class 9 -n 8 --guidance none --out grid.png",
    ),
    "doctor": (examine, "grasp-bench doctor", "grasp-bench doctor --json"),
    "cache list": (list_stages, "grasp-bench cache list"),
    "cache clear": (
        clear_stages,
        "grasp-bench cache clear --unfinished",
        "grasp-bench cache clear latents pixels --older-than 30 --yes",
    ),
    "check": (
        check_plugin,
        "grasp-bench check method grasp",
        "grasp-bench check method my-method --set rank=16 --json report.json",
        "grasp-bench check task ./mytask.toml",
    ),
    "export": (export_run, "grasp-bench export results/digits-lt/grasp/seed-0 --to my-model"),
    "compare": (
        compare_runs,
        "grasp-bench compare results/digits-lt/grasp/seed-0 results/digits-lt/lora/seed-0",
        "grasp-bench compare results/digits-lt/grasp/seed-0 results/digits-lt/lora/seed-0 --out compared.png",
    ),
    "reproduce": (
        reproduce_run,
        "grasp-bench reproduce results/digits-lt/grasp/seed-0/record.json",
        "grasp-bench reproduce results/digits-lt/grasp/seed-0 --results again --work-dir .grasp-bench-again",
    ),
    "submit": (
        submit_runs,
        "grasp-bench submit results/digits-lt/grasp/seed-0",
        "grasp-bench submit results/digits-lt/*/seed-* --out digits.zip",
    ),
    "migrate": (migrate_results, "grasp-bench migrate results"),
    "verify": (verify_pack, "grasp-bench verify pack.zip", "grasp-bench verify pack.zip --json found.json"),
}
"""Command → what it calls, and the examples below its help; a blank separates the name of a group from its command."""
GROUPS = {
    name: typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None, help=words)
    for name, words in (
        ("data", "What a task's data are, for other programs."),
        ("cache", "What the work folder holds, and how large it is."),
    )
}

for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)
for _name, (_function, *_lines) in COMMANDS.items():
    _of, _, _command = _name.rpartition(" ")
    (GROUPS[_of] if _of else app).command(_command, cls=Command, epilog=examples(*_lines))(expands_home(_function))


def main() -> None:
    """Run the command line: a user's mistake is one message and exit code 2; Ctrl-C is exit code 130."""
    warnings.showwarning = _show_warning
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of kernels for weights that no run here has
    streams.always_there()
    streams.never_refuse()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except UserError as error:
        _refuse(str(error))
    except OSError as error:  # of a path that is too long, a loop of links, a disk that fails
        if error.filename is not None:
            _refuse(f"{os.fsdecode(error.filename)}: {error.strerror}.")
        if error.errno not in UNWRITABLE:
            raise
        streams.give_up()
        if error.errno == errno.EPIPE:
            sys.exit(1)
        _refuse(f"what was to be printed cannot be written ({error.strerror}).")
    except SystemExit as stop:
        if stop.code == CANCELLED:  # what typer makes of Ctrl-C
            print("cancelled", file=sys.stderr)
        raise


def _refuse(message: str) -> NoReturn:
    """Print what is wrong, which may quote a third-party file, and exit with 2."""
    tell(f"error: {message}", sys.stderr)
    sys.exit(2)


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE)
"""Errors of standard output that are no fault of the program."""


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print our warnings to the user in one line; those of other packages keep their origin."""
    if category.__module__.startswith("grasp_bench."):
        print(f"warning: {printable(' '.join(str(message).split()))}", file=sys.stderr)
    else:
        tell(warnings.formatwarning(message, category, filename, lineno, line), file or sys.stderr, end="")

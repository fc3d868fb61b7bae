"""``grasp-bench estimate``: what a run or a sweep takes, before it is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.cli.defaults import on_command_line
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.errors import UserError
from grasp_bench.terminal import tell
from grasp_bench.text import counted

if TYPE_CHECKING:
    from grasp_bench.estimate.devices import Device
    from grasp_bench.estimate.estimate import Total
    from grasp_bench.estimate.memory import Manner


READ = {
    "a sweep's file": {"file", "resolution", "gpu", "utilisation", "rate", "short", "json"},
    "--parameters": {"parameters", "method", "set_", "task", "backbone"},
    "--table": {"table", "method", "task", "backbone", "resolution", "gpu", "utilisation"},
}
"""What is asked for → the parameters that it goes by; one run goes by all."""


def estimate(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="SWEEP.toml", help="All runs of a sweep, instead of one.")
    ] = None,
    method: Annotated[
        list[str],
        typer.Option(
            "--method", "-m", help="Method; repeatable with --table.", autocompletion=completion.names("methods")
        ),
    ] = [],  # noqa: B006 # typer reads it, nothing changes it
    task: Annotated[
        str,
        typer.Option(
            "--task",
            "-t",
            help="Task, or its TOML file; its data need not be here.",
            autocompletion=completion.names("tasks"),
        ),
    ] = "",
    backbone: Annotated[
        list[str],
        typer.Option(
            help="Backbone, whose weights need not be here; NAME:FOLDER needs its JSON files alone.",
            autocompletion=completion.names("backbones"),
        ),
    ] = [],  # noqa: B006 # as above
    resolution: Annotated[
        list[int],
        typer.Option(min=8, help="Pixels a side; if absent, those of the task, else of the backbone."),
    ] = [],  # noqa: B006 # as above
    gpu: Annotated[
        str, typer.Option(help="h100-80gb, a100-80gb, a100-40gb, rtx4090, or GiB,TFLOPs,GB/s of another.")
    ] = "h100-80gb",
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the GPU's peak that matrix products reach.")
    ] = 0.4,
    rate: Annotated[float | None, typer.Option(min=0, max=1e9, help="Price of a GPU-hour, in any currency.")] = None,
    guidance: shared.Guidance = None,
    set_: shared.MethodSettings = [],  # noqa: B006 # as above
    guidance_set: shared.GuidanceSettings = [],  # noqa: B006 # as above
    task_set: shared.TaskSettings = [],  # noqa: B006 # as above
    budget: shared.Budget = STANDARD,
    accumulate: shared.Accumulate = shared.AUTO,
    gradient_checkpointing: shared.GradientCheckpointing = shared.AUTO,
    batch_size: shared.BatchSize = 100,
    processes: Annotated[int, typer.Option(min=1, help="GPUs that share the run.")] = 1,
    short: Annotated[bool, typer.Option("--short", help="Print one line, as `run` does before it begins.")] = False,
    table: Annotated[
        bool,
        typer.Option("--table", help="A row in Markdown for each method, backbone and resolution; takes a while."),
    ] = False,
    parameters: Annotated[
        bool,
        typer.Option(
            "--parameters", help="A row in Markdown for each method: its size and parameters on each --backbone."
        ),
    ] = False,
    json: shared.Json = None,
) -> None:
    """Estimate parameters, memory, FLOPs, hours and disk on one GPU, by running the code on a simulated one.

    Needs neither a GPU nor weights nor data.
    """
    from grasp_bench.cli.outputs import check_json
    from grasp_bench.estimate.devices import parse_device
    from grasp_bench.estimate.memory import Manner

    asked = [kind for kind, given in zip(READ, (file, parameters, table), strict=True) if given]
    if asked:
        _leave_out(context, asked[0])
    check_json(json, "estimate")
    device = parse_device(gpu)
    if file:
        own = on_command_line(context, "resolution")  # the config file's is not that of the cells either
        _sweep(file, device, utilisation, rate, _only(resolution, "--resolution") if own else None, short, json)
    elif parameters:
        if set_ and not method:
            raise UserError(f"--set {set_[0]}: of which method? Name it with --method.")
        _parameters(method, set_, task, backbone)
    elif table:
        _table(task, method, backbone, resolution, device, utilisation)
    else:
        if not task or not method:
            raise UserError("--method and --task: what is to be estimated? Name both, or the TOML file of a sweep.")
        settings = {
            "guidance": guidance,
            "budget": budget,
            "resolution": _only(resolution, "--resolution"),
            "method_settings": set_,
            "task_settings": task_set,
            "guidance_settings": guidance_set,
        }
        manner = Manner(shared.parts(accumulate), shared.checkpointing(gradient_checkpointing), processes, batch_size)
        names = _only(method, "--method"), task, _only(backbone, "--backbone")
        _one(names, settings, device, utilisation, manner, rate, short, json)


def _leave_out(context: typer.Context, asked: str) -> None:
    """Raise :class:`UserError` for options on the command line that say nothing of what is asked for."""
    useless = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name not in READ[asked] and on_command_line(context, str(parameter.name))
    ]
    if useless:
        them = "it" if len(useless) == 1 else "them"
        raise UserError(f"{' and '.join(useless)}: no effect with {asked}. Leave {them} out.")


def _only(values: list[Any], option: str) -> Any:
    """Return the value of an option that may be given once, None without one."""
    if len(values) > 1:
        raise UserError(f"{option} is given {len(values)} times; give it once, or add --table.")
    return values[0] if values else None


def _one(
    names: tuple[str, str, str | None],
    settings: dict[str, Any],
    device: Device,
    utilisation: float,
    manner: Manner,
    rate: float | None,
    short: bool,
    json: Path | None,
) -> None:
    from rich.markup import escape

    from grasp_bench.cli.output import console
    from grasp_bench.cli.outputs import write_outcome
    from grasp_bench.estimate import measured_errors, text
    from grasp_bench.estimate.errors import SkippedError
    from grasp_bench.estimate.estimate import estimate as carry_out
    from grasp_bench.estimate.subject import choose

    try:
        found = carry_out(choose(*names, **settings), device, utilisation, both=not short, manner=manner)
    except SkippedError as reason:
        raise UserError(f"method {names[0]}: does not apply here: {reason}") from reason
    out = console()
    if not short:
        out.print(escape(text.heading(found)), soft_wrap=True)
        for each in text.tables(found):
            out.print(each)
    out.print(escape(text.short(found)), soft_wrap=True)
    if rate is not None:
        out.print(f"{found.hours * rate:,.2f} at {rate:g} per GPU-hour")
    if not short:
        out.print(escape(text.LEFT_OUT), soft_wrap=True)
        out.print(escape(measured_errors.said()), soft_wrap=True)
    write_outcome(json, "estimate", found.to_json() | ({} if rate is None else {"money": found.hours * rate}))


def _table(
    task: str, methods: list[str], backbones: list[str], resolutions: list[int], device: Device, utilisation: float
) -> None:
    from grasp_bench.estimate import table

    rows = table.rows(
        methods or table.METHODS,
        task or table.TASK,
        backbones or table.BACKBONES,
        resolutions or table.RESOLUTIONS,
        device,
        utilisation,
    )
    for line in table.lines(rows):
        tell(line)


def _parameters(methods: list[str], settings: list[str], task: str, backbones: list[str]) -> None:
    from grasp_bench.estimate import parameters

    asked = [(name, settings) for name in methods]
    found = parameters.rows(asked, task or parameters.TASK, backbones or parameters.BACKBONES)
    for line in parameters.lines(found):
        tell(line)


def _sweep(
    file: Path,
    device: Device,
    utilisation: float,
    rate: float | None,
    resolution: int | None,
    short: bool,
    json: Path | None,
) -> None:
    from grasp_bench.cli.output import console, table
    from grasp_bench.cli.outputs import write_outcome
    from grasp_bench.estimate import measured_errors, text
    from grasp_bench.estimate.sweep import estimate_sweep

    found = estimate_sweep(file, device, utilisation, resolution)
    rows = []
    for each, seeds in found.groups:
        spec = each.subject.spec
        fits = text.gib(each.way.peak) if each.fits else "does not fit"
        names = (spec.method.name, spec.task.name, each.subject.named, spec.guidance.name)
        rows.append((*names, str(len(seeds)), f"{each.hours:.1f}", fits))
    columns = ("method", "task", "backbone", "guidance", "runs", "hours each", "peak")
    shown = table(f"on {device.name}", columns, rows, right=columns[4:6], keys=4)
    out = console()
    if not short:
        out.print(shown)
        for reason in found.skipped:
            out.print(f"skipped: {reason}", soft_wrap=True, markup=False)
        for reason in found.left_out:
            out.print(f"no estimate: {reason}", soft_wrap=True, markup=False)
    out.print(_sum(found.total, rate, sum(found.left_out.values())), soft_wrap=True)
    if not short:
        out.print(text.LEFT_OUT, soft_wrap=True, markup=False)
        out.print(measured_errors.said(), soft_wrap=True, markup=False)
    if json:
        content: dict[str, Any] = {"runs": found.total.runs, "gpu_hours": found.total.hours}
        content |= {} if rate is None else {"money": found.total.money(rate)}
        groups = [each.to_json() | {"seeds": seeds} for each, seeds in found.groups]
        apart = {"skipped": found.skipped, "left_out": found.left_out}
        write_outcome(json, "estimate", content | {"estimates": groups} | apart)


def _sum(total: Total, rate: float | None, left_out: int) -> str:
    money = "" if rate is None else f", {total.money(rate):,.2f} at {rate:g} each"
    without = f"; {counted(left_out, 'run')} without an estimate {'comes' if left_out == 1 else 'come'} on top"
    return (
        f"{counted(total.runs, 'run')}: {total.hours:,.1f} GPU-hours in all{money}; what runs share is counted once"
        f"{without if left_out else ''}"
    )

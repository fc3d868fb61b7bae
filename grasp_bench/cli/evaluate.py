"""``grasp-bench evaluate``: images that were made elsewhere, scored like a run, in the open division."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.bounds import MOST_STEPS
from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.contracts.spec import SMOKE, STANDARD
from grasp_bench.home import with_home

if TYPE_CHECKING:
    from grasp_bench.contracts.record import RunRecord


def evaluate(
    task: shared.Task,
    name: Annotated[str, typer.Option("--name", "-n", help="Name of the row, as in my-lora.")],
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Images in a sub-folder per class, or flat with --labels; or an .npz of images, labels."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV (id,label): the class of every image; (file,labels,focus) where several.")
    ] = None,
    enlarge: Annotated[
        bool, typer.Option("--enlarge", help="Accept images smaller than those that are scored; it is recorded.")
    ] = False,
    pipeline: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|ID",
            help="Instead of images: what generates them, a pipeline of diffusers or a folder that `export` wrote.",
        ),
    ] = None,
    lora: Annotated[
        Path | None, typer.Option(help="LoRA for the pipeline: a .safetensors file in peft's or kohya's layout.")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(min=0, help="Guidance scale of the pipeline; its own if absent.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=MOST_STEPS, help="Sampling steps of the pipeline; its own if absent.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="float32|bfloat16|float16", help="Of the pipeline; float32 if absent."),
    ] = None,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Download a pipeline that is not on this machine from the hub.")
    ] = False,
    declare: Annotated[
        Path | None, typer.Option(metavar="FACTS.toml", help="What is declared of them; see `grasp-bench new entry`.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the task's split, of classifiers, of a choice among too many images.")
    ] = 0,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Whose table: its size of images and its budget; the task's default if absent.",
            autocompletion=completion.names("backbones"),
        ),
    ] = None,
    resolution: shared.Resolution = None,
    budget: shared.Budget = STANDARD,
    task_set: shared.TaskSettings = [],  # noqa: B006 # typer reads it, nothing changes it
    data_root: shared.DataRoot = None,
    results: shared.Results = shared.RESULTS,
    work_dir: shared.WorkDir = shared.WORK_DIR,
    cache_dir: shared.CacheDir = None,
    device: shared.Device = "auto",
    batch_size: shared.BatchSize = 100,
    threads: shared.Threads = None,
    all_scores: shared.AllScores = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Score images that were made elsewhere like those of a run, and write a record of the open division.

    Features, classifiers, counts and real references are those of every other row; how the images came about is
    declared and not controlled. With --pipeline, the images are generated first.
    """
    from grasp_bench.cli.output import console
    from grasp_bench.cli.run import NO_NUMBERS, show
    from grasp_bench.contracts.entry import Facts, read_facts
    from grasp_bench.export.entry import entry_of_export, is_export
    from grasp_bench.run.entry.evaluate import Table, entry_of_images, entry_of_pipeline, evaluate_entry
    from grasp_bench.run.options import Options

    progress = shared.told(quiet, verbose)
    table = Table(task, seed, backbone, resolution, budget, tuple(task_set), data_root)
    facts = read_facts(declare) if declare else Facts()
    called = {"--lora": lora, "--guidance-scale": guidance_scale, "--steps": steps, "--precision": precision}
    given = {"--labels": labels, "--enlarge": enlarge or None}
    if pipeline and is_export(pipeline):
        unused = {"--lora": lora, "--precision": precision, "--allow-download": allow_download or None}
        _leave_out(given | unused | {"--images": images}, "--pipeline of an exported run")
        entry = entry_of_export(name, with_home(Path(pipeline)), backbone, guidance_scale, steps, facts)
    elif pipeline:
        _leave_out(given | {"--images": images}, "--pipeline")
        download = progress.say if allow_download else None
        entry = entry_of_pipeline(name, pipeline, lora, guidance_scale, steps, precision or "float32", facts, download)
    else:
        _leave_out(called | {"--allow-download": allow_download or None}, "--images")
        entry = entry_of_images(name, images, labels, enlarge, facts, table, progress)
    if budget == SMOKE:
        progress.say(NO_NUMBERS)
    options = Options(results, work_dir, device, batch_size, cache_dir=cache_dir, threads=threads)
    path, record = evaluate_entry(entry, table, options, progress)
    show(record, path, all_scores)
    for line in _said(record):
        console().print(line, soft_wrap=True, markup=False)


def _said(record: RunRecord) -> Iterator[str]:
    """Yield what is declared and was found of the images."""
    if record.entry is None:
        return
    if found := record.entry.found:
        chosen = f", {found.scored:,} chosen of them ({found.selection})" if found.selection else ""
        yield f"images: {found.images:,}{chosen}; {found.resized:,} resized, {found.repeated:,} repeated"
    told = "; ".join(f"{name} {value}" for name, value in record.entry.declared.words.items())
    yield f"declared, not checked: {told or 'nothing; see `grasp-bench new entry`'}"


def _leave_out(options: Mapping[str, object], beside: str) -> None:
    """Raise :class:`UserError` for an option that says nothing beside another one."""
    from grasp_bench.errors import UserError

    for option, value in options.items():
        if value is not None:
            raise UserError(f"{option}: does nothing with {beside}. Leave it out.")

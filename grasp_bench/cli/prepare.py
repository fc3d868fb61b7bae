"""``grasp-bench prepare``: checks and indexes a task's download before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError
from grasp_bench.places import resolved

if TYPE_CHECKING:
    from grasp_bench.contracts.progress import Progress
    from grasp_bench.contracts.task import Task, TaskSettings


def prepare(
    task: shared.Task,
    data_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the download, which is remembered; if absent, $GRASP_BENCH_DATA/<task>, or the last one."
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check: label files, counts, image headers.")] = False,
    cache: Annotated[
        str | None,
        typer.Option(
            metavar="BACKBONE", help="Also store every image resized for this backbone, which speeds up training."
        ),
    ] = None,
    resolution: shared.Resolution = None,
    again: Annotated[
        bool, typer.Option("--again", help="Read every image again, since some have changed since they were prepared.")
    ] = False,
    task_set: shared.TaskSettings = [],  # noqa: B006 # typer reads it, nothing changes it
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Download what is missing, if the publisher of the data allows it.")
    ] = False,
    work_dir: shared.WorkDir = shared.WORK_DIR,
    cache_dir: shared.CacheDir = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Check a task's data, index it in a manifest, and remember where it is; `run` does the same when needed."""
    from grasp_bench.data.root import remember
    from grasp_bench.run.resolve import choose_backbone, make_task
    from grasp_bench.run.stages.prepare import prepare_inputs
    from grasp_bench.run.store import Store

    progress = shared.told(quiet, verbose)
    if resolution and not cache:
        raise UserError(f"--resolution {resolution}: it is that of --cache BACKBONE. Name a backbone, or leave it out.")
    if check and (cache or again):
        raise UserError("--check writes nothing: leave out --cache and --again, or --check.")
    if allow_download and data_root:
        data_root.mkdir(parents=True, exist_ok=True)
    name, chosen = make_task(task, task_set, data_root)
    shape = choose_backbone(cache, None, resolution, chosen.resolution).image_shape if cache else None
    if allow_download:
        _download(name, chosen, progress)
    if check:
        progress.say(f"{name}: {chosen.check(progress):,} images, no problems found")
        return
    store, inputs = Store(work_dir, progress.say), prepare_inputs(name, chosen)
    replaced = again and store.folder("prepare", inputs).exists()
    folder = store.run("prepare", inputs, lambda partial: chosen.prepare(partial, progress), again=again)
    if replaced:
        progress.say(
            f"stages and results that used the images as they were are not recomputed by themselves: if any has "
            f"changed, remove {work_dir} and the task's results."
        )
    if shape and cache_dir:
        _cache_apart(chosen, shape, folder, resolved(cache_dir) / "prepare" / folder.name, progress)
    elif shape:
        chosen.cache(folder, shape, progress)
    if data_root and chosen.layout:
        try:
            progress.say(f"{remember(name, data_root)}: remembers {data_root} for {name}")
        except UserError as error:
            progress.say(f"{data_root} is not remembered, so name it with --data-root again: {error}")
    progress.say(f"{name}: prepared in {folder}")


def _cache_apart(
    chosen: Task[TaskSettings], shape: tuple[int, int, int], folder: Path, apart: Path, progress: Progress
) -> None:
    """Keep the images that the prepared ``folder`` would keep in the folder ``apart``, which links in it lead to.

    Where ``apart`` is not there any more, or not on this machine, images are read from the download again.
    """
    from grasp_bench.io import writing
    from grasp_bench.locks import held

    def wait(holder: str) -> None:
        progress.say(f"waiting for {holder}, which fills {apart}")

    with held(folder.with_suffix(".cache-lock"), wait), held(apart.with_suffix(".lock"), wait):
        with writing(apart):
            apart.mkdir(parents=True, exist_ok=True)
            _link([path for path in folder.iterdir() if not path.is_symlink()], apart)
        chosen.cache(apart, shape, progress)
        with writing(folder):
            _link([path for path in apart.iterdir() if not path.is_symlink()], folder)


def _link(paths: list[Path], folder: Path) -> None:
    """Put links to ``paths`` into ``folder``, in the place of what has their names; locks stay where they are."""
    for path in paths:
        if path.suffix != ".lock":
            (folder / path.name).unlink(missing_ok=True)
            (folder / path.name).symlink_to(resolved(path))


def _download(name: str, chosen: Task[TaskSettings], progress: Progress) -> None:
    if not chosen.downloads:
        raise UserError(
            f"--allow-download: task {name} cannot be downloaded; `grasp-bench show {name}` says where to get it."
        )
    progress.say(f"downloading {name} into {chosen.data}")
    try:
        chosen.download()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{name} could not be downloaded ({error}). Try again, or unpack it there yourself.") from error

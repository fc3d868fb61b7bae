"""``grasp-bench sample``: a picture of what a run or an exported model generates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.bounds import MOST_DRAWS, MOST_STEPS
from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from grasp_bench.export.pipeline import FineTunedPipeline


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, its record.json, or an exported folder.")],
    out: Annotated[Path, typer.Option(metavar="GRID.png", help="The picture, one row per class.")],
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Prompt of every row; each class's own if absent. One that is no class's prompt needs --class."
        ),
    ] = None,
    class_: Annotated[
        list[str], typer.Option("--class", metavar="NAME", help="A class; repeatable; all classes if absent.")
    ] = [],  # noqa: B006 # typer reads it, nothing changes it
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=MOST_DRAWS, help="Images per class.")] = 8,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the noise; the run's own, which gives its first images, if absent."),
    ] = None,
    guidance: Annotated[
        str | None, typer.Option(help="Guidance; the run's own if absent.", autocompletion=completion.names("guidance"))
    ] = None,
    guidance_set: shared.GuidanceSettings = [],  # noqa: B006 # as above
    steps: Annotated[
        int | None, typer.Option(min=1, max=MOST_STEPS, help="Sampling steps; the run's own number if absent.")
    ] = None,
    work_dir: shared.WorkDir = shared.WORK_DIR,
    backbone: shared.RunBackbone = None,
    task: shared.TaskFile = None,
    data_root: shared.RunDataRoot = None,
    device: shared.Device = "auto",
    batch_size: shared.BatchSize = 100,
    threads: shared.Threads = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Generate images of classes and write them as one picture with a row per class.

    Each class has its own noise and, with methods that route, its own adapter. A prompt that is no class's own
    therefore needs --class, which says whose noise and adapter are used.
    """
    from grasp_bench.cli.outputs import check_replaceable, has_mark, mark_of, tell_written
    from grasp_bench.run.pictures import write_grid

    if out.suffix != ".png":
        raise UserError(f"--out {out}: expected a name that ends in .png.")
    check_replaceable(out, "sample", has_mark("sample"))
    settings = _assignments(guidance_set)
    pipeline = _pipeline(run, work_dir, backbone, task, data_root, device)
    manifest = pipeline.manifest
    every = [info.name for info in manifest.classes]
    asked: list[str | None] = [*dict.fromkeys(class_)] or ([None] if prompt is not None else [*every])
    shown = [manifest.classes[pipeline.class_index(prompt, name)] for name in asked]
    rows, progress = [], shared.told(quiet, verbose)
    with progress.task("sample", len(shown) * number) as advance:
        for info in shown:
            images = pipeline.sample(prompt, info.name, number, seed, steps, guidance, settings, batch_size, threads)
            rows.append((f"{info.name}  {info.group} ({info.train_count})", images.numpy()))
            advance(number)
    title = f"{manifest.label} on {manifest.task_label}, seed {manifest.spec.seed if seed is None else seed}"
    write_grid(out, rows, f"{title}: {prompt or 'class, group (training images)'}", mark_of("sample"))
    tell_written(out)


def _pipeline(
    run: Path, work_dir: Path, backbone: str | None, task: Path | None, data_root: Path | None, device: str
) -> FineTunedPipeline:
    """Return the pipeline of an exported folder, or of a run's record and its work folder."""
    from grasp_bench.export.manifest import MANIFEST, manifest_of
    from grasp_bench.export.restore import finished_record, plan_of, trained_weights
    from grasp_bench.processes import pick_device

    if (run / MANIFEST).exists():
        for option, given in (("--task", task), ("--data-root", data_root)):
            if given is not None:
                raise UserError(
                    f"{option} {given}: {run} is an exported folder, which knows its classes. Leave it out."
                )
        from grasp_bench.export.pipeline import load

        return load(run, backbone, device)
    where = pick_device(device)
    _, record = finished_record(run)
    plan = plan_of(record, task, backbone, data_root)
    weights = trained_weights(plan, record, work_dir)
    from grasp_bench.export.pipeline import FineTunedPipeline

    pipeline = FineTunedPipeline.assemble(manifest_of(plan, record, weights), weights, plan.backbone)
    return pipeline.to(where)  # type: ignore[no-any-return] # diffusers' own


def _assignments(settings: list[str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` strings as a mapping. Raises :class:`UserError` for other strings and repeated names."""
    found: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--guidance-set {setting!r}: expected NAME=VALUE, for example guidance_scale=2.")
        if name in found:
            raise UserError(f"--guidance-set: {name} is set twice ({found[name]!r} and {value!r}); keep one.")
        found[name] = value
    return found

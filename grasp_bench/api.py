"""The functions behind ``grasp_bench.run``, ``evaluate``, ``score`` and ``load``: the command line, for scripts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from grasp_bench.bounds import LARGEST_INTEGER, MOST_DRAWS
from grasp_bench.contracts.spec import STANDARD
from grasp_bench.errors import UserError, other_form
from grasp_bench.text import counted

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from grasp_bench.contracts.record import RunRecord
    from grasp_bench.data.features import FeatureSet
    from grasp_bench.export.pipeline import FineTunedPipeline

    FilePath = str | os.PathLike[str]
    Values = Mapping[str, str | int | float | bool | Sequence[str]]
    Features = np.ndarray | FilePath


def run(
    method: str,
    task: FilePath,
    *,
    seed: int = 0,
    guidance: str | None = None,
    backbone: str | None = None,
    resolution: int | None = None,
    budget: FilePath = STANDARD,
    method_settings: Values | None = None,
    guidance_settings: Values | None = None,
    task_settings: Values | None = None,
    tuned: bool = False,
    data_root: FilePath | None = None,
    allow_download: bool = False,
    results: FilePath = "results",
    work_dir: FilePath = ".grasp-bench",
    cache_dir: FilePath | None = None,
    device: str = "auto",
    batch_size: int = 100,
    accumulate: int | Literal["auto"] = "auto",
    gradient_checkpointing: bool | Literal["auto"] = "auto",
    compile: bool = False,
    threads: int | None = None,
    quiet: bool = False,
) -> RunRecord:
    """Fine-tune a method on a task, generate images, score them, and write and return the record.

    Does what ``grasp-bench run`` does, with the same names: a finished run returns its record at once, and an
    interrupted one is resumed from its last checkpoint.

    Args:
        method: Name of a method, as ``grasp-bench list methods`` prints it.
        task: Name of a task, or the path of the TOML file that describes one.
        seed: Seed of data order, noise, initial weights and sampling.
        guidance: Name of a guidance; the task's default if None.
        backbone: Name of a backbone, or ``NAME:FOLDER`` of its weights; the task's default if None.
        resolution: Pixels a side of images, of those that the backbone supports; the task's or its own if None.
        budget: ``"standard"``, ``"lite"`` for about a twentieth of it, ``"smoke"`` to see that everything runs, or
            the path of a TOML file.
        method_settings: Settings of the method that differ from their defaults (``--set``).
        guidance_settings: Settings of the guidance (``--guidance-set``).
        task_settings: Settings of the task (``--task-set``); they make a table of its own.
        tuned: Whether to use the settings that ``grasp-bench tune`` chose; ``method_settings`` take precedence.
        data_root: Folder of the task's download, of a task that needs one.
        allow_download: Whether a backbone that is not on this machine may be fetched from the hub.
        results: Folder of the records.
        work_dir: Folder of stages and checkpoints, which later runs reuse.
        cache_dir: Folder of caches, such as latents, which may vanish between runs; the work folder if None.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        batch_size: Images generated at a time; changes no image.
        accumulate: Forward and backward passes over which a training step's batch is split, which saves memory;
            ``"auto"``: as few as fit on a GPU, and one on the CPU.
        gradient_checkpointing: Whether to recompute activations in the backward pass, which saves memory; ``"auto"``:
            where a step does not fit on a GPU otherwise.
        compile: Whether to compile the transformer for training.
        threads: Threads of the CPU that torch takes during the run; if None, $OMP_NUM_THREADS, else one for a tiny
            backbone and as many as before for others. Afterwards it takes as many as before.
        quiet: Whether to print no progress.

    Returns:
        The record, whose ``status`` is "finished", or "skipped" with the reason where the method does not apply.

    Raises:
        UserError: For whatever is unknown, out of bounds or missing; the message says how to fix it.
    """
    from rich.console import Console

    from grasp_bench.contracts.progress import Progress
    from grasp_bench.run.options import Options
    from grasp_bench.run.plan import plan
    from grasp_bench.run.runner import check
    from grasp_bench.run.runner import run as carry_out
    from grasp_bench.tuning.chosen import with_tuned

    _check_numbers(seed=(seed, 0, LARGEST_INTEGER), batch_size=(batch_size, 1, LARGEST_INTEGER))
    _check_numbers(accumulate=(None if accumulate == "auto" else accumulate, 1, LARGEST_INTEGER))
    progress = Progress(Console(quiet=True)) if quiet else Progress()
    options = Options(
        Path(results),
        Path(work_dir),
        device,
        batch_size,
        gradient_checkpointing=gradient_checkpointing,
        accumulate=accumulate,
        compile=compile,
        cache_dir=Path(cache_dir) if cache_dir is not None else None,
        threads=threads,
    )
    planned = plan(
        method=method,
        task=os.fspath(task),
        seed=seed,
        guidance=guidance,
        backbone=backbone,
        resolution=resolution,
        budget=os.fspath(budget),
        method_settings=_assignments(method_settings),
        guidance_settings=_assignments(guidance_settings),
        task_settings=_assignments(task_settings),
        data_root=Path(data_root) if data_root is not None else None,
        download=progress.say if allow_download else None,
    )
    if tuned:
        planned = with_tuned(planned, options.results)
    check(planned, options, 1)
    return carry_out(planned, options, progress)[1]


def evaluate(
    images: FilePath | Callable[[str, str, int, int], Any],
    task: FilePath,
    name: str,
    *,
    seed: int = 0,
    labels: FilePath | None = None,
    enlarge: bool = False,
    declared: Mapping[str, str | int | float] | FilePath | None = None,
    backbone: str | None = None,
    resolution: int | None = None,
    budget: FilePath = STANDARD,
    task_settings: Values | None = None,
    data_root: FilePath | None = None,
    results: FilePath = "results",
    work_dir: FilePath = ".grasp-bench",
    device: str = "auto",
    threads: int | None = None,
    quiet: bool = False,
) -> RunRecord:
    """Score images that were made elsewhere like those of a run, and write and return a record of the open division.

    Does what ``grasp-bench evaluate --images`` does.

    Args:
        images: Folder of images, as for ``--images``; or a function of a prompt, a class's name, a number n and the
            seed that returns n images of the class: an array in uint8, (n, H, W) or (n, H, W, 3), or n pictures of
            Pillow's. It is called once per class.
        task: Name of a task, or the path of the TOML file that describes one.
        name: Name of the row, as in ``"my-lora"``.
        seed: Seed of the task's split, of classifiers, and of the choice among too many images.
        labels: CSV file (id,label) with the class of every image, of a flat folder; where images have several labels,
            with (file,labels,focus) in their place.
        enlarge: Whether images smaller than those that are scored are accepted.
        declared: Facts on how the images were made, or the TOML file that ``grasp-bench new entry`` wrote.
        backbone: Whose table the row stands in; the task's default if None.
        resolution: Pixels a side of the images that are scored, of those that the backbone supports.
        budget: Name of the table's budget, or the path of a TOML file.
        task_settings: Settings of the task (``--task-set``).
        data_root: Folder of the task's download, of a task that needs one.
        results: Folder of the records.
        work_dir: Folder of stages, which later evaluations reuse.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        threads: Threads of the CPU that torch takes meanwhile, as for :func:`run`.
        quiet: Whether to print no progress.

    Returns:
        The record, whose ``division`` is "open".

    Raises:
        UserError: With everything that is wrong with the images; the message says how to fix it.
    """
    from rich.console import Console

    from grasp_bench.contracts.entry import facts_of
    from grasp_bench.contracts.progress import Progress
    from grasp_bench.run.entry.evaluate import Table, entry_of_images, evaluate_entry
    from grasp_bench.run.entry.sampled import sampled
    from grasp_bench.run.options import Options

    _check_numbers(seed=(seed, 0, LARGEST_INTEGER))
    progress = Progress(Console(quiet=True)) if quiet else Progress()
    root = Path(data_root) if data_root is not None else None
    table = Table(
        os.fspath(task), seed, backbone, resolution, os.fspath(budget), tuple(_assignments(task_settings)), root
    )
    options = Options(Path(results), Path(work_dir), device, threads=threads)
    facts = facts_of(declared)
    with sampled(images, table, options.work_dir, progress) as folder:
        own = Path(labels) if labels is not None else None
        entry = entry_of_images(name, folder, own, enlarge, facts, table, progress)
        return evaluate_entry(entry, table, options, progress)[1]


def score(
    real: Features,
    generated: Features,
    *,
    real_labels: Sequence[str | int] | None = None,
    generated_labels: Sequence[str | int] | None = None,
    train: Features | None = None,
    train_labels: Sequence[str | int] | None = None,
    groups: Mapping[str, Sequence[str | int]] | None = None,
    metrics: Sequence[str] | None = None,
    n: int | None = None,
    draws: int = 20,
    k: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Score features of generated images against those of real ones, every group of classes at equal counts.

    Computes what ``grasp-bench score`` and every run compute, from features that are already extracted.

    Args:
        real: Features of real images, (n, d), or a file of features (``.npz``, ``.safetensors``).
        generated: Features of generated images, likewise.
        real_labels: Class of each real image; those of the file if None. Without labels all images are one class.
        generated_labels: Class of each generated image, likewise.
        train: Features of the training images, for metrics that look at them.
        train_labels: Class of each training image.
        groups: Group → its classes; only all classes together if None.
        metrics: Names of metrics, as ``grasp-bench list metrics`` prints them; all that apply if None.
        n: Images per group and side; as many as every group can give if None.
        draws: Draws of equal counts that a score is the mean of.
        k: Neighbours behind precision, recall, density and coverage.
        seed: Seed of the draws.

    Returns:
        A row per metric, group and class with the columns of :func:`grasp_bench.load_results`: ``metric``,
        ``metric_version``, ``metric_label``, ``direction``, ``scope``, ``group``, ``value``, ``n``, ``reference``,
        ``low``, ``high``, ``unit`` and ``worst``. The ends are percentiles over draws, which share most of their
        images, as the unit, "equal-count draw", says: no interval of anything.

    Raises:
        UserError: For an unknown metric or class, an empty group, a number out of bounds, labels of some sets alone,
            and a damaged file.
        ValueError: For features that a metric is not defined for.
    """
    import numpy as np
    import pandas as pd

    from grasp_bench.contracts.record import DRAW
    from grasp_bench.metrics.labelled import LabelledFeatures
    from grasp_bench.metrics.protocol import Protocol
    from grasp_bench.metrics.registry import chosen, feature_metrics
    from grasp_bench.metrics.scoring import group_scores

    _check_numbers(n=(n, 1, LARGEST_INTEGER), draws=(draws, 1, MOST_DRAWS), k=(k, 1, MOST_DRAWS))
    _check_numbers(seed=(seed, 0, LARGEST_INTEGER))
    sets = [_feature_set(real, real_labels), _feature_set(generated, generated_labels)]
    sets += [] if train is None else [_feature_set(train, train_labels)]
    if len({each.labels is None for each in sets}) > 1:
        raise UserError("some sets have labels and others have none. Give labels of all sets, or of none.")
    names = sorted({name for each in sets for name in each.labels or ["all"]})
    index = {name: number for number, name in enumerate(names)}
    if empty := [group for group, each_of in (groups or {}).items() if not len(each_of)]:
        raise UserError(f"groups, {empty[0]}: holds no class. Name one or leave the group out.")
    if "all" in (groups or {}):
        raise UserError('groups: no group may be called "all": it stands for every class.')
    members = {
        group: np.array([_index(index, group, each) for each in each_of]) for group, each_of in (groups or {}).items()
    }
    labelled = [
        LabelledFeatures(
            each.features,
            np.array([index[name] for name in each.labels or ["all"] * len(each.features)]),
            each.ids or [hashlib.sha256(row.tobytes()).hexdigest() for row in each.features],
        )
        for each in sets
    ]
    applicable = (metric for metric in feature_metrics() if train is not None or not metric.train_minimum)
    asked = tuple(applicable) if metrics is None else chosen(metrics)
    protocol = Protocol(asked, n, draws, k, 0, seed)
    real_images, generated_images, *training = labelled
    members["all"] = np.arange(len(names))
    of_training = training[0] if training else None
    scores = group_scores(real_images, generated_images, names, members, protocol, of_training)
    columns = ("metric", "metric_version", "metric_label", "direction", "scope", "group")
    numbers = ("value", "n", "reference", "low", "high")
    rows = []
    for each in scores:
        metric, own = each.metric, (getattr(each, name) for name in numbers)
        unit = None if each.value is None else DRAW
        named = (metric.name, metric.version, metric.label, metric.direction, each.scope, each.name)
        rows.append((*named, *own, unit, each.worst))
    found = pd.DataFrame(rows, columns=[*columns, *numbers, "unit", "worst"])
    return found.astype(dict.fromkeys(("value", "reference", "low", "high"), float))


def load(folder: FilePath, backbone: str | None = None, device: str = "auto") -> FineTunedPipeline:
    """Load what ``grasp-bench export`` wrote as a pipeline of diffusers.

    Args:
        folder: The exported folder.
        backbone: The pretrained weights where they are files of the user's, as in ``"sd3:/models/sd3.5-medium"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Returns:
        The pretrained pipeline with the trained method attached.

    Raises:
        UserError: Where the folder is damaged or the backbone is of another revision.
    """
    from grasp_bench.export.pipeline import load as load_folder

    return load_folder(Path(folder), backbone, device)


def _feature_set(found: Features, labels: Sequence[str | int] | None) -> FeatureSet:
    """Return features with their labels as text. Raises :class:`UserError` where their numbers differ."""
    import numpy as np

    from grasp_bench.data.features import FeatureSet, read_features

    read = FeatureSet(np.asarray(found, float)) if isinstance(found, np.ndarray) else read_features(Path(found))
    names = read.labels if labels is None else [str(label) for label in labels]
    if names is not None and len(names) != len(read.features):
        raise UserError(
            f"{counted(len(names), 'label')} for {counted(len(read.features), 'image')}. Give one label per image."
        )
    return FeatureSet(read.features, names, read.ids)


def _check_numbers(**asked: tuple[int | None, int, int]) -> None:
    """Raise :class:`UserError` for a number that is not whole or not from the least to the most; None is none."""
    for name, (number, least, most) in asked.items():
        if number is not None and not (isinstance(number, Integral) and least <= number <= most):
            raise UserError(f"{name}: expected a whole number from {least} to {most}.")


def _index(index: Mapping[str, int], group: str, name: str | int) -> int:
    if str(name) not in index:
        hint = other_form([str(name)], index)
        raise UserError(f"groups, {group}: no image is of class {name!r}.{hint} The classes are: {', '.join(index)}.")
    return index[str(name)]


def _assignments(settings: Values | None) -> list[str]:
    return [
        f"{name}={','.join(value) if isinstance(value, list | tuple) else value}"
        for name, value in (settings or {}).items()
    ]

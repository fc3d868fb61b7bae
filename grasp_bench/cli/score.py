"""``grasp-bench score``: generated images against real ones, for each group of classes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.bounds import MOST_DRAWS, is_count
from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from grasp_bench.cli.score_input import Source
    from grasp_bench.contracts.extractor import PretrainedExtractor
    from grasp_bench.contracts.metric import FeatureMetric
    from grasp_bench.metrics.protocol import Protocol

ROLES = ("real", "fake", "train")
"""What the sets of images are, in names of files of features."""


def score(
    real: Annotated[
        Path,
        typer.Argument(metavar="REAL", help="Real images: a folder, .npz, or .safetensors; left out with --task."),
    ],
    fake: Annotated[
        Path | None, typer.Argument(metavar="FAKE", help="Generated images, in any of the same forms.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            "-t",
            help="Compare with a task's test images, groups and training images, in its first extractor.",
            autocompletion=completion.names("tasks"),
        ),
    ] = None,
    work_dir: shared.WorkDir = shared.WORK_DIR,
    extractor: Annotated[
        str | None,
        typer.Option(
            help="See `grasp-bench list extractors`; for images inception if absent.",
            autocompletion=completion.names("extractors"),
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The extractor's weights.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV (id,label) for all sets; an id may occur in one of them only.")
    ] = None,
    real_labels: Annotated[Path | None, typer.Option(help="CSV (id,label) for REAL.")] = None,
    fake_labels: Annotated[Path | None, typer.Option(help="CSV (id,label) for FAKE.")] = None,
    train_labels: Annotated[Path | None, typer.Option(help="CSV (id,label) for --train.")] = None,
    groups: Annotated[Path | None, typer.Option(help="CSV (class,group).")] = None,
    head_above: Annotated[int | None, typer.Option(min=0, help="Head: classes with more REAL images.")] = None,
    tail_below: Annotated[int | None, typer.Option(min=0, help="Tail: classes with fewer REAL images.")] = None,
    train: Annotated[
        Path | None, typer.Option(help="Training images, for IRS and authenticity; without them IRS uses half of REAL.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Names or families, as in fd,kid,prdc; see `grasp-bench list metrics`. If absent, all that a run has; "
            "authenticity needs --train.",
            autocompletion=completion.metrics,
        ),
    ] = None,
    near: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="With --train: list generated images nearer to a training image than this many times the distance to "
            "that image's own nearest neighbour; 0.1 if absent, 0: equal ones alone.",
        ),
    ] = None,
    n_equal: Annotated[str, typer.Option(metavar="auto|N", help="Images of each kind for every group.")] = "auto",
    draws: Annotated[int, typer.Option(min=1, max=MOST_DRAWS, help="Equal-count draws.")] = 20,
    k: Annotated[
        int, typer.Option(min=1, max=MOST_DRAWS, help="Neighbours behind precision, recall, density and coverage.")
    ] = 5,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_DRAWS,
            help="Resamples behind a 95 % interval, each without a fifth of the images, or of clusters; 0 for none.",
        ),
    ] = 0,
    cluster_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Column of a labels file: its values are the units to resample, as patient_id."
        ),
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Print a row for every class, too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of draws and resamples, and of the task's split.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images extracted at a time; changes no score.")] = 64,
    device: Annotated[str, typer.Option(help="For the extractor: auto, cpu, cuda or cuda:N.")] = "cpu",
    cache_dir: Annotated[Path, typer.Option(help="Where extracted features are kept.")] = Path(".grasp-bench/features"),
    threads: shared.Threads = None,
    json_path: shared.Json = None,
    features_out: Annotated[
        Path | None, typer.Option(help="f.safetensors: write f.real.safetensors and f.fake.safetensors.")
    ] = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Score FAKE against REAL: every group at equal counts, beside what held-out real images score."""
    from grasp_bench.cli.output import console, styled
    from grasp_bench.cli.outputs import check_json, check_replaceable, write_outcome
    from grasp_bench.cli.score_input import classes_of, features_of
    from grasp_bench.cli.score_report import Comparison, compare
    from grasp_bench.data.features import FeatureSet, may_be_written_features, write_features
    from grasp_bench.metrics.memorisation import NEAR
    from grasp_bench.metrics.protocol import Protocol
    from grasp_bench.results.formats import terminal
    from grasp_bench.run.threads import threads_taken

    chosen = _metrics(metrics, train is not None or task is not None)
    copies = any(metric.train_minimum for metric in chosen)
    if n_equal != "auto" and (not is_count(n_equal) or int(n_equal) < 2):
        raise UserError(f"--n-equal {n_equal}: expected auto or a number of images from 2.")
    protocol = Protocol(chosen, None if n_equal == "auto" else int(n_equal), draws, k, bootstrap, seed)
    if cluster_by and not bootstrap:
        raise UserError(f"--cluster-by {cluster_by}: there is nothing to resample without --bootstrap N, such as 1000.")
    if features_out and features_out.suffix != ".safetensors":
        raise UserError(f"--features-out {features_out}: expected a name that ends in .safetensors.")
    if near is not None and not copies:
        raise UserError(f"--near {near}: copies are of training images. Add --train, and authenticity to --metrics.")
    check_json(json_path, "score")
    kept = [features_out.with_suffix(f".{role}.safetensors") for role in ROLES] if features_out else []
    for path in kept:
        check_replaceable(path, "score", may_be_written_features)
    progress = shared.told(quiet, verbose)
    if task is not None:
        from grasp_bench.cli.score_task import refuse, sources_of
        from grasp_bench.run.entry.evaluate import Table
        from grasp_bench.run.options import Options

        own: dict[str, object] = {"--extractor": extractor, "--weights": weights, "--train": train, "--groups": groups}
        own |= {"--head-above": head_above, "--tail-below": tail_below, "--train-labels": train_labels}
        refuse(task, own | {"--real-labels": real_labels, "--labels": labels})
        table = Table(task, seed)
        options = Options(work_dir, work_dir, device, threads=threads)
        against, generated = (None, real) if fake is None else (real, fake)
        sources, names, members = sources_of(table, against, generated, fake_labels, options, progress)
    elif fake is None:
        raise UserError(f"{real}: expected REAL and FAKE, or --task T and FAKE alone.")
    else:
        own_labels = (real_labels, fake_labels, train_labels)
        sources = _open({"REAL": real, "FAKE": fake, "--train": train}, labels, own_labels)
        names, members = classes_of(sources, groups, (head_above, tail_below), per_class)
    if all(isinstance(each.held, FeatureSet) for each in sources) and (extractor or weights):
        option = "--extractor" if extractor else "--weights"
        raise UserError(f"{option}: {real} and {fake} hold features, not images: nothing is extracted. Leave it out.")
    _check_counts(sources, names, members, protocol)

    def resolve() -> PretrainedExtractor:
        from grasp_bench.extractors import resolve_extractor
        from grasp_bench.processes import pick_device

        return resolve_extractor(extractor or "inception", weights).to(str(pick_device(device)))

    with threads_taken(threads, None):
        sets, identity = features_of(sources, resolve, cache_dir, batch_size, progress)
    for path, found in zip(kept, sets, strict=False):
        write_features(path, found)
    ratio = (NEAR if near is None else near) if copies else None
    comparison = Comparison(sources, sets, names, members, protocol, identity, cluster_by, ratio)
    section, payload = compare(comparison, per_class, progress)
    there = console()
    sys.stdout.write(terminal([section], there.width, styled(there)))
    write_outcome(json_path, "score", payload)


def _metrics(asked: str | None, trained: bool) -> tuple[FeatureMetric, ...]:
    from grasp_bench.metrics.registry import chosen, feature_metrics

    if asked is None:
        return tuple(metric for metric in feature_metrics() if trained or not metric.train_minimum)
    metrics = chosen(name.strip() for name in asked.split(","))
    for metric in metrics:
        if metric.train_minimum and not trained:
            raise UserError(f"--metrics {metric.name}: it compares with training images. Add --train.")
    if trained and not any(metric.uses_train for metric in metrics):
        raise UserError("--train: none of the --metrics looks at training images. Add irs or authenticity.")
    return metrics


def _open(paths: dict[str, Path | None], shared: Path | None, own: tuple[Path | None, ...]) -> list[Source]:
    """The sets that are given, by their role, with the labels of a file for all or of their own."""
    from grasp_bench.cli.score_input import open_source, share_labels

    if shared and any(own):
        raise UserError(
            "--labels is for all sets, --real-labels, --fake-labels and --train-labels for one each. Give either."
        )
    if own[2] and not paths["--train"]:
        raise UserError(f"--train-labels {own[2]}: there are no training images. Add --train.")
    sources = [open_source(role, path, each) for (role, path), each in zip(paths.items(), own, strict=True) if path]
    if not shared:
        return sources
    labelled = [each for each in sources if each.role == "--train" and each.labels is not None]
    return share_labels(shared, [each for each in sources if each not in labelled]) + labelled


def _check_counts(sources: list[Source], names: list[str], members: dict[str, np.ndarray], protocol: Protocol) -> None:
    """Raise :class:`UserError` where images are too few, before anything is extracted."""
    import numpy as np

    from grasp_bench.cli.score_input import indices_of
    from grasp_bench.metrics.groups import require

    counts = [np.bincount(indices_of(each, names), minlength=len(names)) for each in sources]
    try:
        require(counts[0], counts[1], names, members, protocol)
    except ValueError as error:
        raise UserError(f"too few images: {error}") from error
    least = max(1, *(metric.train_minimum for metric in protocol.metrics))
    if len(sources) > 2 and (counts[2] < least).any():
        rarest = int(np.argmin(counts[2]))
        raise UserError(
            f"{sources[2]}: class {names[rarest]!r} has {counts[2][rarest]} training images, at least {least} are "
            "needed. Add some, or leave out of --metrics what needs them."
        )

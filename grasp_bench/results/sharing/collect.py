"""From finished runs to a pack: records, logs and pictures, and the features from which the scores were computed.

A pack of a private task (``Task.private``) holds nothing that may show a patient's data: no features, neither of real
images nor of generated ones, which may be copies of real ones; no predictions for real images; no pictures; no table of
near duplicates. It holds the record, the training log and the scores of the classes, so it can be checked for the
rules, but its scores cannot be recomputed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from grasp_bench.contracts import record_v1
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RECORD_NAME, RunRecord, Score
from grasp_bench.contracts.task import Dataset
from grasp_bench.errors import UserError
from grasp_bench.export.restore import command, finished_record, plan_of
from grasp_bench.io import file_digest
from grasp_bench.results.sharing.archive import write_archive
from grasp_bench.results.sharing.manifest import (
    KINDS,
    MANIFEST,
    MEMBER,
    SETS,
    TESTS,
    Manifest,
    Member,
    PackedRun,
    features_of,
    folder_of,
    input_name,
)
from grasp_bench.results.sharing.place import default_path, replaces_a_pack
from grasp_bench.results.sharing.runs import check_current, with_data
from grasp_bench.run import files as stage_files
from grasp_bench.run.context import Context
from grasp_bench.run.files import TRAIN_LOG
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline, stage_inputs
from grasp_bench.run.plan import RULES_VERSION, Plan
from grasp_bench.run.stages.classify import SOURCES
from grasp_bench.run.store import Store
from grasp_bench.version import VERSION

PUBLISHED = (RECORD_NAME, TRAIN_LOG, stage_files.CLASSES)
"""Files of a private task's run that are packed: they hold means over many images, and name and show none."""

Content = Path | bytes
"""The content of a member, or the file that has it."""


@dataclass(frozen=True)
class Packed:
    """A pack, as it was written."""

    path: Path
    manifest: Manifest
    runs: list[RunRecord]
    left_out: dict[str, list[str]]
    """Run id of a private task's run → its files that are not in the pack."""
    replaced: bool
    """Whether it replaced an older pack."""


def submit(
    runs: list[Path],
    out: Path | None,
    work_dir: Path,
    task: Path | None = None,
    backbone: str | None = None,
    data_root: Path | None = None,
) -> Packed:
    """Write the runs to the pack ``out``, by default :func:`default_path`.

    ``task``, ``backbone`` and ``data_root`` are those of :func:`plan_of`. Equal runs give equal bytes. Raises
    :class:`UserError` for a run that is not finished, given twice or of another version, for missing features, with the
    command that computes them, and if ``out`` exists and is not a pack.
    """
    found = [finished_record(run, or_open=True) for run in runs]
    out = out or default_path([record for _, record in found])
    replaced = replaces_a_pack(out)
    members: dict[str, Content] = {}
    packed: list[PackedRun] = []
    records: list[RunRecord] = []
    left_out: dict[str, list[str]] = {}
    for run, (path, record) in zip(runs, found, strict=True):
        if any(record.run_id == other.run_id for other in records):
            raise UserError(f"{run}: the run {record.run_id[:12]} is given twice. Name it once.")
        plan = plan_of(record, task, backbone, data_root)
        check_current(run, plan, record)
        private = plan.private
        names_of = [RECORD_NAME, *(name for name in record.files if not private or name in PUBLISHED)]
        files = _files(path.parent, record, names_of)
        inputs = {} if private else _inputs(with_data(plan, data_root), path, record, work_dir)
        names = {name: input_name(name, record.stages) for name in inputs}
        places = {name: f"{folder_of(record.run_id)}/{name}" for name in files}
        members |= {places[name]: content for name, content in files.items()}
        members |= {names[name]: content for name, content in inputs.items()}
        packed.append(
            PackedRun(
                run_id=record.run_id,
                private=private,
                classes=plan.task.classes(),
                extractors=list(plan.task.extractors),
                label_sets=plan.task.label_sets if plan.task.multilabel else None,
                files=places,
                inputs=names,
            )
        )
        records.append(record)
        if private:
            left_out[record.run_id] = [name for name in record.files if name not in PUBLISHED]
    manifest = Manifest(
        grasp_bench=VERSION,
        rules=RULES_VERSION,
        runs=sorted(packed, key=lambda run: run.run_id),
        members={name: _member(content) for name, content in sorted(members.items())},
    )
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_archive(out, {**members, MANIFEST: text.encode()})
    return Packed(out, manifest, records, left_out, replaced)


def _files(folder: Path, record: RunRecord, names: Iterable[str]) -> dict[str, Content]:
    """Return the record and the files beside it. Raises :class:`UserError` if one is missing or may not be packed."""
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: is missing. The same `grasp-bench run` writes it again.")
        if not MEMBER.fullmatch(f"{folder_of(record.run_id)}/{name}"):
            raise UserError(
                f"{folder / name}: a pack may not hold a file of this name. Expected letters, digits, _, . and -, "
                f"and one of the kinds {', '.join(KINDS)}."
            )
    return {name: folder / name for name in names}


def _inputs(plan: Plan, path: Path, record: RunRecord, work_dir: Path) -> dict[str, Content]:
    """Return what the run's scores are computed from."""
    import torch

    store, inputs = Store(work_dir, print), stage_inputs(plan)
    extracted = [stage for position in range(len(plan.extractors)) for stage in features_of(position).values()]
    needed = ["prepare", "generate", *extracted, *SOURCES.values(), "score"]
    if gone := [stage for stage in needed if not store.is_finished(stage, inputs[stage])]:
        raise UserError(
            f"{store.folder(gone[0], inputs[gone[0]])}: what the scores of {path.parent} were computed from is "
            "missing or damaged. This command computes it, and writes a new record to submit instead: "
            f"{command(plan, work_dir)}"
        )
    scores = json.loads((store.folder("score", inputs["score"]) / stage_files.METRICS).read_text())
    if [Score.model_validate(record_v1.score(each)) for each in scores] != record.scores:
        raise UserError(
            f"{path}: its scores are not those in {work_dir}: the run was made elsewhere, or "
            "the record was edited. Submit the record that was written with them, or rerun the run: "
            f"{command(plan, work_dir)}"
        )
    folders = {stage: store.folder(stage, inputs[stage]) for stage in needed}
    features = {stage: folders[stage] / stage_files.FEATURES for stage in extracted}
    probabilities = {stage: folders[stage] / stage_files.PROBABILITIES for stage in SOURCES.values()}
    context = Pipeline(plan, Options(path.parent, work_dir, device="cpu"), torch.device("cpu"), Progress())
    sets = {SETS: _sets(context)} if plan.task.multilabel else {}
    return {TESTS: _tests(context.data), **sets, **features, **probabilities}


def _tests(data: Dataset) -> bytes:
    """Return safetensors of the labels and, as numbers, the patients (n,) of every test set.

    Labels are class indices (n,), or of images that may have several which ones these have, bool (n, classes).
    """
    import numpy as np
    from safetensors.numpy import save

    tensors = {}
    for name, split in {"test": data.test, "balanced-test": data.balanced_test}.items():
        if split is not None:
            tensors[name] = np.ascontiguousarray(split.truth, np.int64 if split.sets is None else np.bool_)
            if split.patients is not None:
                tensors[f"{name}/patients"] = np.unique(split.patients, return_inverse=True)[1].astype(np.int64)
    return save(tensors)


def _sets(context: Context) -> bytes:
    """Return safetensors of which labels images have, bool (n, classes), by what :data:`FEATURES` calls them."""
    import numpy as np
    from safetensors.numpy import save

    splits = {"real": context.data.test, "fake": context.images, "train": context.data.train}
    return save({role: np.ascontiguousarray(split.truth, np.bool_) for role, split in splits.items()})


def _member(source: Content) -> Member:
    if isinstance(source, bytes):
        return Member(sha256=hashlib.sha256(source).hexdigest(), bytes=len(source))
    return Member(sha256=file_digest(source), bytes=source.stat().st_size)

"""Verification of a pack: its files, the rules, and the scores, recomputed from its features."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from grasp_bench.contracts import record_v1
from grasp_bench.contracts.record import RECORD_NAME, RunRecord, parse_record
from grasp_bench.errors import UserError, first_fault
from grasp_bench.io import file_digest
from grasp_bench.results.sharing.archive import Archive, escaped, open_archive
from grasp_bench.results.sharing.manifest import MANIFEST, Manifest, PackedRun, folder_of, input_name
from grasp_bench.results.sharing.recompute import read_inputs, recompute, score_differences, table_difference
from grasp_bench.results.sharing.rules import Check, Outcome, rule_checks, title_of
from grasp_bench.run.pipeline import STAGES, protocol, stage_keys
from grasp_bench.run.plan import RULES_VERSION, Plan, plan_of_spec
from grasp_bench.text import counted

if TYPE_CHECKING:
    import numpy as np

SHOWN = 5  # differences of one run in words
BEYOND = (
    "that the features are those of images that these methods generated after this training, and of the task's images",
    "that the images, real ones too, are of the classes, and of the patients, that the pack says",
    "that the classifiers behind the packed predictions were trained as they should, and on what they say",
    "what the runs cost, where and when they were made, the logs and the pictures",
)
"""Facts that no pack can show."""
DECLARED = (
    "the images are of the model that is declared, trained and sampled as is declared",
    "nobody chose the best of several generations of images, or trained on test images",
)
OPEN = "open division: it is declared, and neither a record nor features show it"


@dataclass(frozen=True)
class Verification:
    """The outcome of verifying a pack."""

    sha256: str
    """sha256 (hex) of the pack."""
    runs: list[str]
    checks: list[Check]

    def count(self, outcome: Outcome) -> int:
        """Return the number of checks with one outcome."""
        return sum(check.outcome == outcome for check in self.checks)


def verify(
    pack: Path,
    task: Path | None = None,
    backbone: str | None = None,
    data_root: Path | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Verification:
    """Check a pack; ``task``, ``backbone`` and ``data_root`` are those of :func:`plan_of_spec`.

    Raises :class:`UserError` for a file that is not a pack, or is not safe to read.
    """
    with open_archive(pack) as archive:
        manifest = read_manifest(archive)
        checks, sound = _file_checks(archive, manifest)
        records: dict[str, RunRecord] = {}
        resamples: dict[str, bool | None] = {}
        for run in manifest.runs:
            record, found = _read_record(archive, run, sound)
            checks += found
            if record is None:
                continue
            records[run.run_id] = record
            say(title_of(record))
            if record.division == "open":
                checks += [Check("unverifiable", title_of(record), what, OPEN) for what in DECLARED]
            plan, found = _identity_checks(record, run, task, backbone, data_root)
            checks += [*found, *_score_checks(archive, run, record, sound)]
            resamples[record.run_id] = None if plan is None else _resamples(plan, run)
        checks += rule_checks(list(records.values()), resamples)
    return Verification(file_digest(pack), [title_of(record) for record in records.values()], checks)


def read_manifest(archive: Archive) -> Manifest:
    """Return the manifest of a pack. Raises :class:`UserError` that names the fault."""
    try:
        manifest = Manifest.model_validate_json(archive.text(MANIFEST))
    except ValidationError as error:
        told = escaped(first_fault(error))
        raise UserError(f"{archive.path}: {MANIFEST} is not one this version reads: {told}.") from error
    ids = [folder_of(run.run_id) for run in manifest.runs]
    if len(set(ids)) < len(ids):
        raise UserError(f"{archive.path}: {MANIFEST} names a run twice.")
    return manifest


def _file_checks(archive: Archive, manifest: Manifest) -> tuple[list[Check], set[str]]:
    """Check that the pack holds what its manifest lists, byte for byte; also return the names of the sound files."""
    checks, sound = [], set[str]()
    for name, member in manifest.members.items():
        what = "is as the manifest lists it"
        if name not in archive.sizes:
            checks.append(Check("failed", escaped(name), what, "is not in the pack"))
        elif archive.sizes[name] != member.bytes:
            sizes = f"has {archive.sizes[name]:,} bytes, expected {member.bytes:,}"
            checks.append(Check("failed", name, what, sizes))
        else:
            try:
                found = archive.digest(name)
            except UserError as error:
                checks.append(Check("failed", name, what, str(error)))
                continue
            if found != member.sha256:
                checks.append(Check("failed", name, what, f"sha256 is {found[:12]}, expected {member.sha256[:12]}"))
            else:
                sound.add(name)
    unlisted = archive.sizes.keys() - manifest.members.keys() - {MANIFEST}
    used = {name for run in manifest.runs for name in (*run.files.values(), *run.inputs.values())}
    for name in sorted(unlisted | (manifest.members.keys() - used)):
        checks.append(Check("failed", escaped(name), "is part of a run", "no run in the manifest has it"))
    if not checks:
        checks.append(Check("passed", "the pack", f"{counted(len(sound), 'file')} as the manifest lists them"))
    same = manifest.rules == RULES_VERSION
    checks.append(
        Check(
            "passed" if same else "unverifiable",
            "the pack",
            f"the rules are those of this version ({RULES_VERSION})",
            "" if same else f"it was packed under {escaped(manifest.rules)}",
        )
    )
    return checks, sound


def _read_record(archive: Archive, run: PackedRun, sound: set[str]) -> tuple[RunRecord | None, list[Check]]:
    """Return a run's record, or None if it cannot be read, and check that the files of the run are there."""
    name = f"{folder_of(run.run_id)}/{RECORD_NAME}"
    if name not in archive.sizes:
        return None, [Check("failed", name, "is there", "the run has no record")]
    try:
        record = parse_record(archive.text(name))
    except (ValidationError, UserError) as error:
        told = first_fault(error) if isinstance(error, ValidationError) else str(error)
        return None, [Check("failed", name, "is a record that this version reads", escaped(told))]
    title, faults = title_of(record), []
    if record.run_id != run.run_id:
        faults.append(f"the record is of run {record.run_id[:12]}")
    if record.status != "finished":
        faults.append(f"it is {record.status}")
    expected = {each: f"{folder_of(run.run_id)}/{each}" for each in (RECORD_NAME, *record.files)}
    wrong = {each for each, member in run.files.items() if expected.get(each) != member}
    if wrong or (not run.private and run.files.keys() != expected.keys()):
        faults.append(f"its files are not those of its record: {escaped(', '.join(sorted(wrong) or expected))}")
    try:
        expected_inputs = [] if run.private else run.scored_from
        inputs = {each: input_name(each, record.stages) for each in expected_inputs}
    except KeyError as error:
        inputs = {}
        faults.append(f"its record has no stage {error}")
    if run.inputs != inputs:
        faults.append("its features are not those of its stages")
    outcome: Outcome = "failed" if faults else "passed"
    return record, [Check(outcome, title, "the record and its files belong together", "; ".join(faults))]


def _identity_checks(
    record: RunRecord, run: PackedRun, task: Path | None, backbone: str | None, data_root: Path | None
) -> tuple[Plan | None, list[Check]]:
    """Check that names, stages and classes are those of the specification, as far as this version knows its parts."""
    title, what = title_of(record), "specification, classes, stages and name are one run's"
    try:
        plan = replace(plan_of_spec(record.spec, task, backbone, data_root), metrics=record.metrics)
        classes = plan.task.classes()
    except UserError as error:
        return None, [Check("unverifiable", title, what, escaped(str(error)))]
    if plan.spec != record.spec or protocol(plan) != record.protocol:
        theirs, ours = (dict(each) for each in (record.protocol, protocol(plan)))
        apart = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)] or ["task"]
        return None, [Check("unverifiable", title, what, f"{escaped(', '.join(apart))}: of another version here")]
    named, private = replace(plan, tuned=record.tuned), plan.private
    faults = {
        f"the label is {escaped(record.label)}, the settings make it {escaped(named.label)}": record.label
        != named.label,
        f"the task is {escaped(record.task_label)}, expected {escaped(named.task_label)}": record.task_label
        != named.task_label,
        "the stages are not those of the specification": record.stages != stage_keys(plan),
        "classes, groups or counts are not those of the task": run.classes != classes,
        f"the extractor is {escaped(', '.join(run.extractors))}, the task's is {', '.join(plan.task.extractors)}": (
            run.extractors != list(plan.task.extractors)
        ),
        "how label sets are drawn is not the task's": run.label_sets
        != (plan.task.label_sets if plan.task.multilabel else None),
        f"the manifest says that its data are {'' if run.private else 'not '}private": run.private != private,
    }
    wrong = [fault for fault, holds in faults.items() if holds]
    outcome: Outcome = "failed" if wrong else "passed"
    dirty = [Check("provisional", title, "made from committed sources", "they differed from the commit")]
    return plan, [Check(outcome, title, what, "; ".join(wrong)), *(dirty if record.environment.git_dirty else [])]


def _score_checks(archive: Archive, run: PackedRun, record: RunRecord, sound: set[str]) -> list[Check]:
    """Check that the scores follow from the features."""
    title, what = title_of(record), f"{len(record.scores)} scores follow from the features"
    here = {"rules": RULES_VERSION, "score": str(STAGES["score"].version)}
    other = [
        f"{name} {escaped(record.protocol.get(name, 'none'))}"
        for name in here
        if record.protocol.get(name) != here[name]
    ]
    if run.private:
        return [Check("unverifiable", title, what, "the data are private, and no features are in the pack")]
    if other:
        return [Check("unverifiable", title, what, f"they were made under {', '.join(other)}; here are {here}")]
    if not set(run.scored_from) <= run.inputs.keys() or not set(run.inputs.values()) <= sound:
        return [Check("unverifiable", title, what, "not all of its features are there, or as the manifest lists them")]
    try:
        inputs = read_inputs(archive, run)
        per_class = _images_per_class(inputs.seen[0].fake.labels, run)
        found = recompute(inputs, run, record)
    except (UserError, ValueError, ArithmeticError) as error:
        return [Check("failed", title, what, escaped(str(error)))]
    budget, checks = record.spec.budget, []
    as_many = per_class == {budget.images_per_class}
    detail = "" if as_many else f"there are {sorted(per_class)}"
    many = f"{budget.images_per_class} images of every class{' on average' * (run.label_sets == 'natural')}"
    checks.append(Check("passed" if as_many else "failed", title, many, detail))
    faults, largest = score_differences(record.scores, found.scores)
    equal = "equal digit by digit" if largest == 0 else f"equal to rounding: at most {largest:.1e} apart"
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    detail = "; ".join(faults[:SHOWN]) + more if faults else equal
    checks.append(Check("failed" if faults else "passed", title, what, detail))
    return checks + [
        _table_check(archive, run, name, table) for name, table in found.tables.items() if name in run.files
    ]


def _table_check(archive: Archive, run: PackedRun, name: str, table: str) -> Check:
    member = run.files[name]
    try:
        fault = table_difference(record_v1.class_table(archive.text(member).decode()), table)
    except (UserError, ValueError, csv.Error) as error:
        fault = escaped(str(error))
    return Check("failed" if fault else "passed", member, "follows from the features", fault or "")


def _images_per_class(labels: np.ndarray, run: PackedRun) -> set[float]:
    """Return how many images classes have; their mean where label sets are generated as they occur."""
    import numpy as np

    if run.label_sets == "natural":
        return {len(labels) / len(run.classes)}
    return set(np.bincount(labels, minlength=len(run.classes)).tolist())


def _resamples(plan: Plan, run: PackedRun) -> bool:
    """Return whether the method draws classes at other frequencies than those of the data."""
    import numpy as np

    method, counts = plan.method, np.array([info.train_count for info in run.classes])
    return method.sample_weights(counts) is not None or method.second_stage(plan.spec.budget.steps, counts) is not None

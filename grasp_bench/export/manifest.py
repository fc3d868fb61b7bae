"""The manifest of an exported folder, with which it loads without the run, its task or its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import JsonValue, ValidationError

from grasp_bench.contracts.record import Part, RunRecord
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.contracts.task import ClassInfo
from grasp_bench.errors import UserError, first_fault
from grasp_bench.io import check_file, file_digest
from grasp_bench.run.files import TRAIN_SUMMARY, WEIGHTS
from grasp_bench.run.plan import Plan

MANIFEST = "grasp_bench.json"
Quantize = Literal["int8", "int8-guided"]


class Manifest(Part):
    """What was trained, on what, and what it needs to generate again."""

    schema_version: Literal[1] = 1
    grasp_bench: str
    """Version of the package that trained it."""
    run_id: str
    """Id of the run that was exported."""
    label: str
    """Label of the run's row in the report."""
    task_label: str
    """Label of the run's task in the report."""
    spec: RunSpec
    """Specification of the training; its task is the one that the weights were fine-tuned on, with ``classes``."""
    classes: list[ClassInfo]
    """Classes of the task, in the order of their indices."""
    artifacts: dict[str, JsonValue]
    """File name → what the method wrote there when it was trained, such as its partition."""
    weights: str
    """sha256 of ``weights.safetensors``."""
    quantized: Quantize | None = None
    """How matrices are stored, with scales beside them; none: as they were trained."""
    private: bool
    """Whether the data are private, so that weights trained on them may not be shared."""

    def written(self) -> dict[str, JsonValue]:
        """The manifest as JSON, without ``quantized`` where that is none, so that earlier versions read it."""
        return self.model_dump(mode="json", exclude={"quantized"} if self.quantized is None else None)


def manifest_of(plan: Plan, record: RunRecord, weights: Path) -> Manifest:
    """Return the manifest of a run; ``weights`` is the file of its train stage."""
    trained_on, summary = plan.trained_on, json.loads((weights.parent / TRAIN_SUMMARY).read_text())
    assert record.weights
    return Manifest(
        grasp_bench=record.environment.versions["grasp-bench"],
        run_id=record.run_id,
        label=record.label,
        task_label=record.task_label,
        spec=trained_on.spec,
        classes=trained_on.task.classes(),
        artifacts={name: json.loads((weights.parent / name).read_text()) for name in summary["artifacts"]},
        weights=record.weights,
        private=trained_on.task.private,
    )


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an exported folder, after comparing the weights with their hash.

    Raises :class:`UserError` that names the file and its fault.
    """
    path, weights = folder / MANIFEST, folder / WEIGHTS
    try:
        manifest = Manifest.model_validate_json(check_file(path).read_bytes())
        found = file_digest(check_file(weights))
    except ValidationError as error:
        raise UserError(f"{path}: not a manifest this version reads: {first_fault(error)}.") from error
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}). Expected a folder that `grasp-bench export` wrote."
        ) from error
    if found != manifest.weights:
        raise UserError(
            f"{weights}: its sha256 begins with {found[:12]}, expected {manifest.weights[:12]}: the file is damaged or "
            "of another export. Copy or export the folder again."
        )
    return manifest

"""Writing an exported folder, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RunRecord
from grasp_bench.errors import UserError
from grasp_bench.export.card import model_card
from grasp_bench.export.guided import guided
from grasp_bench.export.manifest import MANIFEST, Quantize, manifest_of
from grasp_bench.export.pipeline import FineTunedPipeline
from grasp_bench.export.restore import trained_weights
from grasp_bench.export.smaller import Merge, as_merged, quantized
from grasp_bench.io import file_digest, folder_written_whole, write_bytes, write_json, write_tensors
from grasp_bench.processes import pick_device
from grasp_bench.run.files import PICTURE, WEIGHTS
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import Plan

CARD = "README.md"


def export(
    plan: Plan,
    record: RunRecord,
    work_dir: Path,
    beside: Path,
    to: Path,
    merge: Merge | None = None,
    quantize: Quantize | None = None,
) -> list[Path]:
    """Write what a run trained to the new folder ``to``, and return the files there.

    The weights are taken from the work folder, and the picture of samples from ``beside``, the record's folder, where
    it is there. A run on another task's generator exports that generator. ``merge`` averages the clusters of a run of
    ``grasp``, and ``quantize`` stores matrices as integers, "int8-guided" by what the clusters give on the run's
    training images; such weights are written in no other format. Raises :class:`UserError` where ``to`` is there and
    not empty, or cannot be written, where the weights are gone, and where the run cannot be merged.
    """
    check_free(to)
    if quantize == "int8-guided" and merge is None:
        raise UserError(
            "--quantize int8-guided: keeps to what the clusters give that --merge averages, and there is no --merge. "
            "Give it, or choose --quantize int8."
        )
    weights = trained_weights(plan, record, work_dir)
    manifest = manifest_of(plan, record, weights)
    if merge is not None:
        manifest = as_merged(manifest, merge)
    pipeline = FineTunedPipeline.assemble(manifest, weights, plan.backbone)
    picture = beside / PICTURE
    with folder_written_whole(to) as folder:
        if merge is None and quantize is None:
            other_formats = pipeline.method.export(folder)
            write_bytes(folder / WEIGHTS, weights.read_bytes())
        else:
            if quantize == "int8-guided":
                options = Options(beside, work_dir)
                state = guided(pipeline, Pipeline(plan, options, pick_device(options.device), Progress()).trainer)
            else:
                state = pipeline.method.state_dict()
                state = state if merge is None else pipeline.method.finished(state)
                state = state if quantize is None else quantized(state)
            write_tensors(folder / WEIGHTS, state)
            changed = {"weights": file_digest(folder / WEIGHTS), "quantized": quantize}
            manifest = manifest.model_copy(update=changed)
            other_formats = _changes(merge, quantize, weights, folder / WEIGHTS)
        write_json(folder / MANIFEST, manifest.written())
        if picture.is_file():
            write_bytes(folder / PICTURE, picture.read_bytes())
        source = plan.trained_on.task.source
        card = model_card(manifest, record, plan.backbone, source, other_formats, picture.is_file())
        write_bytes(folder / CARD, card.encode())
    return sorted(to.iterdir())


def _changes(merge: Merge | None, quantize: Quantize | None, before: Path, after: Path) -> str:
    """Return what a card says of weights that are not those of the run."""
    how = [f"the clusters are averaged (`{merge}`)"] if merge else []
    by = ", rounded and adjusted by what the clusters give on training images" if quantize == "int8-guided" else ""
    how += [f"matrices are stored as int8, with a scale per row{by}"] if quantize else []
    return (
        f"\n**These are not the weights that were scored**: {' and '.join(how)}, in {after.stat().st_size:,} bytes "
        f"rather than {before.stat().st_size:,}. The scores below are those of the run.\n"
    )


def check_free(to: Path) -> None:
    """Raise :class:`UserError` unless there is nothing at ``to``, or an empty folder."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to}: is there already. Choose a folder that is new or empty.")

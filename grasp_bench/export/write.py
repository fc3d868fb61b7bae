"""Writing an exported folder, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grasp_bench.contracts.record import RunRecord
from grasp_bench.errors import UserError
from grasp_bench.export.card import model_card
from grasp_bench.export.manifest import MANIFEST, manifest_of
from grasp_bench.export.pipeline import FineTunedPipeline
from grasp_bench.io import sync_folder, write_bytes, write_json, writing
from grasp_bench.run.files import PICTURE, WEIGHTS
from grasp_bench.run.plan import Plan

CARD = "README.md"


def export(plan: Plan, record: RunRecord, weights: Path, beside: Path, to: Path) -> list[Path]:
    """Write what a run trained to the new folder ``to``, and return the files there.

    ``weights`` is the file in the work folder; the picture of samples is taken from ``beside``, the record's folder,
    where it is there. A run on another task's generator exports that generator. Raises :class:`UserError` where ``to``
    is there and not empty, or cannot be written.
    """
    check_free(to)
    manifest = manifest_of(plan, record, weights)
    pipeline = FineTunedPipeline.assemble(manifest, weights, plan.backbone)
    picture = beside / PICTURE
    with _folder_written_whole(to) as folder:
        other_formats = pipeline.method.export(folder)
        write_bytes(folder / WEIGHTS, weights.read_bytes())
        write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
        if picture.is_file():
            write_bytes(folder / PICTURE, picture.read_bytes())
        source = plan.trained_on.task.source
        card = model_card(manifest, record, plan.backbone, source, other_formats, picture.is_file())
        write_bytes(folder / CARD, card.encode())
    return sorted(to.iterdir())


def check_free(to: Path) -> None:
    """Raise :class:`UserError` unless there is nothing at ``to``, or an empty folder."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to}: is there already. Choose a folder that is new or empty.")


@contextmanager
def _folder_written_whole(path: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``path`` when the block ends well, and is removed otherwise."""
    temporary = path.absolute().with_name(f".{path.absolute().name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.iterdir():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            sync_folder(temporary)
            temporary.replace(path)
            sync_folder(path.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

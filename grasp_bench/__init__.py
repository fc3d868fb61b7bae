"""How well do ways of fine-tuning text-to-image transformers serve rare classes?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grasp_bench.export.pipeline import FineTunedPipeline

__version__ = "0.1.0"


def load(folder: str | os.PathLike[str], backbone: str | None = None, device: str = "auto") -> FineTunedPipeline:
    """A pipeline of diffusers' from a folder that ``grasp-bench export`` wrote.

    ``backbone`` names the pretrained weights where they are the user's own files, as in ``sd3:/models/sd3.5-medium``;
    ``device`` is auto, cpu, cuda or cuda:N. Raises :class:`grasp_bench.errors.UserError` where the folder is damaged
    or the backbone is of another revision.
    """
    from pathlib import Path

    from grasp_bench.export.pipeline import load as load_folder

    return load_folder(Path(folder), backbone, device)

"""The folder of published weights that a user fetched: of feature extractors, and of downstream classifiers."""

from __future__ import annotations

import os
from pathlib import Path

from grasp_bench.errors import UserError
from grasp_bench.home import with_home
from grasp_bench.io import read_object
from grasp_bench.text import printable

VARIABLE = "GRASP_BENCH_WEIGHTS"
"""Environment variable of the folder."""
ADAPTER = "adapter_model.bin"
"""The one pickle that transformers reads although it is asked for safetensors alone."""


def weights_folder() -> Path:
    """``$GRASP_BENCH_WEIGHTS``, or else ``grasp-bench/weights`` in ``$XDG_DATA_HOME`` (``~/.local/share``)."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return with_home(Path(os.environ.get(VARIABLE) or Path(data, "grasp-bench", "weights")))


def shards(index: Path) -> list[str]:
    """Names of the files of weights that an index of Hugging Face's lists, each once and sorted.

    Raises :class:`UserError` for a name that is no safetensors file beside the index: a pickle can run any code.
    """
    found = read_object(index).get("weight_map")
    names = set(found.values()) if isinstance(found, dict) and all(isinstance(x, str) for x in found.values()) else None
    if names is None:
        raise UserError(f"{index}: expected a mapping weight_map of weights to files. Fetch it again.")
    if odd := sorted(name for name in names if not name.endswith(".safetensors") or "/" in name or "\\" in name):
        raise UserError(
            f"{index}: names {printable(odd[0])}, which is no safetensors file beside it; other kinds can run any code "
            "and are not read. Fetch the repository's safetensors files."
        )
    return sorted(names)


def refuse_pickled_adapters(folder: Path) -> None:
    """Raise :class:`UserError` for a pickled adapter below ``folder``, which transformers loads beside safetensors."""
    if found := next(iter(sorted(folder.rglob(ADAPTER))), None):
        raise UserError(
            f"{printable(str(found))}: a pickle can run any code and is not read. Merge the adapter into its "
            "model, or save it as safetensors."
        )


def timm_file(model: str, tag: str) -> Path:
    """The file of a timm model's weights, which may not be there: ``<model>.<tag>.safetensors`` in the folder."""
    return weights_folder() / f"{model}.{tag}.safetensors"


def how_to_fetch(model: str, tag: str, repository: str) -> str:
    """Commands that put timm's weights of a model where :func:`timm_file` looks for them."""
    path = timm_file(model, tag)
    return (
        f"hf download {repository} model.safetensors --local-dir {path.parent} && "
        f"mv {path.parent / 'model.safetensors'} {path}"
    )

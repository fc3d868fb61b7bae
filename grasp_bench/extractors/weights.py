"""Files of weights: found, refused with a reason, hashed, and read without running anything in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import torch

PICKLED = frozenset([".bin", ".pth", ".pt", ".ckpt", ".pkl", ".pickle", ".th", ".tar"])


def existing(path: Path) -> Path:
    """Return ``path`` if it is a file that is not empty. Raises :class:`UserError` otherwise."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {what}, expected a file of weights.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: has zero bytes. Fetch it again.")
    return path


def refuse(weights: Path | None, name: str, instead: str) -> None:
    """Raise :class:`UserError` when weights are given to an extractor that takes none."""
    if weights is not None:
        raise UserError(f"{weights}: {name} takes no --weights{instead}. Leave it out.")


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors``. Raises :class:`UserError` for any other kind of file, and a damaged one."""
    from safetensors import SafetensorError

    from grasp_bench.io import read_tensors

    existing(path)
    if path.suffix.lower() in PICKLED:
        target = path.with_suffix(".safetensors").name
        raise UserError(
            f"{path}: is a pickle, which can run any code when it is read, and is refused. Fetch the model's "
            f'.safetensors, or convert a plain state dict that you trust: python -c "import torch, '
            f"safetensors.torch as s; s.save_file(torch.load('{path.name}', weights_only=True), '{target}')\""
        )
    try:
        return read_tensors(path)
    except SafetensorError as error:
        raise UserError(f"{path}: is no whole .safetensors file ({error}). Fetch it again.") from error


def fill(model: Any, state: dict[str, torch.Tensor], path: Path, name: str) -> None:
    """Load ``state`` into ``model``; every tensor must fit and none may be missing.

    Raises :class:`UserError` otherwise.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path}: are not the weights of {name}. {error}") from error


def drawn_apart(build: Callable[[], Any]) -> Any:
    """Result of ``build``; it draws weights that will be replaced, so torch's global generator is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return build()

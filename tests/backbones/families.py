"""Every family of saved pipelines in small, by its name in the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers.tiny_pipelines import save_sd3
from helpers.tiny_sana import save_sana
from tiny_flux import save_flux
from tiny_pixart import save_sigma

from grasp_bench import plugins
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.testing.tiny_dit import save_dit

SAVE: dict[str, Callable[[Path, Path], Path]] = {
    "dit": lambda folder, scratch: save_dit(folder),
    "flux": save_flux,
    "pixart": save_sigma,
    "sana": lambda folder, scratch: save_sana(folder),
    "sd3": save_sd3,
}
"""Family → what saves a pipeline of it into a folder, with a folder for what it needs on the way."""


@dataclass(frozen=True)
class Family:
    """A saved pipeline, and the work folder that all runs on it share."""

    name: str
    folder: Path
    work: Path

    @property
    def source(self) -> str:
        """As it is named on the command line."""
        return f"{self.name}:{self.folder}"

    @property
    def kind(self) -> type[SavedBackbone]:
        return plugins.load("backbones", self.name)

    @property
    def encoders(self) -> set[str]:
        """Parts that encode images and prompts, without tokenizers."""
        return {part for part in self.kind.components if part.startswith(("text_encoder", "vae"))}


def save(name: str, folder: Path) -> Family:
    """A tiny pipeline of a family in ``folder``, and an empty work folder beside it."""
    return Family(name, SAVE[name](folder / "pipeline", folder / "scratch"), folder / "work")

"""Short names of published pipelines, and what a user may name as a backbone."""

from __future__ import annotations

from grasp_bench import plugins
from grasp_bench.errors import UserError, did_you_mean

ALIASES = {
    "flux-dev": ("flux", "black-forest-labs/FLUX.1-dev"),
    "pixart-alpha": ("pixart", "PixArt-alpha/PixArt-XL-2-1024-MS"),
    "pixart-alpha-512": ("pixart", "PixArt-alpha/PixArt-XL-2-512x512"),
    "pixart-sigma": ("pixart", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"),
    "sana-0.6b": ("sana", "Efficient-Large-Model/Sana_600M_512px_diffusers"),
    "sana-1.6b": ("sana", "Efficient-Large-Model/Sana_1600M_1024px_diffusers"),
    "sd3-medium": ("sd3", "stabilityai/stable-diffusion-3-medium-diffusers"),
    "sd3.5-large": ("sd3", "stabilityai/stable-diffusion-3.5-large"),
    "sd3.5-medium": ("sd3", "stabilityai/stable-diffusion-3.5-medium"),
}
"""Name → family and repository. Only repositories that hold a whole pipeline in safetensors have one."""


def available() -> dict[str, str]:
    """Alias → FAMILY:OWNER/NAME, of the families that are installed; a backbone that is called so itself goes first."""
    families = plugins.entries("backbones")
    return {
        alias: f"{family}:{repository}"
        for alias, (family, repository) in ALIASES.items()
        if family in families and alias not in families
    }


def resolve(name: str) -> tuple[str, str]:
    """Family and source of a backbone that is named by an alias, or by its family, with a colon and a source or not.

    The source is empty where there is none. Raises :class:`UserError` for a name that is neither's.
    """
    aliases, families = available(), plugins.entries("backbones")
    family, colon, source = aliases.get(name, name).partition(":")
    if family in families:
        return family, source
    if family in aliases:
        raise UserError(
            f"backbone {name!r}: {family} stands for {aliases[family]} and takes no source. Leave out "
            f"{colon + source!r}, or write {aliases[family].partition(':')[0]}{colon}{source}."
        )
    known = sorted([*families, *aliases])
    raise UserError(f"unknown backbone {family!r}.{did_you_mean(family, known)} There are: {', '.join(known)}.")

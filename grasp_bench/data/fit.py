"""How a task's images, which are of any size, become the square ones of a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Fit:
    """A task's rule, by which :func:`grasp_bench.data.decode.read_image` reads every one of its images."""

    square: Literal["crop", "pad"] = "crop"
    """"crop" keeps the middle square of an image, "pad" all of it, with black on either side of the shorter one."""
    draft: bool = False
    """Whether a JPEG is decoded at the least of 1/8, 1/4, 1/2 and 1 of its size at which neither side is smaller than
    what is wanted: much quicker, and hardly another image."""

"""One image file → uint8 (3, H, W) → the size and channels of a backbone, by one rule for training and scoring.

How files are read is stated here and nowhere else:

- Greyscale becomes RGB by repetition. 1-bit images become 0 and 255.
- 16-bit greyscale is divided by 257 and rounded, so that 65535 becomes 255; there is no stretching to the range used.
- Palettes are looked up. CMYK, YCbCr, LAB and HSV are converted by Pillow, without colour profiles.
- Transparency, from an alpha channel, a palette or a transparent colour, is composited on black.
- 16-bit colour is read by Pillow as its high byte.
- Orientation tags are not applied: the stored rows and columns count, as in torch-fidelity.
- 32-bit integers and floats have no stated range and are refused; so are files of several pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from grasp_bench.contracts.task import ClassInfo, Split

if TYPE_CHECKING:
    import torch

WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
SCALED_TO_SIXTEEN_BIT = ("PNG", "PPM")  # formats whose mode "I" holds 0 to 65535


class UnreadableError(Exception):
    """Why one image cannot be used."""


def decode(path: Path) -> np.ndarray:
    """The image in a file: uint8 (3, H, W). Raises :class:`UnreadableError`."""
    try:
        if path.stat().st_size == 0:
            raise UnreadableError("has zero bytes")
        with Image.open(path) as image:
            # MPO is how cameras store a JPEG with a thumbnail behind it
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise UnreadableError(f"holds {image.n_frames} pictures, expected one")
            image.load()
            return to_rgb(_pixels(image))
    except UnreadableError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadableError(f"cannot be decoded ({error})") from error


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 (H, W), or uint8 (H, W, 1 | 3 | 4) → uint8 (3, H, W) by the rules above, contiguous."""
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[-1] == 4:
        colour, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
        pixels = ((colour * alpha + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).transpose(2, 0, 1))


def _pixels(image: Any) -> np.ndarray:
    """What :func:`to_rgb` reads, of a loaded Pillow image."""
    if image.mode in SIXTEEN_BIT:
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I" and image.format in SCALED_TO_SIXTEEN_BIT:
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floats"
        raise UnreadableError(f"holds 32-bit {kind}, whose range is not stated; save it with 8 or 16 bits")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def resize(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (3, H, W) → uint8 ``shape``, which is (3, S, S) or (1, S, S).

    One channel is luma by ITU-R 601, Pillow's "L". The shorter side becomes S and the longer one is cut to the same
    about its centre, one pixel more at its end where they are odd: the middle square is brought to S × S by Pillow's
    bicubic filter, which widens as it shrinks an image (antialiasing). Where the shorter side is S, pixels are kept.

    Raises ValueError for another ``shape``.
    """
    channels, size, width = shape
    if channels not in (1, 3) or size != width:
        raise ValueError(f"images cannot be made {shape}: expected (3, S, S) or (1, S, S)")
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    if channels == 1:
        picture = picture.convert("L")
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    square = picture.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(square).reshape(size, size, channels).transpose(2, 0, 1))


def resized(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (k, 1 | 3, H, W) → uint8 (k, *``shape``), each by :func:`resize`; unchanged where they have that shape."""
    if images.shape[1:] == shape:
        return images
    colour = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
    return np.stack([resize(image, shape) for image in colour]) if len(images) else np.empty((0, *shape), np.uint8)


def split_of(
    tensors: Mapping[str, torch.Tensor],
    name: str,
    ids: Sequence[str],
    classes: Sequence[ClassInfo],
    shape: tuple[int, int, int],
) -> Split:
    """The split ``name`` of ``tensors``, its images uint8 (n, C, H, W) and labels (n,), read as images of ``shape``."""
    images, labels = tensors[f"{name}/images"].numpy(), tensors[f"{name}/labels"].numpy()
    return Split(
        ids=list(ids),
        labels=labels,
        prompts=[classes[label].prompt for label in labels],
        read=lambda indices: resized(images[indices], shape),
    )

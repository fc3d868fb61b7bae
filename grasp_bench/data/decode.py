"""One image file → uint8 (3, H, W) → the size and channels of a backbone, by a task's rule for training and scoring.

How files are read is stated here and nowhere else:

- Greyscale becomes RGB by repetition, before the resize or after it, which is the same. 1-bit images become 0 and 255.
- 16-bit greyscale is divided by 257 and rounded, so that 65535 becomes 255; there is no stretching to the range used.
- Palettes are looked up. CMYK, YCbCr, LAB and HSV are converted by Pillow, without colour profiles.
- TIFF's photometric 0, where zero is white, is inverted at any depth; its 12-bit greyscale is brought to 16 bits.
- Transparency, from an alpha channel, a palette or a transparent colour, is composited on black.
- 16-bit colour is read by Pillow as its high byte, and so is a transparent colour of 16 bits.
- An orientation in EXIF, or in XMP where EXIF has none, is applied, in every format; one that cannot be read is none.
- 32-bit integers and floats have no stated range and are refused; so are files of several pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from grasp_bench.contracts.task import ClassInfo, Split
from grasp_bench.data.fit import Fit
from grasp_bench.data.formats import UNKNOWN, open_picture

if TYPE_CHECKING:
    import torch

WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
SCALED_TO_SIXTEEN_BIT = ("PNG", "PPM")  # formats whose mode "I" holds 0 to 65535
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # TIFF's tag, and its value
GREY_LEVELS = {"L;2": 4, "L;4": 16}
"""How Pillow names few grey levels per sample → how many."""
CROP = Fit()


class UnreadableError(Exception):
    """Why one image cannot be used."""


def decode(path: Path) -> np.ndarray:
    """The image in a file: uint8 (3, H, W). Raises :class:`UnreadableError`."""
    return to_rgb(_decoded(path, None))


def read_image(path: Path, shape: tuple[int, int, int], fit: Fit = CROP) -> np.ndarray:
    """The image in a file as uint8 ``shape``, which is (3, S, S) or (1, S, S), by a task's rule.

    It is ``resize(decode(path), shape, fit)`` in less time, as a grey image becomes RGB after it has been resized; with
    ``fit.draft`` a JPEG differs a little. Raises :class:`UnreadableError`.
    """
    pixels = _eight_bits(_decoded(path, shape[-1] if fit.draft else None))
    return resize(pixels[None] if pixels.ndim == 2 else to_rgb(pixels), shape, fit)


def _decoded(path: Path, least: int | None) -> np.ndarray:
    """The pixels in a file, as :func:`_pixels`; with ``least``, of a JPEG that may be reduced to sides of that."""
    try:
        if path.stat().st_size == 0:
            raise UnreadableError("has zero bytes")
        # by a name, Pillow would map an uncompressed TIFF, and scramble one that lies on its side
        with path.open("rb") as file, open_picture(file) as image:
            # MPO is how cameras store a JPEG with a thumbnail behind it
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise UnreadableError(f"holds {image.n_frames} pictures, expected one")
            if least and image.format == "JPEG":
                image.draft(None, (least, least))
            stored = (
                str(image.tile[0].args) if image.tile else ""
            )  # how samples lie in the file, known until it is read
            image.load()
            with suppress(Exception):  # which Pillow raises nearly any of for damaged EXIF, before or after it turns
                ImageOps.exif_transpose(image, in_place=True)
            return _pixels(image, stored)
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError(UNKNOWN) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadableError(f"cannot be decoded ({error})") from error


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 (H, W), or uint8 (H, W, 1 | 3 | 4) → uint8 (3, H, W) by the rules above, contiguous."""
    pixels = _eight_bits(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[-1] == 4:
        colour, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
        pixels = ((colour * alpha + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).transpose(2, 0, 1))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def _pixels(image: Any, stored: str) -> np.ndarray:
    """What :func:`to_rgb` reads, of a loaded Pillow image whose decoder was told how samples are ``stored``."""
    if image.mode in SIXTEEN_BIT or (image.mode == "I" and image.format in SCALED_TO_SIXTEEN_BIT):
        return _sixteen_bits(image, stored)
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floats"
        raise UnreadableError(f"holds 32-bit {kind}, whose range is not stated; save it with 8 or 16 bits")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        key = image.info.get("transparency")
        if image.format == "PNG" and image.mode == "L" and stored in GREY_LEVELS:  # which Pillow leaves as it is stored
            image.info["transparency"] = key * 255 // (GREY_LEVELS[stored] - 1)
        elif stored == "RGB;16B" and isinstance(key, tuple):
            image.info["transparency"] = tuple(value >> 8 for value in key)
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _sixteen_bits(image: Any, stored: str) -> np.ndarray:
    """Greyscale as uint16 (H, W), 65535 is white."""
    grey = np.asarray(image).astype(np.uint16)
    if "I;12" in stored:
        grey = ((grey.astype(np.uint32) * 65535 + 2047) // 4095).astype(np.uint16)
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 65535 - grey
    key = image.info.get("transparency")
    return grey if key is None else np.where(grey == key, np.uint16(0), grey)


def resize(image: np.ndarray, shape: tuple[int, int, int], fit: Fit = CROP) -> np.ndarray:
    """uint8 (1 | 3, H, W) → uint8 ``shape``, which is (3, S, S) or (1, S, S).

    Of RGB, one channel is luma by ITU-R 601, Pillow's "L"; of grey, three channels are three times the one. The image
    is made square about its centre by ``fit.square``: the longer side is cut to the shorter one, or the shorter one is
    padded with black to the longer one; one pixel more at the end where they are odd. The square is brought to S × S by
    Pillow's bicubic filter, which widens as it shrinks an image (antialiasing). Where its side is S, pixels are kept.

    Raises ValueError for another ``shape``.
    """
    channels, size, width = shape
    if channels not in (1, 3) or size != width:
        raise ValueError(f"images cannot be made {shape}: expected (3, S, S) or (1, S, S)")
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    if channels == 1:
        picture = picture.convert("L")
    if fit.square == "pad" and picture.width != picture.height:
        side = max(picture.size)
        black = Image.new(picture.mode, (side, side))
        black.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = black
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    square = picture.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    pixels = np.asarray(square).reshape(size, size, -1).transpose(2, 0, 1)
    return np.ascontiguousarray(np.broadcast_to(pixels, shape))


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

"""Rendered glyphs with captions: what the embedded backbone is pretrained on."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np

from grasp_bench import seeds

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono")
CANVAS = 64  # pixels a side before the image is reduced


def captions() -> dict[str, str]:
    """Glyph → caption for upper case, lower case and digits."""
    upper = {letter: f"a printed letter {letter}" for letter in string.ascii_uppercase}
    lower = {letter: f"a printed small letter {letter}" for letter in string.ascii_lowercase}
    digits = {str(value): f"a printed digit {word}" for value, word in enumerate(DIGIT_WORDS)}
    return upper | lower | digits


def render(glyph: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """One glyph, white on black, with random font, size, rotation, shear and shift: uint8 (size, size).

    The brightest pixel is 255, since thin strokes would otherwise fade when the image is reduced.
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    name = FONTS[rng.integers(len(FONTS))]
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    font = ImageFont.truetype(path, int(rng.integers(56, 72)))
    image = Image.new("L", (CANVAS, CANVAS))
    left, top, right, bottom = font.getbbox(glyph)
    corner = ((CANVAS - left - right) / 2, (CANVAS - top - bottom) / 2)
    ImageDraw.Draw(image).text(corner, glyph, fill=255, font=font)

    angle = np.deg2rad(rng.uniform(-12, 12))
    shear = rng.uniform(-0.2, 0.2)
    shift = rng.uniform(-4, 4, 2)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[1, shear], [0, 1]]
    centre = np.array([CANVAS / 2, CANVAS / 2])
    offset = centre - matrix @ (centre + shift)
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    image = image.transform((CANVAS, CANVAS), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    pixels = np.array(image.resize((size, size), Image.Resampling.BOX), np.float32)
    stretched: np.ndarray = np.rint(pixels * (255 / pixels.max())).astype(np.uint8)
    return stretched


def glyph_images(each: int, size: int) -> tuple[np.ndarray, list[str]]:
    """``each`` renderings of every glyph: uint8 (n, 1, size, size) and the caption of each."""
    images, prompts = [], []
    for glyph, caption in captions().items():
        rng = seeds.rng("glyphs", glyph, size)
        images += [render(glyph, size, rng) for _ in range(each)]
        prompts += [caption] * each
    return np.stack(images)[:, None], prompts

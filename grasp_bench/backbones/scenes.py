"""Drawn scenes with captions: a letter, a digit or a shape before a textured background, in colour or in grey.

A third of the scenes are grey, since radiographs are.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grasp_bench import seeds
from grasp_bench.backbones.glyphs import DIGIT_WORDS, FONTS

CANVAS = 128  # pixels a side before the image is reduced
GREYS = {"black": (20, 20, 20), "grey": (128, 128, 128), "white": (235, 235, 235)}
COLOURS = GREYS | {
    "red": (210, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 220, 50),
    "green": (50, 160, 70),
    "blue": (50, 90, 210),
    "purple": (130, 60, 170),
    "pink": (240, 150, 190),
    "brown": (120, 75, 40),
}
SIZES = {"small": (0.24, 0.32), "": (0.32, 0.4), "large": (0.4, 0.48)}  # name → radius as a part of the canvas
GLYPHS = {f"letter {letter}": letter for letter in string.ascii_uppercase} | {
    f"digit {word}": str(value) for value, word in enumerate(DIGIT_WORDS)
}


def _polygon(*radii: float, first: float = -90) -> np.ndarray:
    """Corners (n, 2) at equal angles from ``first`` degrees (y points down) and at the given distances."""
    angles = np.deg2rad(first + 360 * np.arange(len(radii)) / len(radii))
    corners: np.ndarray = np.stack([np.cos(angles), np.sin(angles)], 1) * np.array(radii)[:, None]
    return corners


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], 1) / 17


def _cross() -> np.ndarray:
    arm = np.array([(-0.3, -1), (0.3, -1), (0.3, -0.3)])
    quarter_turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter_turn, turns) for turns in range(4)])


SHAPES: dict[str, np.ndarray] = {  # outlines (n, 2), about a radius of 1; the ring's hole is cut when it is drawn
    "circle": _polygon(*[0.95] * 60),
    "ring": _polygon(*[0.95] * 60),
    "square": _polygon(*[1.1] * 4, first=-45),
    "diamond": _polygon(1.1, 0.7, 1.1, 0.7),
    "triangle": _polygon(*[1.1] * 3),
    "hexagon": _polygon(*[1.0] * 6),
    "star": _polygon(*[1.1, 0.45] * 5),
    "cross": _cross(),
    "heart": _heart(),
    "arrow": np.array([(0, -1), (0.8, 0), (0.3, 0), (0.3, 1), (-0.3, 1), (-0.3, 0), (-0.8, 0)]),
}


@dataclass(frozen=True)
class Scene:
    """What a caption can say of an image."""

    subject: str
    colour: str
    size: str
    pattern: str
    background: str
    """Colour of the background."""
    grey: bool

    def caption(self, name_background: bool) -> str:
        """Like "a grey picture of a small white letter K on a black striped background"; at most 14 words."""
        subject = ["a", self.size, self.colour, self.subject]
        background = ["a", self.background if name_background else "", self.pattern, "background"]
        words = ["a grey picture of" if self.grey else "", *subject, "on", *background]
        return " ".join(filter(None, words)).replace("a orange", "an orange")


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random scene, whose subject and background differ in colour; half of the subjects are shapes."""
    grey = bool(rng.random() < 1 / 3)
    colour, background = rng.choice(list(GREYS if grey else COLOURS), 2, replace=False)
    subject = rng.choice(list(SHAPES if rng.random() < 0.5 else GLYPHS))
    return Scene(
        str(subject), str(colour), str(rng.choice(list(SIZES))), str(rng.choice(list(PATTERNS))), str(background), grey
    )


def render(scene: Scene, size: int, rng: np.random.Generator) -> np.ndarray:
    """The scene with random shade, texture, rotation and shift: uint8 (3, size, size)."""
    from PIL import Image

    ground, shade = _shades(scene.background, scene.grey, rng)
    weight = PATTERNS[scene.pattern](rng)[..., None]
    mask = np.asarray(_mask(scene, rng), np.float64)[..., None] / 255
    colour, _ = _shades(scene.colour, scene.grey, rng)
    pixels = (ground * (1 - weight) + shade * weight) * (1 - mask) + colour * mask  # (CANVAS, CANVAS, 3)
    image = Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8))
    return np.asarray(image.resize((size, size), Image.Resampling.BOX)).transpose(2, 0, 1)


def scene_images(count: int, size: int) -> tuple[np.ndarray, list[str]]:
    """``count`` scenes: uint8 (count, 3, size, size) and the caption of each; scene *i* depends on *i* and size alone.

    Half of the captions leave the background's colour out.
    """
    images, captions = np.empty((count, 3, size, size), np.uint8), []
    for number in range(count):
        rng = seeds.rng("scenes", number, size)
        scene = draw_scene(rng)
        images[number] = render(scene, size, rng)
        captions.append(scene.caption(name_background=bool(rng.random() < 0.5)))
    return images, captions


def _shades(colour: str, grey: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random shade of the colour, and one that is clearly lighter (of dark colours) or darker: RGB (3,)."""
    base = np.array(COLOURS[colour], np.float64)
    jitter = rng.normal(0, 12, 1 if grey or colour in GREYS else 3)
    first = (base + jitter).clip(0, 255)
    end = 255 if base.mean() < 100 else 0
    return first, first + (end - first) * rng.uniform(0.3, 0.5)


def _mask(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Where the subject is: uint8 (CANVAS, CANVAS), 255 inside."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (CANVAS, CANVAS))
    radius = CANVAS * rng.uniform(*SIZES[scene.size])
    middle = CANVAS / 2
    draw = ImageDraw.Draw(image)
    if scene.subject in GLYPHS:
        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{rng.choice(FONTS)}.ttf"
        font = ImageFont.truetype(path, round(2.6 * radius))  # a capital is about 0.73 of the font's size in height
        draw.text((middle, middle), GLYPHS[scene.subject], fill=255, font=font, anchor="mm")
        angle = rng.uniform(-15, 15)
    else:
        outline = middle + radius * SHAPES[scene.subject]
        draw.polygon([tuple(point) for point in outline], fill=255)
        if scene.subject == "ring":
            draw.polygon([tuple(point) for point in middle + 0.55 * (outline - middle)], fill=0)
        angle = rng.uniform(-25, 25)
    shift = tuple(rng.integers(-CANVAS // 12, CANVAS // 12 + 1, 2).tolist())
    return np.asarray(image.rotate(angle, Image.Resampling.BILINEAR, translate=shift))


def _axes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two perpendicular coordinates from a random origin, counted in periods of a pattern: (CANVAS, CANVAS) each."""
    angle, periods = rng.uniform(0, np.pi), rng.uniform(3, 6)
    y, x = np.mgrid[:CANVAS, :CANVAS] / CANVAS * periods + rng.uniform(0, 1, 2)[:, None, None]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _plain(rng: np.random.Generator) -> np.ndarray:
    return np.zeros((CANVAS, CANVAS))


def _striped(rng: np.random.Generator) -> np.ndarray:
    across, _ = _axes(rng)
    return (across % 1 < 0.5).astype(float)


def _checked(rng: np.random.Generator) -> np.ndarray:
    across, along = _axes(rng)
    return ((across % 1 < 0.5) ^ (along % 1 < 0.5)).astype(float)


def _dotted(rng: np.random.Generator) -> np.ndarray:
    across, along = _axes(rng)
    return ((across % 1 - 0.5) ** 2 + (along % 1 - 0.5) ** 2 < 0.3**2).astype(float)


def _gradient(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:CANVAS, :CANVAS] / CANVAS - 0.5
    weight: np.ndarray = 1 + 2 * (x * np.cos(angle) + y * np.sin(angle))
    return weight.clip(0, 2)  # beyond the second shade at the far end


def _noisy(rng: np.random.Generator) -> np.ndarray:
    grain = CANVAS // 32
    return np.kron(rng.normal(0.5, 0.5, (32, 32)), np.ones((grain, grain)))


PATTERNS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {  # how much of the second shade is where
    "plain": _plain,
    "striped": _striped,
    "checked": _checked,
    "dotted": _dotted,
    "gradient": _gradient,
    "noisy": _noisy,
}

"""Drawn scenes: captions say what is in the image, and the same scenes are drawn every time."""

import re

import numpy as np
import pytest

from grasp_bench import seeds
from grasp_bench.backbones.scenes import (
    COLOURS,
    GLYPHS,
    GREYS,
    PATTERNS,
    SHAPES,
    Scene,
    draw_scene,
    render,
    scene_images,
)
from grasp_bench.backbones.tiny_sd3 import PROMPT_WIDTH, TinySD3At32
from grasp_bench.backbones.words import WordEncoder

SUBJECTS = (*GLYPHS, *SHAPES)
CAPTION = re.compile(
    r"(a grey picture of )?an? (?:(small|large) )?(\w+) ((?:letter|digit) \w+|\w+) on an? (?:(\w+) )?(\w+) background"
)


def plain(subject: str = "circle", colour: str = "red", size: str = "", background: str = "blue") -> Scene:
    return Scene(subject, colour, size, "plain", background, grey=False)


def test_captions_follow_the_grammar_and_fit_the_prompt_encoder() -> None:
    _, captions = scene_images(150, 32)
    named = 0
    for caption in captions:
        match = CAPTION.fullmatch(caption)
        assert match, caption
        grey, _, colour, subject, background, pattern = match.groups()
        assert subject in SUBJECTS
        assert pattern in PATTERNS
        assert {colour, background} - {None} <= set(GREYS if grey else COLOURS)
        assert len(caption.split()) <= 14
        named += background is not None
    assert 55 <= named <= 95  # half
    WordEncoder(PROMPT_WIDTH, TinySD3At32.prompt_length)(captions)  # raises where one is too long


def test_the_article_fits_the_word() -> None:
    scene = Scene("circle", "orange", "", "plain", "orange", grey=False)
    assert scene.caption(name_background=True) == "an orange circle on an orange plain background"
    assert scene.caption(name_background=False) == "an orange circle on a plain background"


def test_a_scene_depends_on_its_number_alone() -> None:
    images, captions = scene_images(6, 32)
    fewer, fewer_captions = scene_images(4, 32)
    assert images.shape == (6, 3, 32, 32)
    assert images.dtype == np.uint8
    assert np.array_equal(images[:4], fewer)
    assert captions[:4] == fewer_captions
    assert len({image.tobytes() for image in images}) == 6


def test_grey_scenes_have_no_colour_and_coloured_ones_do() -> None:
    images, captions = scene_images(150, 32)
    grey = np.array(["grey picture" in caption for caption in captions])
    spread = np.ptp(images.astype(int), axis=1).max((1, 2))  # largest difference between channels
    assert 30 <= grey.sum() <= 70  # a third
    assert (spread[grey] == 0).all()
    assert (spread[~grey] > 0).mean() > 0.8  # a coloured scene may yet be black on white


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_is_drawn_in_its_colour(subject) -> None:
    image = render(plain(subject), 32, seeds.rng("test", subject)).astype(int)
    red = image[0] - image[2] > 60
    blue = image[2] - image[0] > 60
    assert 0.02 < red.mean() < 0.75
    assert blue.mean() > 0.2


def test_large_subjects_are_larger_than_small_ones() -> None:
    areas = {}
    for size in ("small", "", "large"):
        image = render(plain(size=size), 32, seeds.rng("test", size)).astype(int)
        areas[size] = (image[0] > image[2]).sum()
    assert areas["small"] < areas[""] < areas["large"]


@pytest.mark.parametrize("pattern", sorted(set(PATTERNS) - {"plain"}))
def test_patterns_leave_a_mark_that_plain_does_not(pattern) -> None:
    rng = seeds.rng("test", pattern)
    corner = render(Scene("circle", "red", "small", pattern, "blue", grey=False), 32, rng)[:, :8, :]
    assert corner[2].std() > 8
    assert render(plain(size="small"), 32, seeds.rng("test", "plain"))[2, :4, :].std() < 1


def test_the_ring_has_a_hole() -> None:
    rng = seeds.rng("test", "ring")
    filled = (np.diff(render(plain("circle"), 32, rng)[[2, 0]].astype(int), axis=0)[0] > 0).sum()
    hollow = (np.diff(render(plain("ring"), 32, seeds.rng("test", "ring"))[[2, 0]].astype(int), axis=0)[0] > 0).sum()
    assert hollow < 0.85 * filled


def test_subject_and_background_always_differ_and_everything_turns_up() -> None:
    rng = seeds.rng("test", "scenes")
    scenes = [draw_scene(rng) for _ in range(1000)]
    assert all(scene.colour != scene.background for scene in scenes)
    assert {scene.subject for scene in scenes} == set(SUBJECTS)
    assert {scene.pattern for scene in scenes} == set(PATTERNS)
    assert {scene.colour for scene in scenes} == set(COLOURS)
    assert 0.4 < sum(scene.subject in SHAPES for scene in scenes) / 1000 < 0.6

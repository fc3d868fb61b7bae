"""What the docstring of ``adaptive`` says of the size of latents is what was measured."""

from __future__ import annotations

import json

import pytest

from grasp_bench.guidances.adaptive import AdaptiveGuidance

from .agreement import EXPLAINED, SHAPES, THRESHOLD, agreement, cosines
from .recording import RESULTS

MEASURED = json.loads((RESULTS / "agreement.json").read_text())


def test_estimates_agree_later_and_scatter_more_at_small_latents() -> None:
    small, large = ((1, 8, 8), (3, 32, 32))
    for t in (0.4, 0.6):
        assert cosines(small, 0.1, t).mean() < cosines(large, 0.1, t).mean()
        assert cosines(small, 0.1, t).std() > cosines(large, 0.1, t).std()
    assert cosines(small, 0.1, 0.01).min() > THRESHOLD
    assert agreement(small, 0.1) == pytest.approx(MEASURED["gaussian"]["1x8x8"]["0.1"])


def test_the_docstring_has_the_figures_of_the_file() -> None:
    text = " ".join(str(AdaptiveGuidance.__doc__).split()).replace("\N{MULTIPLICATION SIGN}", "x")
    found = [MEASURED["gaussian"]["x".join(map(str, shape))] for shape in SHAPES]
    times = {each: [f"{of_size[f'{each:g}']['t']:.2f}" for of_size in found] for each in EXPLAINED}
    small, middle, large = times[0.1]
    assert f"t = {small} at 1 x 8 x 8, at {middle} at 3 x 32 x 32 and at {large} at 16 x 64 x 64" in text
    assert "with 5 % of the energy it is {}, {} and {}".format(*times[0.05]) in text
    assert "with 30 % {}, {} and {}".format(*times[0.3]) in text
    spread = [f"{of_size['0.1']['standard deviation of the cosine']:.4f}" for of_size in found]
    assert "by {}, {} and {} (standard deviation".format(*spread) in text
    saved = [f"{MEASURED['pretrained'][task]:.0%}".replace("%", " %") for task in ("digits-lt", "mnist-lt")]
    assert f"{saved[0]} of the unconditional evaluations were saved on tiny-sd3 (1 x 8 x 8) and {saved[1]}" in text

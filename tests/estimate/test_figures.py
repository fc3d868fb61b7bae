"""Published backbones at their true size, against figures that were measured or computed elsewhere."""

from __future__ import annotations

import pytest

from grasp_bench.backbones.aliases import ALIASES
from grasp_bench.errors import UserError
from grasp_bench.estimate import measure
from grasp_bench.estimate.configured import SHIPPED, configured
from grasp_bench.estimate.depth import extrapolated
from grasp_bench.estimate.devices import GIB
from grasp_bench.estimate.simulate import SimulatedGpu
from grasp_bench.estimate.steps import training_steps
from grasp_bench.estimate.subject import choose

PARAMETERS = {
    "flux-dev": 11_901_408_320,
    "pixart-alpha": 611_349_152,
    "pixart-alpha-512": 610_856_096,
    "pixart-sigma": 610_856_096,
    "sana-0.6b": 591_747_872,
    "sana-1.6b": 1_604_462_752,
    "sd3-medium": 2_028_328_000,
    "sd3.5-large": 8_056_627_520,
    "sd3.5-medium": 2_243_171_520,
}
"""Alias → parameters of the transformer: those of the published weights."""
SIZES = {"pixart-alpha-512": 512, "sana-0.6b": 512}
OTHERS = 1024

TRAINING = [
    ("sd3.5-medium", 1024, "grasp", 28.0, 7.2),
    ("sd3.5-medium", 512, "grasp", 5.3, 2.1),
    ("sd3.5-medium", 256, "grasp", 1.9, 0.85),
    ("sd3.5-medium", 1024, "vanilla-ft", 35.9, None),
    ("sana-0.6b", 512, "grasp", 0.59, 0.56),
    ("pixart-sigma", 1024, "grasp", 16.4, 3.7),
]
"""Backbone, pixels, method, TFLOP and GiB per image in training in bfloat16 without gradient checkpointing, as an
independent simulation of whole transformers found them."""


def test_every_alias_has_a_configuration() -> None:
    assert PARAMETERS.keys() == ALIASES.keys()
    for _, repository in ALIASES.values():
        assert (SHIPPED / f"{repository.replace('/', '--')}.json").is_file()


@pytest.mark.parametrize("alias", ALIASES)
def test_transformers_have_their_published_size(alias: str) -> None:
    with SimulatedGpu() as gpu:
        backbone = configured(alias)
        assert sum(each.numel() for each in backbone.transformer.parameters()) == PARAMETERS[alias]
        assert getattr(backbone, "image_shape", None) == (3, *[SIZES.get(alias, OTHERS)] * 2)
        assert gpu.live == 0


@pytest.mark.parametrize(("resolution", "message"), [(100, "supports 256, 512, 1024"), (8000, "its own")])
def test_a_size_that_a_backbone_has_no_places_for_is_refused(resolution: int, message: str) -> None:
    with SimulatedGpu(), pytest.raises(UserError, match=message):
        configured("sd3.5-medium", resolution)


def test_a_configuration_that_is_not_known_is_asked_for() -> None:
    with SimulatedGpu(), pytest.raises(UserError, match=r"sd3:somebody/else|somebody/else: .* JSON files"):
        configured("sd3:somebody/else")


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "side", "method", "tflop", "gib"), TRAINING)
def test_training_takes_what_was_found_elsewhere(
    backbone: str, side: int, method: str, tflop: float, gib: float | None
) -> None:
    passes = measure.measure(choose(method, "mimic-lt", backbone, resolution=side)).passes
    assert passes.flops / 1e12 == pytest.approx(tflop, rel=0.03)  # of two digits
    if gib is not None:
        assert passes.per_image / GIB == pytest.approx(gib, rel=0.02)


@pytest.mark.slow
def test_all_weights_with_gradients_and_moments_of_sd35_medium() -> None:
    (step,) = training_steps(choose("vanilla-ft", "mimic-lt", "sd3.5-medium", resolution=1024), [1])
    assert step.parameters == step.total == PARAMETERS["sd3.5-medium"]
    assert (step.weights + step.gradients + step.optimizer) / GIB == pytest.approx(34, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "method", "checkpointing"),
    [("sana-0.6b", "vanilla-ft", True), ("sana-0.6b", "grasp", True), ("sd3.5-medium", "lora", False)],
)
def test_few_blocks_tell_what_all_of_them_take(backbone: str, method: str, checkpointing: bool) -> None:
    subject = choose(method, "mimic-lt", backbone, resolution=256)
    (whole,) = training_steps(subject, [measure.SMALL], checkpointing)
    (found,) = extrapolated(lambda each: training_steps(each, [measure.SMALL], checkpointing), subject)
    for part in ("parameters", "total", "gradients"):
        assert getattr(found, part) == getattr(whole, part)
    assert found.passes.flops == whole.passes.flops
    assert found.passes.peak == pytest.approx(whole.passes.peak, rel=1e-3)
    assert found.passes.traffic == pytest.approx(whole.passes.traffic, rel=1e-3)
    assert found.update.peak == pytest.approx(whole.update.peak, rel=1e-3)

"""Guidances that ask a classifier, a gradient or adapters, on one short training, as a run samples from them."""

import json
from collections.abc import Callable

import pytest
import torch

from grasp_bench.contracts.progress import Progress
from grasp_bench.guidances import attribute, distilled, experts, image_classifier
from grasp_bench.io import read_tensors
from grasp_bench.run.files import GENERATE_SUMMARY, IMAGES
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan

STEPS = 4  # of sampling, in the smoke budget
ACTIVE = {
    "gfcg": ["epochs=2"],
    "classifier": ["epochs=2"],
    "attribute": ["images=4", "noises=1", "guidance_scale=1"],
    "ltg": ["epochs=2", "classifiers=2"],
    "ppap": ["epochs=2", "experts=2", "samples=1", "expert_steps=3"],
    "sg-minority": ["every=2"],
    "distilled": ["steps=5", "trajectories=1", "batch_size=16"],
}
NEUTRAL = {
    "gfcg": ["epochs=2", "max_scale=1"],
    "classifier": ["epochs=2", "guidance_scale=0"],
    "attribute": ["images=4", "noises=1", "guidance_scale=1", "strength=0"],
    "ltg": ["epochs=2", "classifiers=2", "guidance_scale=0"],
    "ppap": ["epochs=2", "experts=2", "samples=1", "expert_steps=3", "guidance_scale=0"],
    "sg-minority": ["guidance_scale=0"],
    "distilled": ["guidance_scale=1"],
}
EVALUATIONS = {
    "gfcg": 7,
    "classifier": STEPS,
    "attribute": STEPS,
    "ltg": STEPS,
    "ppap": STEPS,
    "sg-minority": 6,
    "distilled": STEPS,
}
"""Of the network for each image; gfcg acts at t = 0.75, 0.5 and 0.25, sg-minority at steps 0 and 2."""
LEARNED = {
    "gfcg": {image_classifier.WEIGHTS, image_classifier.REPORT},
    "classifier": {image_classifier.WEIGHTS, image_classifier.REPORT},
    "attribute": {attribute.DIRECTIONS, attribute.REPORT},
    "ppap": {image_classifier.WEIGHTS, "expert-0.safetensors", "expert-1.safetensors", experts.EXPERTS},
    "ltg": {image_classifier.WEIGHTS, "classifier-1.safetensors", image_classifier.REPORT},
    "sg-minority": set(),
    "distilled": {distilled.WEIGHTS, distilled.REPORT},
}

Make = Callable[..., Pipeline]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A guidance's name and settings, and images at a time → its pipeline; all share a folder, and so a training."""
    folder = tmp_path_factory.mktemp("runs")

    def make(guidance: str, settings: list[str], batch_size: int = 40) -> Pipeline:
        options = Options(folder / "results", folder / "work", device="cpu", batch_size=batch_size, log_every=10)
        chosen = plan(method="lora", task="digits-lt", budget="smoke", guidance=guidance, guidance_settings=settings)
        return Pipeline(chosen, options, torch.device("cpu"), Progress())

    return make


def images(made: Pipeline) -> torch.Tensor:
    return read_tensors(made.generated / IMAGES)["images"]


@pytest.mark.parametrize("name", ACTIVE)
def test_images_are_its_own_at_its_own_cost(pipeline: Make, name: str) -> None:
    made = pipeline(name, ACTIVE[name])
    found, unguided = images(made), images(pipeline("none", []))
    assert not torch.equal(found, unguided)
    assert all(image.float().std() > 5 for image in found)
    spent = json.loads((made.generated / GENERATE_SUMMARY).read_text())["network_evaluations_per_image"]
    assert spent == EVALUATIONS[name]
    if LEARNED[name]:
        folder = made.store.folder("guide", made.inputs["guide"])
        assert LEARNED[name] <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ACTIVE)
def test_neutral_settings_make_the_images_of_no_guidance(pipeline: Make, name: str) -> None:
    made = pipeline(name, NEUTRAL[name])
    assert torch.equal(images(made), images(pipeline("none", [])))
    assert json.loads((made.generated / GENERATE_SUMMARY).read_text())["network_evaluations_per_image"] == STEPS

"""Every guidance on one short training of the embedded backbone, as a run samples from it."""

import json
from collections.abc import Callable

import pytest
import torch

from grasp_bench.contracts.progress import Progress
from grasp_bench.guidances.linear import COEFFICIENTS, SUMMARY
from grasp_bench.io import read_tensors
from grasp_bench.run.files import GENERATE_SUMMARY, IMAGES
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan

STEPS = 4  # of sampling, in the smoke budget
EVALUATIONS = {
    "none": STEPS,
    "cfg-interval": None,
    "cfg++": 2 * STEPS,
    "apg": 2 * STEPS,
    "pag": 3 * STEPS,
    "adaptive": None,
    "linear-ag": STEPS + 1,
    "autoguidance": 2 * STEPS,
    "adapter-off": 2 * STEPS,
    "fa-cfg": 2 * STEPS,
    "cascade": 2 * STEPS,
}
"""Of a network for each image; None where it depends on the levels or the image."""
SETTINGS = {"linear-ag": ["trajectories=25"], "autoguidance": ["weak_share=0.25"], "sg-minority": ["every=1"]}

Make = Callable[..., Pipeline]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A guidance's name, and settings beyond its own here → its pipeline; all share a folder, and so a training."""
    folder = tmp_path_factory.mktemp("runs")
    options = Options(folder / "results", folder / "work", device="cpu", batch_size=40, log_every=10)

    def make(guidance: str, *more: str) -> Pipeline:
        settings = [*SETTINGS.get(guidance, []), *more]
        chosen = plan(method="grasp", task="digits-lt", budget="smoke", guidance=guidance, guidance_settings=settings)
        return Pipeline(chosen, options, torch.device("cpu"), Progress())

    return make


@pytest.mark.parametrize("name", EVALUATIONS)
def test_images_are_its_own_at_its_own_cost(pipeline: Make, name: str) -> None:
    made = pipeline(name).generated
    spent = json.loads((made / GENERATE_SUMMARY).read_text())["network_evaluations_per_image"]
    if EVALUATIONS[name] is None:
        assert STEPS < spent <= 2 * STEPS
    else:
        assert spent == EVALUATIONS[name]
    images, unguided = (read_tensors(each / IMAGES)["images"] for each in (made, pipeline("none").generated))
    assert torch.equal(images, unguided) == (name == "none")
    assert all(image.float().std() > 5 for image in images)


def summary(made: Pipeline) -> dict[str, float]:
    found: dict[str, float] = json.loads((made.generated / GENERATE_SUMMARY).read_text())
    return found


def test_operations_at_twice_the_sides_are_counted(pipeline: Make) -> None:
    """Four times the image's tokens, beside the prompt's, which are as many as before."""
    plain, late, early = (
        summary(pipeline(name, *settings))["gflops_per_image"]
        for name, settings in (("fa-cfg", []), ("cascade", []), ("cascade", ["share=0.99"]))
    )
    step = plain / STEPS
    large = late - (STEPS - 1) * step  # of the four steps the last is at twice the sides, or all but the first
    assert 2 * step < large < 5 * step
    assert early == pytest.approx(step + (STEPS - 1) * large, rel=0.01)


def test_operations_and_backward_passes_are_counted(pipeline: Make) -> None:
    plain, guided, minority = (summary(pipeline(name)) for name in ("none", "cfg++", "sg-minority"))
    assert guided["gflops_per_image"] == pytest.approx(2 * plain["gflops_per_image"], rel=0.01)
    assert plain["backward_passes_per_image"] == guided["backward_passes_per_image"] == 0
    steps = STEPS - 1  # nothing is left to move in the last
    assert minority["network_evaluations_per_image"] == STEPS + steps
    assert minority["backward_passes_per_image"] == steps
    # the gradient of one pass takes what the pass took: products with weights that nothing trains are not recomputed
    assert minority["gflops_per_image"] == pytest.approx(
        plain["gflops_per_image"] * (STEPS + 2 * steps) / STEPS, rel=0.1
    )
    assert all(each["peak_memory_mib"] > 100 for each in (plain, guided, minority))


def test_what_linear_ag_learns(pipeline: Make) -> None:
    guided = pipeline("linear-ag")
    _ = guided.generated
    folder = guided.store.folder("guide", guided.inputs["guide"])
    assert read_tensors(folder / COEFFICIENTS)["coefficients"].shape == (STEPS // 2, STEPS)
    summary = json.loads((folder / SUMMARY).read_text())
    assert summary["num_inference_steps"] == STEPS
    assert all(0 <= error < 0.5 for error in summary["relative_squared_errors"])

"""What each check of a guidance does, on one backbone; named as in ``guidances.CONTRACT``."""

from __future__ import annotations

from pathlib import Path

import torch

from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors
from grasp_bench.testing.anatomy import changed_values, some
from grasp_bench.testing.checks import require
from grasp_bench.testing.sampling import Subject

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""What rounding may do to latents in batches of another size, as a share of their root mean square."""


def finite_images(subject: Subject) -> None:
    """What the harness makes of every class."""
    run = subject.made
    classes, latents = len(run.classes), run.denoise([0])
    expected = (classes, *run.plan.backbone.image_shape)
    require(tuple(run.pixels.shape) == expected, f"images of shape {tuple(run.pixels.shape)}, expected {expected}")
    require(bool(latents.isfinite().all()), "latents are not finite")
    shape = run.witness.workshop.backbone.latent_shape
    require(latents.shape[1:] == shape, f"latents of shape {tuple(latents.shape[1:])}, expected {shape}")


def deterministic(subject: Subject) -> None:
    """The same batch twice, under different global generators."""
    numbers, found = [0, 3, 9], []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(subject.made.denoise(numbers))
    distance = _share(found[0], found[1])
    require(
        torch.equal(found[0], found[1]),
        f"the same batch twice differs by {distance:.2g} of its size. Does it draw from a global generator, or keep "
        "something from one batch to the next? SamplingStep has generators and memory for both",
    )


def image_alone(subject: Subject) -> None:
    """Images of all classes in one batch against each by itself."""
    run = subject.made
    numbers = list(range(len(run.classes)))
    together = run.denoise(numbers)
    distances = {number: _share(run.denoise([number])[0], together[number]) for number in numbers}
    far = [number for number, distance in distances.items() if not distance <= TOLERANCE[together.dtype]]
    require(
        not far,
        f"{len(far)} of {len(numbers)} images differ by themselves from what they are among others, by up to "
        f"{max(distances.values()):.2g} of their size",
    )


def batch_size(subject: Subject) -> None:
    """The harness's images in batches of all and of three, by two guidances that were prepared apart."""
    found, expected = subject.run(batch_size=3).pixels.int(), subject.made.pixels.int()
    apart = (found - expected).abs().flatten(1).max(1).values
    require(
        bool((apart <= 1).all()),
        f"{int((apart > 1).sum())} of {len(apart)} images differ in batches of 3, by up to {apart.max()} grey levels",
    )


def evaluations(subject: Subject) -> None:
    """A count of what went through transformers against the record's and the guidance's own."""
    run = subject.made
    passed = run.witness.passed / len(run.pixels)
    require(
        passed == run.counted,
        f"{passed:g} samples an image went through the network, and its counter saw {run.counted:g}: predict by the "
        "model that predict() is given, or the workshop's networks",
    )
    steps = run.witness.steps(run.plan.spec.budget)
    try:
        stated = run.witness.evaluations(steps)
    except UserError:  # it does not say: it cannot be run at equal evaluations
        return
    require(passed <= stated, f"{steps} steps took {passed:g} evaluations of an image, and evaluations() says {stated}")


def weights_untouched(subject: Subject) -> None:
    """The network before the guidance has seen it and after the last image."""
    run = subject.made
    witness = run.witness
    changed = changed_values(witness.before)
    require(not changed, f"values differ after sampling: {some(changed)}")
    before, after = witness.prediction, witness.own_prediction()
    require(torch.equal(before, after), f"after sampling, its own predictions differ by {_share(after, before):.2g}")


def learned_files(subject: Subject) -> None:
    """The files of the folder that learn() is given."""
    names = {path.name for path in subject.made.learned.iterdir()}
    odd = {name for name in names if not name.endswith((".safetensors", ".json"))}
    require(not odd, f"it leaves {some(odd)}")


def learned_again(subject: Subject) -> None:
    """The tensors of two learnings, under different global generators."""
    folder = subject.made.learned
    before = _tensors(folder)
    again = subject.run()
    again.forget("guide")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        after = _tensors(again.learned)
    require(before.keys() == after.keys(), f"it keeps other tensors: {some(before.keys() ^ after.keys())}")
    other = {name for name in before if not torch.equal(before[name], after[name])}
    require(not other, f"tensors differ: {some(other)}. The workshop's generator() gives a stream of the run's own")


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor in the files of a folder, by file and name."""
    return {
        f"{path.name}: {name}": tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in read_tensors(path).items()
    }


def _share(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.square().mean().sqrt()).item()

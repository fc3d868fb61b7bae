"""The checks of what a method does to whole training steps; the docstring of each is its contract."""

from __future__ import annotations

import numpy as np
import torch

from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.compare import none
from grasp_bench.testing.rig import STEPS, Subject

ENOUGH = 100  # steps, of which every share in hundredths is a number


def surgery(subject: Subject) -> None:
    """surgery() puts the gradients of groups together alike for equal gradients and streams, changes nothing of them,
    draws from its stream alone, and gives a finite gradient also where groups have no samples.
    """
    run = subject.attach()
    found = run.method.surgery()
    if found is None:
        raise NotApplicable("it has no surgery()")
    groups, size = found.groups, sum(each.numel() for each in run.method.parameters().values())
    whole = groups.dtype == torch.int64 and groups.device.type == "cpu" and groups.shape == (len(run.classes),)
    require(whole, f"groups are {groups.dtype} of shape {tuple(groups.shape)} on {groups.device}")
    require(bool((groups >= 0).all()), f"groups are {sorted(set(groups.tolist()))}, expected numbers from 0 on")
    gradients = torch.randn(int(groups.max()) + 1, size, generator=torch.Generator().manual_seed(0))
    for absent in range(len(gradients) + 1):
        given = gradients.clone()
        given[:absent] = 0
        kept, before = given.clone(), torch.get_rng_state()
        steps = [found.combine(given, torch.Generator().manual_seed(1)) for _ in range(2)]
        require(torch.equal(given, kept), "combine() changes the gradients that it is given")
        require(torch.equal(before, torch.get_rng_state()), "combine() draws from torch's global generator")
        words = f"with {absent} of {len(gradients)} groups without samples"
        require(steps[0].shape == (size,), f"combine() gives {tuple(steps[0].shape)}, expected ({size},)")
        require(bool(steps[0].isfinite().all()), f"combine() gives a gradient that is not finite {words}")
        require(torch.equal(*steps), f"combine() gives another gradient for the same ones and stream {words}")


def second_stage(subject: Subject) -> None:
    """second_stage() begins within the training, draws classes by finite weights that leave some images, and trains
    some of parameters(); it says the same when it is asked again.
    """
    run = subject.attach()
    counts = np.bincount(run.data.train.labels, minlength=len(run.classes))
    if run.method.second_stage(STEPS, counts.copy()) is None:
        raise NotApplicable("it has no second_stage()")
    for steps in (STEPS, ENOUGH):
        given = counts.copy()
        found, again = (run.method.second_stage(steps, given) for _ in range(2))
        require(np.array_equal(given, counts), "second_stage() changes the counts that it is given")
        assert found is not None
        assert again is not None
        require(0 <= found.start < steps, f"it begins at step {found.start} of {steps}")
        require(found.start == again.start, f"it begins at step {found.start}, and then at {again.start}")
        drawn = found.sample_weights
        if drawn is not None:
            require(drawn.shape == counts.shape, f"sample_weights have shape {drawn.shape}, expected {counts.shape}")
            require(np.isfinite(drawn).all() and (drawn >= 0).all(), f"sample_weights are {drawn}")
            require((drawn * counts).sum() > 0, "sample_weights leave no image")
        names = list(run.method.parameters())
        trained = [name for name in names if found.trains(name)]
        require(trained, f"trains() is false for all {len(names)} parameters")
        none("trains() says otherwise when it is asked again of", {*trained} ^ {*filter(again.trains, names)})

"""The embedded backbones keep the contract; and what does not is caught by the very check, in words.

Families of saved pipelines are checked in ``tests/backbones``.
"""

from __future__ import annotations

import re

import pytest

from grasp_bench.contracts.backbone import Backbone
from grasp_bench.errors import UserError
from grasp_bench.testing import Check, NotApplicable, backbone_checks
from grasp_bench.testing.checks import contracts

from . import broken_backbones as broken
from .registered import register

KEEPING = [
    pytest.param(check, id=f"{name}-{check}") for name in ("tiny-sd3", "tiny-sd3-32") for check in backbone_checks(name)
]


@pytest.mark.parametrize("check", KEEPING)
def test_the_contract_is_kept(check: Check) -> None:
    try:
        check()
    except NotApplicable as reason:
        assert check.name == "padding"
        pytest.skip(str(reason))


FAULTS = [
    (broken.Larger, "describe", "image_shape is (1, 16, 16), and images have (1, 8, 8)"),
    (broken.Thawed, "frozen", "parameters require a gradient: proj_out.bias, proj_out.weight"),
    (broken.DrawsOnLoading, "frozen", "load() draws from torch's global generator"),
    (broken.Centred, "images", "latents differ with the batch"),
    (broken.Cut, "decode", "does not require grad"),
    (broken.Deaf, "prompts", "'one' have the same embedding"),
    (broken.Narrow, "prompt-width", "prompt_width() is 7, and embeddings have 64"),
    (broken.Ancestral, "scheduler", "sampling draws from a global generator"),
    (broken.OfTheBatch, "mixed-batch", "samples by themselves differ by up to"),
    (broken.Timeless, "predict", "predictions do not depend on timesteps"),
    (broken.Drops, "train-mode", "of 100 predictions of one sample differ in training mode"),
    (broken.Shuffled, "feed-forwards", "expected 7 in order"),
    (broken.Silent, "blocks", "block 0 returns 1 tensors before the image's"),
    (broken.Fewer, "blocks", "block 0 reads (3, 16, 64), of 4 tokens"),
    (broken.Convolves, "attention-projections", "are not linear layers: transformer_blocks.0.attn"),
    (broken.Keeps, "checkpointing", "no feed-forward layer runs a second time"),
]


@pytest.mark.parametrize(("plugin", "check", "words"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_fault_is_caught_by_the_check_of_it(
    plugin: type[Backbone], check: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = backbone_checks(register(monkeypatch, "backbones", plugin))
    with pytest.raises(AssertionError, match=re.escape(words)) as caught:
        (fault := next(each for each in checks if each.name == check))()
    assert str(caught.value).startswith(fault.contract)


def test_weights_that_are_not_here_are_said_and_are_no_failure() -> None:
    for check in backbone_checks("sd3"):
        if check.name in contracts("on_weights") | contracts("on_layers"):
            with pytest.raises(NotApplicable, match="needs the folder of a saved pipeline"):
                check()


def test_unknown_names_sources_and_settings_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="Did you mean 'tiny-sd3'"):
        backbone_checks("tiny-sd")
    with pytest.raises(UserError, match="there is no such folder"):
        backbone_checks("sd3:/no/such/folder")
    with pytest.raises(UserError, match="backbone tiny-sd3 has no settings: leave out side=8"):
        backbone_checks("tiny-sd3", ["side=8"])

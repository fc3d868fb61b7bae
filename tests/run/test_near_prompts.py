"""Embeddings of prompts on the device of training."""

import pytest
import torch

from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.run.training import prompts
from grasp_bench.run.training.prompts import NearPrompts
from grasp_bench.sampling import Sampler

CPU = torch.device("cpu")
NAMES = ["a zero", "a one", "a two"]


class Encoder:
    """Embeddings that tell their prompt; notes what was asked for."""

    def __init__(self) -> None:
        self.asked = []

    def __call__(self, names) -> PromptEmbeddings:
        self.asked.append(list(names))
        tokens = torch.stack([torch.full((3, 2), float(len(name) + ord(name[-1]) if name else 0)) for name in names])
        return PromptEmbeddings(tokens.double(), pooled=tokens[:, 0], mask=tokens[..., 0] > 0)


def assert_same(found: PromptEmbeddings, expected: PromptEmbeddings) -> None:
    assert found.tensors().keys() == expected.tensors().keys()
    for name, tensor in found.tensors().items():
        assert torch.equal(tensor, expected.tensors()[name].to(tensor.dtype))


@pytest.mark.parametrize("room", [0, 2**30])
def test_rows_are_those_of_the_prompts_in_the_precision_that_is_asked_for(monkeypatch, room):
    monkeypatch.setattr(prompts, "ON_A_CPU", room)
    near = NearPrompts(Encoder(), NAMES * 5, CPU)
    for asked in (["a one", "", "a one", "a two"], ["a zero"]):
        found = near(asked, torch.float32)
        assert_same(found, Encoder()(asked))
        assert found.tokens.dtype == torch.float32
        assert found.mask.dtype == torch.bool
    assert near(["a one"], torch.bfloat16).tokens.dtype == torch.bfloat16


def test_where_there_is_room_every_prompt_is_encoded_once(monkeypatch):
    encoder = Encoder()
    near = NearPrompts(encoder, NAMES * 5, CPU)
    for _ in range(3):
        near(["a one", "", "a one"], torch.float32)
    assert encoder.asked == [[""], ["", "a one", "a two", "a zero"]]


def test_elsewhere_a_step_copies_its_distinct_ones(monkeypatch):
    monkeypatch.setattr(prompts, "ON_A_CPU", 0)
    encoder = Encoder()
    near = NearPrompts(encoder, NAMES * 5, CPU)
    near(["a one", "", "a one", "a zero"], torch.float32)
    assert encoder.asked == [[""], ["", "a one", "a zero"]]


def test_prompts_of_classes_without_an_image_are_encoded_when_they_are_asked_for():
    assert_same(NearPrompts(Encoder(), NAMES, CPU)(["a ten", "a one"], torch.float32), Encoder()(["a ten", "a one"]))


def test_sampling_copies_distinct_embeddings_too():
    encoder = Encoder()
    sampler = Sampler.__new__(Sampler)
    sampler.stored, sampler.embed = True, encoder
    asked = ["a one"] * 3 + ["a two"] * 2 + ["a one"]
    assert_same(sampler._near(asked, torch.zeros(6)), Encoder()(asked))
    assert encoder.asked == [["a one", "a two"]]
    sampler.stored = False
    sampler._near(asked, torch.zeros(6))
    assert encoder.asked[1:] == [asked]  # an encoder's bits may depend on the batch

"""Distilled guidance: it starts as the conditional prediction, learns the guided one and leaves the network alone."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from workshops import workshop

from grasp_bench.adapters.inject import unwrap
from grasp_bench.contracts.guidance import Model, SamplingStep, Workshop
from grasp_bench.errors import UserError
from grasp_bench.guidances import states as states_module
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.guidances.distillation import Adapters, DistilledAdapter, Prompts, draws, fit
from grasp_bench.guidances.distilled import REPORT, WEIGHTS, DistilledGuidance, DistilledSettings
from grasp_bench.guidances.states import collect
from grasp_bench.io import read_tensors, write_tensors
from grasp_bench.memory import Portion
from grasp_bench.sampling import Sampler

LABELS = torch.tensor([0, 9, 4])
X = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
T = torch.tensor([1.0, 0.6, 0.2], dtype=torch.float64)
STEP = SamplingStep(0, 4, T, T / 2, {}, [])
SHORT = {"trajectories": 2, "steps": 40, "batch_size": 16, "rank": 16, "guidance_scale": 3}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return workshop(tmp_path / "data")


def model_of(shop: Workshop) -> Model:
    return Prompts(shop).model(LABELS, X)


@torch.no_grad()
def conditional(shop: Workshop) -> torch.Tensor:
    return model_of(shop).conditional(X, T)


@contextmanager
def adapted(shop: Workshop) -> Iterator[Adapters]:
    """Fresh adapters on the transformer, which is left as it was."""
    adapters = Adapters(shop.backbone, 16, torch.Generator().manual_seed(1), X)
    yield adapters
    adapters.remove()


def test_fresh_adapters_change_nothing_and_leave_nothing(shop: Workshop) -> None:
    expected, names = conditional(shop), list(shop.backbone.transformer.state_dict())
    with adapted(shop) as adapters:
        assert len(adapters.parameters()) == 2 * len(shop.backbone.feed_forwards())
        assert torch.equal(conditional(shop), expected)
        with adapters.active():
            assert torch.equal(conditional(shop), expected)
            for parameter in adapters.parameters().values():
                parameter.data.add_(0.1)
            assert not torch.allclose(conditional(shop), expected, atol=1e-3)
        assert torch.equal(conditional(shop), expected)
    assert list(shop.backbone.transformer.state_dict()) == names


def test_trajectories_are_those_of_guidance_and_every_class_has_as_many(shop: Workshop, tmp_path: Path) -> None:
    states = collect(shop, 3.0, 4, range(2), 16, lambda count: None, tmp_path)
    assert len(states) == 10 * 2 * 4
    assert set(states[torch.arange(80)].labels.bincount().tolist()) == {2 * 4}
    rows = torch.tensor([3, 25, 79])
    some, teacher = states[rows], ClassifierFreeGuidance(CfgSettings(guidance_scale=3))
    step = SamplingStep(0, 4, some.timesteps, some.timesteps, {}, [])
    with torch.no_grad():
        model = Prompts(shop).model(some.labels, some.latents)
        torch.testing.assert_close(teacher.predict(model, some.latents, step), some.guided)


def test_states_that_are_not_drawn_are_not_kept(shop: Workshop, tmp_path: Path) -> None:
    order = draws(80, 3, 4, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(order, torch.stack([torch.randint(80, (4,), generator=generator) for _ in range(3)]))
    every = collect(shop, 3.0, 4, range(2), 16, lambda count: None, tmp_path / "all")
    drawn = collect(shop, 3.0, 4, range(2), 16, lambda count: None, tmp_path / "drawn", order)
    kept = sum(len(read_tensors(path)["rows"]) for path in (tmp_path / "drawn").iterdir())
    assert kept == len(order.unique()) < 80
    assert len(drawn) == len(every) == 80
    for rows in order:
        for name, value in vars(every[rows]).items():
            assert torch.equal(getattr(drawn[rows], name), value)


def test_an_interrupted_collection_goes_on_and_states_leave_the_disk(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = DistilledSettings(**SHORT)
    guidance = DistilledGuidance(settings)
    guidance.learn(shop, whole)
    made: list[int] = []
    sample = states_module.trajectories

    def interrupted(*arguments: object) -> Iterator[object]:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return sample(*arguments)

    monkeypatch.setattr(states_module, "trajectories", interrupted)
    with pytest.raises(KeyboardInterrupt):
        DistilledGuidance(settings).learn(shop, broken)
    unwrap(shop.backbone.transformer, DistilledAdapter)  # as in a process that begins anew
    assert len(list((broken / "states/seen").iterdir())) == 2
    made.clear()
    monkeypatch.setattr(states_module, "trajectories", lambda *arguments: made.append(1) or sample(*arguments))
    DistilledGuidance(settings).learn(shop, broken)
    assert len(made) == 1  # 20 trajectories are two batches of 16 and 4, and 10 more are one
    for name, value in read_tensors(whole / WEIGHTS).items():
        assert torch.equal(read_tensors(broken / WEIGHTS)[name], value)
    assert {path.name for path in broken.iterdir()} == {WEIGHTS, REPORT}


def test_a_full_disk_is_told_before_anything_is_made(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="states of guided trajectories need"):
        collect(shop, 3.0, 4, range(2), 16, lambda count: None, tmp_path)


def test_it_learns_the_guided_prediction_and_leaves_the_method_alone(shop: Workshop, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in shop.method.state_dict().items()}
    expected = conditional(shop)
    with torch.no_grad():
        target = ClassifierFreeGuidance(CfgSettings(guidance_scale=3)).predict(model_of(shop), X, STEP)
    guidance = DistilledGuidance(DistilledSettings(**SHORT))
    guidance.learn(shop, tmp_path)
    assert torch.equal(conditional(shop), expected)
    assert all(torch.equal(value, before[name]) for name, value in shop.method.state_dict().items())
    assert all(parameter.grad is None for parameter in shop.backbone.transformer.parameters())
    errors = json.loads((tmp_path / REPORT).read_text())["remaining_error"]
    assert list(errors) == [str(digit) for digit in range(10)]
    assert max(errors.values()) < 1

    guidance.prepare(shop, tmp_path)
    assert torch.equal(conditional(shop), expected)  # outside of the guidance's own evaluations
    evaluations = shop.network.evaluations
    with torch.no_grad():
        got = guidance.predict(model_of(shop), X, STEP)
        alone = guidance.predict(model_of(shop).rows(torch.tensor([1])), X[1:2], SamplingStep(0, 4, T[1:2], T, {}, []))
    assert shop.network.evaluations - evaluations == len(X) + 1
    assert (got - target).square().mean() < (expected - target).square().mean()
    torch.testing.assert_close(alone, got[1:2])
    assert not got.requires_grad


def test_at_scale_1_there_is_nothing_to_learn(shop: Workshop, tmp_path: Path) -> None:
    guidance, expected = DistilledGuidance(DistilledSettings(guidance_scale=1)), conditional(shop)
    guidance.learn(shop, tmp_path)
    assert json.loads((tmp_path / REPORT).read_text()) == {"remaining_error": {}}
    guidance.prepare(shop, tmp_path)
    with torch.no_grad():
        assert torch.equal(guidance.predict(model_of(shop), X, STEP), expected)


def test_weights_of_another_rank_do_not_load(shop: Workshop, tmp_path: Path) -> None:
    with adapted(shop) as adapters:
        write_tensors(tmp_path / WEIGHTS, adapters.parameters())
        assert set(read_tensors(tmp_path / WEIGHTS)) == set(adapters.parameters())
    with pytest.raises(RuntimeError, match="size"):
        DistilledGuidance(DistilledSettings(rank=8)).prepare(shop, tmp_path)


def test_where_memory_runs_out_states_are_those_of_fewer_trajectories_at_a_time(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = draws(80, 3, 8, torch.Generator().manual_seed(0))
    whole = collect(shop, 3.0, 4, range(2), 16, lambda count: None, tmp_path / "whole", order)
    denoise, sizes = Sampler.denoise, list[int]()

    def limited(self: Sampler, noise: torch.Tensor, *more: object) -> torch.Tensor:
        sizes.append(len(noise))
        if len(noise) > 4:
            denoise(self, noise, *more)  # its states are thrown away
            raise torch.cuda.OutOfMemoryError
        return denoise(self, noise, *more)

    monkeypatch.setattr(Sampler, "denoise", limited)
    parts = collect(shop, 3.0, 4, range(2), 16, lambda count: None, tmp_path / "parts", order)
    assert sizes == [16, 8, 4, 4, 4, 4, 4]
    for rows in order:
        for name, value in vars(whole[rows]).items():
            torch.testing.assert_close(getattr(parts[rows], name), value)


def test_where_memory_runs_out_gradients_are_those_of_fewer_states_at_a_time(shop: Workshop, tmp_path: Path) -> None:
    prompts, order = Prompts(shop), draws(80, 3, 8, torch.Generator().manual_seed(0))
    states = collect(shop, 3.0, 4, range(2), 16, lambda count: None, tmp_path, order)
    found = []
    for at_once in (8, 3):
        with adapted(shop) as adapters:
            fit(adapters, prompts, states, order, 1e-3, Portion(at_once, "", lambda line: None), lambda count: None)
            found.append({name: value.detach().clone() for name, value in adapters.parameters().items()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-6)
        assert name.endswith("down") or value.any()

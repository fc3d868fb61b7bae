"""What every method must do, whatever it is: the contract, on the embedded backbone and task."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from grasp_bench import plugins, seeds
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.harness.plan import Plan, plan
from grasp_bench.method import Batch, Condition, Method, MethodSettings

METHODS = sorted(plugins.entries("methods"))
BATCH = 6


def attached(name: str, *settings: str) -> tuple[TinySD3, Method[MethodSettings], Plan]:
    found = plan(method=name, task="digits-lt", method_settings=settings)
    backbone = TinySD3.load()
    found.method.attach(backbone, found.task, seeds.generator("init", name))
    return backbone, found.method, found


def sample(backbone: TinySD3) -> Batch:
    generator = torch.Generator().manual_seed(3)
    labels = torch.tensor([0, 3, 9, 9, 5, 1])
    prompts = backbone.encode_prompts(["a handwritten digit seven", "", "a cat", "nine", "five", "one"])
    timesteps = torch.rand(BATCH, generator=generator)
    dropped = torch.tensor([False, True, False, False, True, False])
    latents, noise = torch.randn(2, BATCH, 1, 8, 8, generator=generator)
    return Batch(
        ids=[str(i) for i in range(BATCH)],
        latents=latents,
        noise=noise,
        noisy=backbone.objective.add_noise(latents, noise, timesteps),
        target=backbone.objective.target(latents, noise, timesteps),
        condition=Condition(labels, dropped, prompts, timesteps),
        generator=generator,
        digest=b"",
    )


def forward(backbone: TinySD3, method: Method[MethodSettings] | None) -> torch.Tensor:
    batch = sample(backbone)
    with nullcontext() if method is None else method.condition(batch.condition):
        return backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)


def train(backbone: TinySD3, method: Method[MethodSettings], steps: int = 2) -> list[torch.Tensor]:
    """A few steps; the gradients of the first one."""
    parameters = method.parameters()
    optimizer = torch.optim.AdamW(parameters.values(), 1e-2)
    gradients: list[torch.Tensor] = []
    for _ in range(steps):
        batch, prediction = sample(backbone), forward(backbone, method)
        loss, auxiliary = method.losses(batch, prediction).mean(), method.auxiliary_loss(batch, prediction)
        (loss if auxiliary is None else loss + auxiliary).backward()
        optimizer.step()
        gradients = gradients or [p.grad.clone() for p in parameters.values() if p.grad is not None]
        optimizer.zero_grad()
    return gradients


@pytest.fixture(scope="module")
def base_output() -> torch.Tensor:
    return forward(TinySD3.load(), None).detach()


@pytest.mark.parametrize("name", METHODS)
def test_at_step_0_the_output_is_the_base_models_and_after_detach_too(name: str, base_output: torch.Tensor) -> None:
    backbone, method, _ = attached(name)
    assert torch.equal(forward(backbone, method), base_output)
    train(backbone, method)
    assert not torch.equal(forward(backbone, method), base_output)
    method.detach()
    assert torch.equal(forward(backbone, None), base_output)
    pristine = TinySD3.load().transformer.state_dict()
    left = backbone.transformer.state_dict()
    assert left.keys() == pristine.keys()
    assert all(torch.equal(left[key], pristine[key]) for key in pristine)
    assert not any(parameter.requires_grad for parameter in backbone.transformer.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_training_changes_its_own_parameters_and_nothing_else(name: str) -> None:
    backbone, method, _ = attached(name)
    own = {id(parameter) for parameter in method.parameters().values()}
    before = {key: (id(p), p.detach().clone()) for key, p in backbone.transformer.named_parameters()}
    train(backbone, method, steps=3)
    changed = {key for key, p in backbone.transformer.named_parameters() if not torch.equal(p, before[key][1])}
    assert changed
    assert {before[key][0] for key in changed} <= own


@pytest.mark.parametrize("name", METHODS)
def test_weights_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    from grasp_bench.io import read_tensors, write_tensors

    backbone, method, _ = attached(name)
    train(backbone, method)
    expected = forward(backbone, method)
    write_tensors(tmp_path / "weights.safetensors", method.state_dict())
    other_backbone, other, _ = attached(name)
    other.load_state_dict(read_tensors(tmp_path / "weights.safetensors"))
    assert torch.equal(forward(other_backbone, other), expected)


@pytest.mark.parametrize("name", METHODS)
def test_weights_of_another_shape_of_method_are_refused(name: str) -> None:
    _, method, _ = attached(name)
    state = method.state_dict()
    state.pop(next(iter(state)))
    with pytest.raises(ValueError, match="do not match"):
        method.load_state_dict(state)


@pytest.mark.parametrize("name", METHODS)
def test_fresh_weights_depend_on_the_init_stream_alone(name: str) -> None:
    _, first, _ = attached(name)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    _, second, _ = attached(name)
    assert torch.equal(torch.get_rng_state(), before)
    ours, theirs = first.state_dict(), second.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", METHODS)
def test_gradient_checkpointing_changes_no_gradient(name: str) -> None:
    backbone, method, _ = attached(name)
    expected = train(backbone, method, steps=1)
    backbone, method, _ = attached(name)
    backbone.enable_gradient_checkpointing()
    backbone.transformer.train()
    got = train(backbone, method, steps=1)
    assert len(got) == len(expected) > 0
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", METHODS)
def test_a_mixed_batch_equals_its_samples_run_one_by_one(name: str) -> None:
    backbone, method, _ = attached(name)
    train(backbone, method)
    batch = sample(backbone)
    condition = batch.condition
    mixed = forward(backbone, method)
    for i in range(BATCH):
        one = slice(i, i + 1)
        alone = Condition(
            condition.labels[one], condition.dropped[one], condition.prompts[one], condition.timesteps[one]
        )
        with method.condition(alone):
            output = backbone.predict(batch.noisy[one], alone.timesteps, alone.prompts)
        torch.testing.assert_close(mixed[one], output, rtol=1e-4, atol=1e-5)

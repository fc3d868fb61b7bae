"""Losses on top of other methods: their formulas, what they leave alone, and what they route."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.attaching import attach, forward, sample, train
from helpers.plugin import register
from pydantic import ValidationError

from grasp_bench import plugins
from grasp_bench.adapters.residual import WITHOUT_EXPERT, LowRankExpert
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines import cm, coral
from grasp_bench.baselines.cbdm import Cbdm
from grasp_bench.baselines.ccua import Ccua, spread
from grasp_bench.baselines.cm import Cm
from grasp_bench.baselines.coral import Coral, supervised_contrast
from grasp_bench.baselines.lora import Lora
from grasp_bench.baselines.oc import OrientedCalibration
from grasp_bench.baselines.on_top import OnTop, squared_distance
from grasp_bench.baselines.pogdiff import Pogdiff
from grasp_bench.baselines.prior import Prior
from grasp_bench.contracts.method import Batch
from grasp_bench.contracts.objective import VariancePreserving
from grasp_bench.contracts.scope import current_scope, scope
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.run.plan import plan

ALL: list[type[OnTop[Any]]] = [Cbdm, Ccua, Cm, Coral, OrientedCalibration, Pogdiff, Prior]
BENEATH = [
    *((kind, on) for kind in ALL for on in ("lora", "grasp", "moe")),
    *((Cbdm, on) for on in plugins.entries("methods") if on not in ("cbdm", "prior")),
    pytest.param(Cbdm, "prior", marks=pytest.mark.slow),  # whose settings are its defaults there
    (Cm, "loha"),
]  # what the conformance suite, which takes defaults, does not see


def moved(kind: type[OnTop[Any]], **settings: Any) -> tuple[TinySD3, Any, Batch, torch.Tensor]:
    """A method that has left its start, a batch, and the prediction for it."""
    backbone, method = attach(kind, **settings)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in method.parameters().values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return backbone, method, sample(backbone), forward(backbone, method)


def base_losses(batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
    return (prediction - batch.target).square().flatten(1).mean(1)


def returning(other: torch.Tensor) -> Callable[..., torch.Tensor]:
    """In the place of a second forward pass."""
    return lambda batch, condition: other


@pytest.mark.parametrize(
    ("kind", "neutral"),
    [
        (Cbdm, {"tau": 0}),
        (Pogdiff, {"neighbour_weight": 0}),
        (Prior, {"prior_weight": 0}),
        (Ccua, {"alignment_weight": 0, "contrast_weight": 0}),
        (Coral, {"contrast_weight": 0}),
        (Cm, {"capacity_weight": 0}),
    ],
)
def test_without_its_weight_the_loss_is_the_base_loss_and_nothing_is_spent(kind, neutral, monkeypatch) -> None:
    backbone, method, batch, prediction = moved(kind, **neutral)
    monkeypatch.setattr(backbone, "predict", None)
    assert torch.equal(method.losses(batch, prediction), base_losses(batch, prediction))


@pytest.mark.parametrize("kind", [Cbdm, Ccua, Cm, Coral])
def test_with_its_weight_the_loss_is_another(kind) -> None:
    _, method, batch, prediction = moved(kind)
    losses = method.losses(batch, prediction)
    assert losses.isfinite().all()
    assert not torch.allclose(losses, base_losses(batch, prediction))


@pytest.mark.parametrize(("kind", "on"), BENEATH)
def test_on_adapters_it_starts_from_and_goes_back_to_the_base_model(kind, on) -> None:
    expected = forward(TinySD3.load(), None)
    backbone, method = attach(kind, on=on)
    assert torch.equal(forward(backbone, method), expected)
    assert all(gradient.isfinite().all() for gradient in train(backbone, method))
    state = {name: value.clone() for name, value in method.state_dict().items()}
    assert not torch.equal(trained := forward(backbone, method), expected)
    method.detach()
    assert torch.equal(forward(backbone, None), expected)
    assert backbone.transformer.state_dict().keys() == TinySD3.load().transformer.state_dict().keys()
    backbone, method = attach(kind, on=on)
    method.load_state_dict(state)
    assert torch.equal(forward(backbone, method), trained)


@pytest.mark.parametrize("kind", [Cbdm, Ccua])
def test_the_second_pass_takes_the_adapters_of_the_samples_own_classes(kind, monkeypatch) -> None:
    backbone, method, batch, prediction = moved(kind, on="grasp")
    routes = []
    predict = backbone.predict

    def recording(*arguments: Any) -> torch.Tensor:
        routes.append(current_scope())
        return predict(*arguments)

    monkeypatch.setattr(backbone, "predict", recording)
    method.losses(batch, prediction)
    with method.condition(batch.condition):
        expected = current_scope()
    assert [route.segments for route in routes] == [expected.segments]
    assert torch.equal(routes[0].order, expected.order)


@pytest.mark.parametrize("kind", [Cbdm, Ccua, Coral])
def test_gradient_checkpointing_changes_no_gradient_of_adapters(kind) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone, method, _, _ = moved(kind, on="grasp")
        if checkpointing:
            backbone.enable_gradient_checkpointing()
            backbone.transformer.train()
        gradients.append(train(backbone, method, steps=1))
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone, which DistributedDataParallel takes as it takes many."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("kind", "on"), [(Cbdm, "grasp"), (Ccua, "grasp"), (Coral, "grasp"), (Cm, "lora")])
def test_copies_in_several_processes_get_the_same_gradient(kind, on, one_process) -> None:
    gradients = []
    for wrapped in (False, True):
        backbone, method, batch, _ = moved(kind, on=on)
        if wrapped:
            backbone.transformer = torch.nn.parallel.DistributedDataParallel(
                backbone.transformer, find_unused_parameters=True
            )
        method.losses(batch, forward(backbone, method)).mean().backward()
        gradients.append({name: p.grad for name, p in method.parameters().items() if p.grad is not None})
    plain, copied = gradients
    assert plain.keys() <= copied.keys()  # clusters that are absent may have zeros
    for name, gradient in copied.items():
        torch.testing.assert_close(gradient, plain.get(name, torch.zeros_like(gradient)))


def test_the_learning_rate_is_that_of_the_method_beneath_unless_set() -> None:
    assert Cbdm.Config().learning_rate == 1e-3
    assert Cbdm.Config(on="grasp").learning_rate == 3e-2
    assert Cbdm.Config(on="grasp", learning_rate=0.1).learning_rate == 0.1
    assert Cbdm(Cbdm.Config(on="grasp", weight_decay=0.5)).beneath.config.weight_decay == 0.5
    assert Cbdm.Config().changed() == {}


def refused(**settings: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Cbdm.Config(**settings)
    return str(caught.value)


def test_the_method_beneath_is_any_that_is_installed_but_the_loss_itself() -> None:
    assert "unknown method 'grsp'. Did you mean 'grasp'?" in refused(on="grsp")
    assert "does not go on top of itself" in refused(on="cbdm")
    assert Cbdm.Config(on="moe", sampling="balanced").beneath().config.sampling == "balanced"


def test_a_later_version_of_the_method_beneath_is_another_identity(monkeypatch) -> None:
    def of(on: str) -> RunSpec:
        return plan(method="cbdm", task="digits-lt", method_settings=[f"on={on}"]).spec

    first, other = of("lora"), of("dora")
    assert "on_version" not in first.method.settings
    monkeypatch.setattr(Lora, "version", "2")
    assert of("lora").method.settings["on_version"] == "2"
    assert of("lora").id != first.id
    assert of("dora").id == other.id
    assert Cbdm.Config.model_validate(of("lora").method.settings).on_version == "2"
    assert "version 2 of it is installed, expected 1" in refused(on="lora", on_version="1")


def test_the_auxiliary_loss_beneath_is_that_of_the_first_forward_pass() -> None:
    _, method, batch, prediction = moved(Cbdm, on="moe")
    expected = method.beneath.auxiliary_loss(batch, prediction)
    method.losses(batch, prediction)
    assert torch.equal(method.auxiliary_loss(batch, prediction), expected)
    assert method.beneath.auxiliary_loss(batch, prediction) != expected  # the gates' log is of the second pass
    assert "expert_usage" in method.diagnostics()


class Apart(Lora):
    """LoRA and a scale that is no parameter of the transformer"""

    def attach(self, *arguments: Any) -> None:
        super().attach(*arguments)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return {f"own.{name}": each for name, each in Lora.parameters(self).items() if "lora_" in name} | {
            "scale": self.scale
        }

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        return self.scale * super().losses(batch, prediction)


def test_a_method_beneath_keeps_its_own_names_and_its_own_loss(monkeypatch) -> None:
    register(monkeypatch, "methods", "apart", Apart)
    _, method, batch, prediction = moved(Coral, on="apart", contrast_weight=0)
    own = method.beneath.parameters()
    assert method.parameters().keys() - own.keys() == {"contrast_projection.weight"}
    torch.testing.assert_close(method.losses(batch, prediction), method.beneath.scale * base_losses(batch, prediction))
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    _, again = attach(Coral, on="apart")
    again.load_state_dict(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    with pytest.raises(ValueError, match="contrast_projection"):
        again.load_state_dict({name: state[name] for name in own})


def test_cbdm_is_its_formula_and_each_term_moves_one_side() -> None:
    _, method, batch, prediction = moved(Cbdm, tau=2.0, commitment=0.5)
    prediction = prediction.detach().requires_grad_()
    other = (prediction.detach() + 0.3).requires_grad_()
    method.predict = returning(other)
    losses = method.losses(batch, prediction)
    time = 2.0 * batch.condition.timesteps * ~batch.condition.dropped
    torch.testing.assert_close(losses, base_losses(batch, prediction) + time * 1.5 * 0.3**2)

    losses.sum().backward()
    each = prediction[0].numel()
    time = time.reshape(-1, 1, 1, 1)
    apart = prediction.detach() - other.detach()
    base = 2 * (prediction.detach() - batch.target) / each
    torch.testing.assert_close(prediction.grad, base + time * 2 * apart / each)
    torch.testing.assert_close(other.grad, -0.5 * time * 2 * apart / each)


def test_cbdm_under_the_samples_own_prompt_is_the_base_loss() -> None:
    _, method, batch, prediction = moved(Cbdm)
    method.under_other_classes = lambda batch: batch.condition
    assert torch.equal(method.losses(batch, prediction), base_losses(batch, prediction))


@pytest.mark.parametrize("prior", ["train", "uniform"])
def test_cbdm_draws_other_classes_as_often_as_its_prior_says(prior) -> None:
    backbone, method = attach(Cbdm, prior=prior)
    asked: list[str] = []
    batch = sample(backbone)
    null = batch.condition.prompts[:1]
    method.embed = lambda batch, prompts: asked.extend(prompts) or null
    for seed in range(500):
        method.under_other_classes(replace(batch, generator=torch.Generator().manual_seed(seed)))
    shares = torch.tensor([asked.count(prompt) / len(asked) for prompt in method.prompts], dtype=torch.float64)
    counts = method.counts.double() if prior == "train" else torch.ones(10, dtype=torch.float64)
    torch.testing.assert_close(shares, counts / counts.sum(), atol=0.03, rtol=0)


@pytest.mark.parametrize("kind", [Cbdm, Cm])
def test_parts_of_a_step_add_up_to_it(kind) -> None:
    backbone, method, batch, prediction = moved(kind)
    whole = method.losses(batch, prediction)
    before = batch.generator.get_state()
    parts = []
    for part in batch.split(3):
        condition = part.condition
        with method.condition(condition):
            own = backbone.predict(part.noisy, condition.timesteps, condition.prompts)
        parts.append(method.losses(part, own))
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-6)
    assert torch.equal(batch.generator.get_state(), before)


def test_prompts_come_from_where_they_are_stored(monkeypatch) -> None:
    backbone, method, batch, prediction = moved(Cbdm)
    encode = backbone.encode_prompts
    expected = method.losses(batch, prediction)
    monkeypatch.setattr(backbone, "encode_prompts", None)
    stored = replace(batch, embed=lambda prompts: encode(list(prompts)))
    assert torch.equal(method.losses(stored, prediction), expected)


def at(batch: Batch, backbone: TinySD3, timesteps: torch.Tensor) -> Batch:
    """The same samples with as much noise."""
    noisy = backbone.objective.add_noise(batch.latents, batch.noise, timesteps)
    target = backbone.objective.target(batch.latents, batch.noise, timesteps)
    return replace(batch, noisy=noisy, target=target, condition=replace(batch.condition, timesteps=timesteps))


@pytest.mark.parametrize("objective", ["flow", "variance-preserving"])
def test_oc_draws_by_the_posterior(objective) -> None:
    backbone, method = attach(OrientedCalibration)
    if objective != "flow":
        backbone.objective = VariancePreserving(torch.linspace(0.999, 0.01, 1000))
    batch = sample(backbone)
    batch = at(batch, backbone, torch.linspace(0.6, 0.97, len(batch.ids)))
    ones, zeros = torch.ones(6, 1, dtype=torch.float64), torch.zeros(6, 1, dtype=torch.float64)
    times = batch.condition.timesteps.double()
    signal, noise = (backbone.objective.add_noise(*pair, times) for pair in ((ones, zeros), (zeros, ones)))
    expected = torch.empty(6, 6, dtype=torch.float64)
    for i in range(6):
        for j in range(6):
            gap = batch.noisy[i].double() - signal[i] * batch.latents[j].double()
            expected[i, j] = -gap.square().sum() / (2 * noise[i] ** 2).item()
    torch.testing.assert_close(method.posterior(batch), expected.softmax(1))
    assert expected.softmax(1).max() < 1  # several images are possible


def unit_latents(shape: tuple[int, int, int], backbone: TinySD3, batch: Batch) -> Batch:
    """64 samples of independent latents of unit variance, at timesteps as training draws them."""
    generator = torch.Generator().manual_seed(5)
    latents, noise = torch.randn(2, 64, *shape, generator=generator)
    timesteps = backbone.objective.timesteps(64, generator)
    return replace(
        batch,
        latents=latents,
        noisy=backbone.objective.add_noise(latents, noise, timesteps),
        condition=replace(batch.condition, timesteps=timesteps),
    )


def of_another_image(shape: tuple[int, int, int], **settings: Any) -> float:
    """The mean probability that another image of the batch explains a noisy one."""
    backbone, method = attach(OrientedCalibration, **settings)
    posterior = method.posterior(unit_latents(shape, backbone, sample(backbone)))
    return (1 - posterior.diagonal()).mean().item()


def test_oc_finds_other_images_in_latents_of_any_size() -> None:
    assert of_another_image((1, 8, 8)) == of_another_image((1, 8, 8), flattening=0)  # as published
    small = of_another_image((1, 8, 8))
    for shape in ((4, 32, 32), (16, 64, 64)):
        assert of_another_image(shape, flattening=0) < 0.02 * small
        assert of_another_image(shape) > 0.3 * small


def test_oc_draws_classes_as_they_come_unless_asked_and_says_what_it_does() -> None:
    assert attach(OrientedCalibration)[1].sample_weights(torch.ones(3).numpy()) is None
    asked = plan(method="oc", task="digits-lt", method_settings=["sampling=balanced"])
    assert asked.spec.method.settings["sampling"] == "balanced"
    assert asked.label == "oc~sampling=balanced"


def test_oc_counts_an_image_that_the_batch_holds_twice_as_itself() -> None:
    backbone, method = attach(OrientedCalibration)
    batch = at(sample(backbone), backbone, torch.full((6,), 0.999))
    method.losses(replace(batch, ids=["same"] * 6), forward(backbone, method))
    assert set(method.diagnostics()["transferred"].values()) == {0}


def test_oc_leads_to_images_of_classes_at_least_as_frequent() -> None:
    backbone, method = attach(OrientedCalibration)
    batch = at(sample(backbone), backbone, torch.full((6,), 0.99))
    counts, transfers = method.counts[batch.condition.labels], 0
    for seed in range(60):
        drawn = replace(batch, generator=torch.Generator().manual_seed(seed))
        references = method.references(drawn)
        assert (counts[references] >= counts).all()
        transfers += (references != torch.arange(6)).sum().item()
        clean = batch.latents[references]
        exact = backbone.objective.prediction(batch.noisy, clean, batch.condition.timesteps)
        torch.testing.assert_close(method.losses(drawn, exact), torch.zeros(6), atol=1e-9, rtol=0)
    shares = method.diagnostics()["transferred"]
    groups = [["head", "medium", "tail"][int(method.group_of_class[label])] for label in batch.condition.labels]
    assert sum(shares[group] for group in groups) * 60 == pytest.approx(transfers)
    assert shares["tail"] > shares["head"]
    assert all(0 <= share <= 1 for share in shares.values())
    assert set(method.diagnostics()["transferred"].values()) == {0}  # what was told is forgotten


def test_oc_with_little_noise_or_alone_is_the_base_loss() -> None:
    backbone, method = attach(OrientedCalibration)
    for level in (0.0, 1e-3):
        batch = at(sample(backbone), backbone, torch.full((6,), level))
        assert method.references(batch).tolist() == list(range(6))
        prediction = forward(backbone, method)
        assert torch.equal(method.losses(batch, prediction), base_losses(batch, prediction))
    for part, own in zip(sample(backbone).split(6), forward(backbone, method).split(1), strict=True):
        assert torch.equal(method.losses(part, own), base_losses(part, own))


def test_the_supervised_contrast_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(7, 4, generator=generator)
    labels, present = torch.tensor([0, 1, 0, 2, 0, 1, 1]), torch.tensor([1, 1, 1, 1, 1, 1, 0]).bool()
    got = supervised_contrast(features, labels, present, 0.2)
    unit = features / features.norm(dim=1, keepdim=True)
    for i in range(7):
        others = [k for k in range(7) if k != i and present[k]]
        same = [j for j in others if labels[j] == labels[i]]
        if not (present[i] and same):
            assert got[i] == 0
            continue
        total = math.log(sum(math.exp(unit[i] @ unit[k] / 0.2) for k in others))
        expected = -sum((unit[i] @ unit[j]).item() / 0.2 - total for j in same) / len(same)
        assert got[i].item() == pytest.approx(expected * 6 / 5, rel=1e-4)  # five of the six present have a mate


def test_the_supervised_contrast_does_not_fade_where_most_classes_have_a_single_sample() -> None:
    features = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    others = torch.eye(4).repeat(2, 1)  # eight samples whose classes have no other
    labels, present = torch.tensor([0, 0, *range(1, 9)]), torch.ones(10, dtype=torch.bool)
    got = supervised_contrast(torch.cat([features, others]), labels, present, 0.5)
    unit = torch.nn.functional.normalize(torch.cat([features, others]), dim=1)
    shares = (unit @ unit.T / 0.5).fill_diagonal_(-math.inf).log_softmax(1)
    assert got.mean().item() == pytest.approx(-(shares[0, 1] + shares[1, 0]).item() / 2, rel=1e-5)
    assert not got[2:].any()


@pytest.mark.parametrize(
    ("labels", "present"),
    [([3, 3, 3], [True] * 3), ([1, 2, 3], [True] * 3), ([3, 3, 3], [False] * 3), ([3, 3, 3], [True, False, False])],
)
def test_the_supervised_contrast_is_finite_with_one_class_or_none(labels, present) -> None:
    features = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = supervised_contrast(features, torch.tensor(labels), torch.tensor(present), 0.1)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert features.grad.isfinite().all()


def test_coral_weighs_the_contrast_by_time_and_temperature_and_trains_the_projection_and_the_network(
    monkeypatch,
) -> None:
    _, method, batch, prediction = moved(Coral, contrast_weight=2.0, time_scale=0.5, temperature=0.2)
    taken = []
    contrast = supervised_contrast

    def recording(*arguments: Any) -> torch.Tensor:
        taken.append(contrast(*arguments))
        return taken[-1]

    monkeypatch.setattr(coral, "supervised_contrast", recording)
    extra = method.losses(batch, prediction) - base_losses(batch, prediction)
    expected = 2.0 * 0.2 * ((1 - batch.condition.timesteps) / 0.5).exp() * taken[0]
    torch.testing.assert_close(extra, expected)
    assert extra[2] > 0  # the class of two samples
    assert extra[1] == extra[4] == 0  # without their prompts
    taken[0].sum().backward()
    parameters = method.parameters()
    assert parameters["contrast_projection.weight"].grad.norm() > 0
    assert parameters["transformer_blocks.0.ff.net.0.proj.weight"].grad.norm() > 0
    assert parameters["proj_out.weight"].grad is None  # comes after the middle block
    with pytest.raises(RuntimeError, match="no forward pass"):
        method.losses(batch, prediction)


def test_the_spread_is_its_formula_and_nothing_for_a_sample_alone() -> None:
    features = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    unit = features / features.norm(dim=1, keepdim=True)
    got = spread(features, 0.5)
    for i in range(5):
        terms = [math.exp(unit[i] @ unit[j] / 0.5) for j in range(5) if j != i]
        assert got[i].item() == pytest.approx(math.log(sum(terms) / 4), rel=1e-4)
    assert spread(features[:1], 0.5).tolist() == [0]
    torch.testing.assert_close(spread(features[:1].expand(4, 3), 0.5), torch.full((4,), 2.0))  # all alike: 1 / 0.5


def test_ccua_is_its_formula_and_moves_both_predictions() -> None:
    backbone, method, batch, prediction = moved(Ccua, alignment_weight=0.5, contrast_weight=0.0)
    condition = batch.condition
    null = backbone.encode_prompts([""] * 6)
    with torch.no_grad():
        without = backbone.predict(batch.noisy, condition.timesteps, null)
    alignment = 0.5 * condition.timesteps * squared_distance(prediction, without)
    torch.testing.assert_close(method.losses(batch, prediction), base_losses(batch, prediction) + alignment)

    own, other = (each.detach().clone().requires_grad_() for each in (prediction, without))
    method.predict = returning(other)
    method.tap.features = torch.ones(6, 3)
    (method.losses(batch, own) - base_losses(batch, own)).sum().backward()
    torch.testing.assert_close(own.grad, -other.grad, atol=1e-6, rtol=1e-3)
    assert other.grad.norm() > 0


def test_ccua_contrasts_what_the_pass_without_prompts_holds() -> None:
    backbone, method, batch, prediction = moved(Ccua, alignment_weight=0.0, contrast_weight=0.5)
    held = []
    hook = backbone.transformer.transformer_blocks[1].register_forward_hook(
        lambda block, arguments, output: held.append(output[1].detach().mean(1))
    )
    with torch.no_grad():
        backbone.predict(batch.noisy, batch.condition.timesteps, backbone.encode_prompts([""] * 6))
    hook.remove()
    extra = method.losses(batch, prediction) - base_losses(batch, prediction)
    torch.testing.assert_close(extra, 0.5 * batch.condition.timesteps * spread(held[0], 0.1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("settings", "rank"), [({}, 1), ({"rank_ratio": 0.5}, 6), ({"on": "vanilla-ft"}, 6)])
def test_cms_expert_has_a_share_of_the_rank_of_the_general_weights(settings: dict[str, Any], rank: int) -> None:
    """Of LoRA's 11, or of the 64 of each weight where all of them are trained."""
    backbone, method = attach(Cm, **settings)
    experts = [module for module in backbone.transformer.modules() if isinstance(module, LowRankExpert)]
    assert {expert.down.shape[1] for expert in experts} == {rank}
    own = sum(expert.down.numel() + expert.up.numel() for expert in experts)
    assert own < sum(parameter.numel() for parameter in method.parameters().values()) - own


def test_cm_has_no_weights_on_balanced_data() -> None:
    torch.testing.assert_close(cm.class_weights(torch.full((7,), 30)), torch.zeros(7, dtype=torch.float64))
    weights = cm.class_weights(torch.tensor([90, 30, 10]))
    # consistency 90 · 3 / 130, diversity 3 / (90 (1/90 + 1/30 + 1/10)), and so on
    expected = [270 / 130 - 3 / 13, 90 / 130 - 9 / 13, 30 / 130 - 27 / 13]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))


def test_cm_is_its_formula_up_to_the_limit_of_the_reward() -> None:
    _, method, batch, prediction = moved(Cm, reward_limit=0.02, capacity_weight=0.5)
    prediction = prediction.detach().requires_grad_()
    step = torch.tensor([0.3, 0.3, 0.1, 0.3, 0.1, 0.1]).reshape(-1, 1, 1, 1)  # squared: 0.09 and 0.01
    other = (prediction.detach() - step).requires_grad_()
    method.predict = returning(other)
    method.class_weights = method.class_weights.sort(descending=True).values  # as if class 9 were the rarest
    weights = method.class_weights[batch.condition.labels].float()
    assert (weights[0] > 0) & (weights[2] < 0) & (weights[3] < 0)
    used = torch.where(weights < 0, step.flatten().square().clamp(max=0.02), step.flatten().square())
    extra = method.losses(batch, prediction) - base_losses(batch, prediction)
    torch.testing.assert_close(extra, 0.5 * weights * used, atol=1e-6, rtol=1e-4)
    extra.sum().backward()
    moves = other.grad.flatten(1).norm(dim=1)
    assert moves[3] == 0  # at the limit
    assert (moves[[0, 2]] > 0).all()
    rare = weights < 0
    expected = (rare & (step.flatten() > 0.2)).sum().item() / rare.sum().item()
    assert method.diagnostics()["reward_limited"] == pytest.approx(expected)
    assert method.diagnostics()["reward_limited"] == 0


@pytest.mark.parametrize("on", ["vanilla-ft", "lora", "grasp"])
def test_cm_without_its_expert_is_the_general_weights_alone(on) -> None:
    backbone, method, _, whole = moved(Cm, on=on)
    with scope(WITHOUT_EXPERT):
        general = forward(backbone, method)
    assert not torch.allclose(general, whole)
    with torch.no_grad():
        for name, parameter in method.parameters().items():
            if name.endswith(".up"):
                parameter.zero_()
    assert torch.equal(forward(backbone, method), general)

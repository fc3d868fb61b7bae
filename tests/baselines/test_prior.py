"""Prior preservation: which images the base model lends, and the loss on them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.attaching import attach, forward, sample

from grasp_bench import plugins
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.prior import SAMPLES, Prior, packed, unpacked
from grasp_bench.contracts.study import Study
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.run.plan import plan
from grasp_bench.run.resolve import make_task
from grasp_bench.sampling import Sampler

SETTINGS = {"prior_images": 2, "prior_steps": 3}


def refuse(*_: object):
    raise AssertionError


@pytest.fixture(scope="module")
def study() -> Study:
    _, task = make_task("digits-lt", [], None)
    backbone = TinySD3.load()
    return Study(
        "digits-lt",
        task,
        0,
        backbone,
        torch.device("cpu"),
        refuse,
        refuse,
        lambda: lambda p: backbone.encode_prompts(p),
    )


@pytest.fixture(scope="module")
def lent(study: Study) -> torch.Tensor:
    return unpacked(Prior(Prior.Config(**SETTINGS)).study(study)[SAMPLES])


def studied(lent: torch.Tensor, **settings: object):
    backbone, method = attach(Prior, **SETTINGS, **settings)
    method.samples = lent
    return backbone, method


def test_the_base_model_makes_images_of_each_class_under_its_guidance(study: Study, lent: torch.Tensor) -> None:
    infos = study.task.classes()
    assert lent.shape == (len(infos), 2, 1, 8, 8)
    generator = torch.Generator().manual_seed(study.stream("prior", 7, 1))
    guidance = ClassifierFreeGuidance(CfgSettings(guidance_scale=2))
    untrained = plan(method="vanilla-ft", task="digits-lt").method
    sampler = Sampler(study.backbone, untrained, guidance, torch.device("cpu"))
    sampler.dtype = torch.float32
    noise = torch.randn(1, 1, 8, 8, generator=generator)
    expected = sampler.denoise(noise, [infos[7].prompt], torch.tensor([7]), 3)
    torch.testing.assert_close(lent[7, 1], expected[0], rtol=2e-3, atol=2e-3)  # kept in half precision
    assert not torch.equal(lent[7, 0], lent[7, 1])


@pytest.mark.parametrize("scale", [None, 1])
def test_an_estimate_presumes_blank_images_and_counts_the_sampling(
    study: Study, scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[int] = []
    predict = study.backbone.predict
    method = Prior(Prior.Config(**SETTINGS, prior_scale=scale))
    monkeypatch.setattr(
        TinySD3, "predict", lambda _, noisy, *given: (images.append(len(noisy)), predict(noisy, *given))[1]
    )
    method.study(study)
    presumed = method.presumed(study.backbone, study.task)
    assert presumed.evaluations == sum(images)
    monkeypatch.undo()
    method.studied, backbone = presumed.found, TinySD3.load()
    method.attach(backbone, study.task, torch.Generator())
    partners = method.partners(sample(backbone))
    assert not partners.latents.any()
    assert partners.noisy.shape == sample(backbone).noisy.shape


def test_latents_survive_as_json() -> None:
    latents = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).half().float()
    assert torch.equal(unpacked(packed(latents.numpy())), latents)


def test_the_loss_is_the_sum_of_both_parts(lent: torch.Tensor) -> None:
    backbone, method = studied(lent, prior_weight=0.5)
    batch, prediction = sample(backbone), forward(backbone, method)
    other = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(1))
    asked = []
    method.predict = lambda batch, condition: asked.append((batch, condition)) or other
    found = method.losses(batch, prediction)
    ((theirs, condition),) = asked
    assert condition.labels is batch.condition.labels
    assert condition.dropped is batch.condition.dropped
    for row, label in enumerate(batch.condition.labels.tolist()):
        # under which the image was made, whatever else the sample's own prompt names
        prompt = "" if batch.condition.dropped[row] else method.prompts[label]
        assert torch.equal(condition.prompts[row : row + 1].tokens, backbone.encode_prompts([prompt]).tokens)
        own = (prediction[row] - batch.target[row]).square().mean()
        prior = (other[row] - theirs.target[row]).square().mean()
        torch.testing.assert_close(found[row], own + 0.5 * prior)
        assert any(torch.equal(theirs.latents[row], image) for image in lent[label])
        t = batch.condition.timesteps[row]
        torch.testing.assert_close(theirs.noisy[row], (1 - t) * theirs.latents[row] + t * theirs.noise[row])
        torch.testing.assert_close(theirs.target[row], theirs.noise[row] - theirs.latents[row])
    assert theirs.noise.std().item() == pytest.approx(1, abs=0.15)
    assert not torch.equal(theirs.noise, batch.noise)


def test_a_perfect_prior_adds_nothing_and_the_gradient_reaches_the_second_pass(lent: torch.Tensor) -> None:
    backbone, method = studied(lent)
    batch, prediction = sample(backbone), forward(backbone, method)
    plain = (prediction - batch.target).square().flatten(1).mean(1)
    method.predict = lambda batch, condition: batch.target
    torch.testing.assert_close(method.losses(batch, prediction), plain)
    del method.predict
    (method.losses(batch, prediction.detach()) - plain.detach()).sum().backward()
    assert method.parameters()["proj_out.weight"].grad.norm() > 0


def test_parts_of_a_step_have_the_partners_of_the_whole(lent: torch.Tensor) -> None:
    backbone, method = studied(lent, on="grasp")
    batch = sample(backbone)
    whole = method.partners(batch)
    parts = [method.partners(part) for part in batch.split(3)]
    for name in ("latents", "noise", "noisy", "target"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    other = replace(batch, generator=torch.Generator().manual_seed(99))
    assert not torch.equal(method.partners(other).noise, whole.noise)


def test_it_studies_only_for_a_weight_and_for_the_method_beneath(study: Study) -> None:
    assert Prior(Prior.Config()).studies
    without = Prior(Prior.Config(prior_weight=0))
    assert not without.studies
    assert Prior(Prior.Config(prior_weight=0, on="lora-attn")).studies
    both = Prior(Prior.Config(**SETTINGS, on="lora-attn")).study(study)
    assert both.keys() == {SAMPLES, "attention.json"}
    assert plugins.load("methods", "prior") is Prior


def test_what_is_exported_has_a_digest_and_cannot_be_trained(lent: torch.Tensor) -> None:
    _, trained = studied(lent)
    found = trained.artifacts()
    assert found[SAMPLES]["shape"] == [10, 2, 1, 8, 8]
    backbone, method = TinySD3.load(), Prior(Prior.Config())
    method.studied = found
    method.attach(backbone, make_task("digits-lt", [], None)[1], torch.Generator())
    with pytest.raises(RuntimeError, match="cannot be trained"):
        method.losses(sample(backbone), forward(backbone, method))

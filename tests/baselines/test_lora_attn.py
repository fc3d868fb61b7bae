"""Finding the attention layers that carry a prompt's effect, and training those."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, PixArtTransformer2DModel
from helpers.attaching import attach, forward, size, train
from peft import PeftModel

from grasp_bench import seeds
from grasp_bench.backbones.pixart import PixArt
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines import lora_attn
from grasp_bench.baselines.grasp import Grasp
from grasp_bench.baselines.lora import DIFFUSERS_FILE, Lora
from grasp_bench.baselines.lora_attn import Localisation, LoraAttention, localise
from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
from grasp_bench.contracts.objective import VariancePreserving
from grasp_bench.contracts.study import Study
from grasp_bench.errors import Skip, UserError
from grasp_bench.run.resolve import make_task

PAIRS = [("a handwritten digit zero", "a handwritten digit nine"), ("a printed letter A", "a printed letter B")]
LAYERS = [f"transformer_blocks.{index}.attn" for index in range(4)]


def found_in(backbone: TinySD3, share: float, pairs: list[tuple[str, str]] = PAIRS) -> Localisation:
    return localise(backbone, lambda prompts: backbone.encode_prompts(list(prompts)), pairs, 3, share)


@pytest.fixture(scope="module")
def runs() -> lora_attn._Runs:
    backbone = TinySD3.load()
    made = lora_attn._Runs(backbone, lambda prompts: backbone.encode_prompts(list(prompts)), PAIRS, 3)
    with torch.no_grad():
        made.sample_ends()
    return made


def test_the_text_s_projections_of_an_mmdit_are_the_added_ones() -> None:
    found = TinySD3.load().prompt_projections()
    assert found == {name: (f"{name}.add_k_proj", f"{name}.add_v_proj") for name in LAYERS}


@torch.no_grad()
def test_patching_a_run_with_its_own_keys_and_values_changes_nothing(runs: lora_attn._Runs) -> None:
    own = {name: [] for pair in runs.backbone.prompt_projections().values() for name in pair}
    with lora_attn._hooked(runs.backbone.transformer, {name: lora_attn._keep(kept) for name, kept in own.items()}):
        assert torch.equal(runs._sample(runs.first), runs.start)
    assert all(len(outputs) == 3 for outputs in own.values())
    with lora_attn._hooked(runs.backbone.transformer, {name: lora_attn._replace(kept) for name, kept in own.items()}):
        assert torch.equal(runs._sample(runs.first), runs.start)


@torch.no_grad()
def test_effects_are_shares_of_the_way_from_one_prompt_s_image_to_the_other_s(
    runs: lora_attn._Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs.effect([]) == 0
    assert runs.effect(LAYERS) > max(runs.effect([layer]) for layer in LAYERS) > 0
    monkeypatch.setattr(runs, "first", runs.second)  # a run under the other prompt, whatever is patched, is that
    assert runs.effect(LAYERS) == 1


def test_the_fewest_layers_with_the_share_are_chosen() -> None:
    backbone = TinySD3.load()
    counts = []
    for share in (0.01, 0.9, 1.0):
        found = found_in(backbone, share)
        assert list(found.effects) == LAYERS
        largest = sorted(found.effects, key=found.effects.__getitem__, reverse=True)[: len(found.chosen)]
        assert set(found.chosen) == set(largest)
        assert found.chosen_layers >= share * found.all_layers
        counts.append(len(found.chosen))
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[1] > 1


def test_an_estimate_presumes_all_layers_and_the_most_samplings(monkeypatch: pytest.MonkeyPatch) -> None:
    _, task = make_task("digits-lt", [], None)
    backbone, method, made = TinySD3.load(), LoraAttention(LoraAttention.Config()), []
    sampled = lora_attn.sampled
    monkeypatch.setattr(lora_attn, "sampled", lambda *given: (made.append(given), sampled(*given))[1])
    found_in(backbone, share=2)  # which no choice of layers has
    assert len(made) == lora_attn.most_samplings(len(LAYERS))
    presumed = method.presumed(backbone, task)
    assert presumed.found["attention.json"]["chosen"] == LAYERS
    assert presumed.evaluations == 4 * 4 * len(made)
    method.studied = presumed.found
    method.attach(backbone, task, torch.Generator())
    assert size(method) == pytest.approx(size(attach(Grasp)[1]), rel=0.05)


def test_localising_leaves_the_backbone_as_it_was_and_is_repeatable() -> None:
    backbone = TinySD3.load()
    first = found_in(backbone, 0.8)
    assert not any(module._forward_hooks for module in backbone.transformer.modules())
    pristine = TinySD3.load().transformer.state_dict()
    assert all(torch.equal(value, pristine[name]) for name, value in backbone.transformer.state_dict().items())
    torch.manual_seed(5)
    assert found_in(backbone, 0.8) == first


def test_only_the_chosen_layers_are_trained_and_attaching_again_finds_the_same() -> None:
    _, method = attach(LoraAttention, share=0.9)
    saved = method.artifacts()["attention.json"]
    chosen = saved["chosen"]
    assert 1 < len(chosen) < 4
    layers = {name.partition(".attn.")[0] + ".attn" for name in method.parameters()}
    assert layers == set(chosen)
    _, again = attach(LoraAttention, share=0.9)
    assert again.artifacts()["attention.json"] == saved
    assert again.parameters().keys() == method.parameters().keys()


def test_what_a_study_found_decides_and_survives_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    _, task = make_task("digits-lt", [], None)
    backbone, method = TinySD3.load(), LoraAttention(LoraAttention.Config())
    study = Study(
        "digits-lt",
        task,
        0,
        backbone,
        torch.device("cpu"),
        never,
        never,
        lambda: lambda p: backbone.encode_prompts([*p]),
    )
    assert method.studies
    studied = json.loads(json.dumps(method.study(study)))
    assert studied == attach(LoraAttention)[1].artifacts()  # of what is found while attaching
    studied["attention.json"]["chosen"] = LAYERS[1:3]
    method.studied = studied
    monkeypatch.setattr(lora_attn, "localise", never)
    method.attach(backbone, task, torch.Generator())
    assert {name.partition(".attn.")[0] + ".attn" for name in method.parameters()} == set(LAYERS[1:3])
    assert method.artifacts() == studied


def never(*_: Any) -> Any:
    raise AssertionError("not needed")


def test_all_layers_at_the_same_rank_are_lora() -> None:
    _, method = attach(LoraAttention, share=1, rank=4)
    _, lora = attach(Lora, rank=4)
    own = set(method.parameters())
    assert own <= set(lora.parameters())
    every = own == set(lora.parameters())
    assert every == (len(method.found.chosen) == len(LAYERS))


def test_it_is_as_large_as_grasp_by_default() -> None:
    assert size(attach(LoraAttention)[1]) == pytest.approx(size(attach(Grasp)[1]), rel=0.05)


def test_pairs_are_of_frequent_and_rare_classes_and_at_most_half_as_many_as_classes() -> None:
    _, task = make_task("digits-lt", [], None)
    infos = {info.prompt: info for info in task.classes()}
    pairs = LoraAttention(LoraAttention.Config(pairs=64))._pairs(task)
    assert len(pairs) == len({prompt for pair in pairs for prompt in pair}) // 2 == 5
    assert (infos[pairs[0][0]].group, infos[pairs[0][1]].group) == ("head", "tail")
    assert all(infos[first].train_count > infos[second].train_count for first, second in pairs)


class CrossAttending(Backbone):
    """A tiny transformer under DDPM's diffusion that reads its prompt by cross-attention alone, which is masked."""

    latent_shape = (4, 8, 8)
    prompt_projections = PixArt.prompt_projections

    def __init__(self) -> None:
        with seeds.global_seed(torch.Generator().manual_seed(0)):
            self.transformer = PixArtTransformer2DModel(
                num_attention_heads=2,
                attention_head_dim=8,
                in_channels=4,
                out_channels=4,
                num_layers=3,
                cross_attention_dim=16,
                caption_channels=6,
                sample_size=8,
                use_additional_conditions=False,
            )
        self.objective = VariancePreserving.of(DDIMScheduler())

    def encode_prompts(self, prompts: list[str]) -> PromptEmbeddings:
        """Three tokens or seven of seven."""
        tokens = torch.randn(len(prompts), 7, 6, generator=torch.Generator().manual_seed(len(prompts[0])))
        return PromptEmbeddings(tokens, mask=torch.arange(7).expand(len(prompts), 7) < (3 if "short" in prompts else 7))

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        return self.transformer(
            latents,
            prompts.tokens,
            self.objective.clock(timesteps),
            {"resolution": None, "aspect_ratio": None},
            encoder_attention_mask=prompts.mask,
            return_dict=False,
        )[0]

    def scheduler(self, steps: int, device: torch.device) -> DDIMScheduler:
        made = DDIMScheduler()
        made.set_timesteps(steps, device=device)
        return made


@pytest.mark.parametrize("pair", [("short", "a longer prompt"), ("a longer prompt", "short")])
def test_where_text_is_only_cross_attended_to_patching_every_layer_is_the_other_prompt(pair: tuple[str, str]) -> None:
    backbone = CrossAttending()
    layers = [f"transformer_blocks.{index}.attn2" for index in range(3)]
    assert backbone.prompt_projections() == {name: (f"{name}.to_k", f"{name}.to_v") for name in layers}
    found = localise(backbone, lambda prompts: backbone.encode_prompts([*prompts]), [pair], 3, 1.0)
    assert list(found.effects) == layers
    assert found.all_layers == 1
    assert all(abs(effect) < 1 for effect in found.effects.values())


def test_prompts_that_draw_the_same_are_refused() -> None:
    with pytest.raises(UserError, match="draws the same under 'a cat' and 'a cat'"):
        found_in(TinySD3.load(), 0.8, [("a cat", "a cat")])


def test_a_transformer_without_attention_to_text_is_skipped_with_a_reason() -> None:
    backbone, (_, task) = TinySD3.load(), make_task("digits-lt", [], None)
    method = LoraAttention(LoraAttention.Config())
    assert method.supports(backbone, task) is None
    backbone.transformer = torch.nn.Linear(2, 2)
    skip = method.supports(backbone, task)
    assert isinstance(skip, Skip)
    assert "no attention to a prompt's tokens" in skip.reason


def test_an_export_loads_with_peft_and_diffusers(tmp_path: Path) -> None:
    backbone, method = attach(LoraAttention)
    train(backbone, method)
    expected = forward(backbone, method)
    method.export(tmp_path)
    again = TinySD3.load()
    PeftModel.from_pretrained(again.transformer, tmp_path)  # which it changes
    torch.testing.assert_close(forward(again, None), expected)
    again = TinySD3.load()
    again.transformer.load_lora_adapter(tmp_path, weight_name=DIFFUSERS_FILE)
    torch.testing.assert_close(forward(again, None), expected)

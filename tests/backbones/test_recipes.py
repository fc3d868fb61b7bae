"""Recipes: training is what diffusers' scripts do on the same tensors, at every resolution that is supported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxPipeline
from families import SAVE, save
from tiny_flux import save_flux
from tiny_pixart import save_alpha

from grasp_bench import plugins
from grasp_bench.backbones.aliases import ALIASES
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.method import Batch, Method, MethodSettings
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.contracts.recipe import PLAIN, BackboneRecipe, Rate, Timesteps
from grasp_bench.contracts.task import Split
from grasp_bench.errors import UserError
from grasp_bench.processes import ALONE
from grasp_bench.run.plan import plan
from grasp_bench.run.training.backward import GroupLoss, backward
from grasp_bench.run.training.batches import Batches
from grasp_bench.run.training.placement import Placement
from grasp_bench.sampling import Sampler

CPU = torch.device("cpu")
NAMES = [*sorted(SAVE), "flux-schnell", "pixart-alpha"]
PROMPTS = ["a handwritten digit one", "a handwritten digit two"]
SIZE = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """What saves a tiny pipeline once and gives its folder."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            if name == "flux-schnell":
                made[name] = save_flux(place / "pipeline", place / "scratch", dev=False)
            elif name == "pixart-alpha":
                made[name] = save_alpha(place / "pipeline", place / "scratch")
            else:
                made[name] = save(name, place).folder
        return made[name]

    return folder


def kind_of(name: str) -> type[SavedBackbone]:
    return plugins.load("backbones", name.partition("-")[0])


def loaded(name: str, folder: Path, resolution: int | None = None) -> SavedBackbone:
    backbone = kind_of(name).load(str(folder), resolution)
    backbone.set_classes(PROMPTS)
    return backbone


class Given:
    """Latents that are given."""

    def __init__(self, latents: torch.Tensor) -> None:
        self.latents = latents

    def read(self, indices: np.ndarray, mirrored: np.ndarray) -> torch.Tensor:
        return self.latents[indices]


def batch_of(backbone: SavedBackbone) -> Batch:
    """The first step of a training, on latents of no image."""
    chosen = plan(method="vanilla-ft", task="digits-lt", budget="smoke")
    spec = chosen.spec.model_copy(update={"budget": chosen.spec.budget.model_copy(update={"batch_size": SIZE})})
    names, classes = [f"image {number}" for number in range(SIZE)], np.arange(SIZE) % len(PROMPTS)
    split = Split(names, classes, [PROMPTS[each] for each in classes], lambda indices: indices)
    latents = torch.randn(SIZE, *backbone.latent_shape, generator=torch.Generator().manual_seed(3))
    backbone.encode_prompts([*PROMPTS, ""])  # kept from here on, as two threads at once would confuse its tokenizer
    return Batches(spec, split, backbone, Given(latents), backbone.encode_prompts, CPU, None)(0)


def our_loss(backbone: SavedBackbone, batch: Batch) -> float:
    """The loss of a step as the training loop has it."""
    backbone.transformer.requires_grad_(True)
    method, groups = Method(MethodSettings()), GroupLoss(("all",), np.zeros(len(PROMPTS), int), CPU)
    placement = Placement(backbone, [], set(), ALONE)
    return backward([batch], backbone, method, groups, "float32", placement, lambda part: None).item()


def sd3_loss(transformer: Any, batch: Batch) -> torch.Tensor:
    """train_dreambooth_sd3.py and its LoRA variant, with outputs preconditioned and the logit-normal weighting of 1."""
    sigmas = batch.condition.timesteps.reshape(-1, 1, 1, 1)
    noisy = (1 - sigmas) * batch.latents + sigmas * batch.noise
    prompts = batch.condition.prompts
    output = transformer(
        hidden_states=noisy,
        timestep=1000 * batch.condition.timesteps,
        encoder_hidden_states=prompts.tokens,
        pooled_projections=prompts.pooled,
        return_dict=False,
    )[0]
    return (noisy - sigmas * output - batch.latents).square().flatten(1).mean(1).mean()


def flux_loss(transformer: Any, batch: Batch) -> torch.Tensor:
    """train_dreambooth_lora_flux.py with the weighting scheme `none`, and --guidance_scale=1 as its README has it."""
    sigmas, prompts = batch.condition.timesteps.reshape(-1, 1, 1, 1), batch.condition.prompts
    noisy = (1 - sigmas) * batch.latents + sigmas * batch.noise
    _, channels, height, width = noisy.shape
    output = transformer(
        hidden_states=FluxPipeline._pack_latents(noisy, SIZE, channels, height, width),
        timestep=batch.condition.timesteps,
        guidance=torch.ones(SIZE) if transformer.config.guidance_embeds else None,
        pooled_projections=prompts.pooled,
        encoder_hidden_states=prompts.tokens,
        txt_ids=torch.zeros(prompts.tokens.shape[1], 3),
        img_ids=FluxPipeline._prepare_latent_image_ids(SIZE, height // 2, width // 2, CPU, torch.float32),
        return_dict=False,
    )[0]
    unpacked = FluxPipeline._unpack_latents(output, height * 8, width * 8, 8)
    return (unpacked - (batch.noise - batch.latents)).square().mean()


def sana_loss(transformer: Any, batch: Batch) -> torch.Tensor:
    """train_dreambooth_lora_sana.py with the weighting scheme `none`."""
    sigmas, prompts = batch.condition.timesteps.reshape(-1, 1, 1, 1), batch.condition.prompts
    output = transformer(
        hidden_states=(1 - sigmas) * batch.latents + sigmas * batch.noise,
        encoder_hidden_states=prompts.tokens,
        encoder_attention_mask=prompts.mask,
        timestep=1000 * batch.condition.timesteps,
        return_dict=False,
    )[0]
    return (output - (batch.noise - batch.latents)).square().mean()


def pixart_loss(transformer: Any, batch: Batch, backbone: SavedBackbone) -> torch.Tensor:
    """train_pixart_lora_hf.py of PixArt-alpha/PixArt-alpha: the first half of the channels, sizes at latents of 128."""
    scheduler = DDPMScheduler.from_config(backbone.scheduler_config())
    steps, prompts = backbone.objective.clock(batch.condition.timesteps), batch.condition.prompts
    sizes: dict[str, Any] = {"resolution": None, "aspect_ratio": None}
    if transformer.config.sample_size == 128:
        side = float(backbone.image_shape[-1])
        sizes = {"resolution": torch.full((SIZE, 2), side), "aspect_ratio": torch.ones(SIZE, 1)}
    output = transformer(
        scheduler.add_noise(batch.latents, batch.noise, steps),
        encoder_hidden_states=prompts.tokens,
        encoder_attention_mask=prompts.mask,
        timestep=steps,
        added_cond_kwargs=sizes,
    ).sample.chunk(2, 1)[0]
    return torch.nn.functional.mse_loss(output, batch.noise)


def dit_loss(transformer: Any, batch: Batch, backbone: SavedBackbone) -> torch.Tensor:
    """The simple loss of DDPM, which is what diffusers' scripts of such models have."""
    scheduler = DDPMScheduler.from_config(backbone.scheduler_config())
    steps = backbone.objective.clock(batch.condition.timesteps)
    output = transformer(
        scheduler.add_noise(batch.latents, batch.noise, steps),
        timestep=steps,
        class_labels=batch.condition.prompts.tokens[:, 0],
    ).sample.chunk(2, 1)[0]
    return torch.nn.functional.mse_loss(output, batch.noise)


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "dit": dit_loss,
    "flux": flux_loss,
    "pixart": pixart_loss,
    "sana": sana_loss,
    "sd3": sd3_loss,
}


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_step_is_that_of_the_familys_script(folders, name):
    folder = folders(name)
    backbone = loaded(name, folder)
    batch, loss = batch_of(backbone), LOSSES[name.partition("-")[0]]
    assert len(set(batch.condition.timesteps.tolist())) == SIZE
    theirs = DiffusionPipeline.from_pretrained(folder, local_files_only=True).transformer.eval()
    more = [backbone] if loss in (dit_loss, pixart_loss) else []
    with torch.no_grad():
        expected = loss(theirs, batch, *more).item()
    assert our_loss(backbone, batch) == pytest.approx(expected, rel=1e-5)
    if name == "sd3":  # the weighting is what makes it so
        assert our_loss(backbone, replace(batch, weights=None)) != pytest.approx(expected, rel=0.05)


def test_shifted_timesteps_are_those_of_the_scripts_shifted_schedule():
    count = 4000
    ours = FlowMatching(BackboneRecipe(timesteps=Timesteps(shift=3.0))).timesteps(count, generator())
    plain = FlowMatching().timesteps(count, generator())
    schedule = FlowMatchEulerDiscreteScheduler(shift=3.0)
    indices = (1000 * (1 - plain)).long()  # the schedule descends, and the density is even in u and 1 - u
    assert (ours - schedule.timesteps[indices] / 1000).abs().max() < 3.1e-3  # 3 in the schedule's slope, a thousandth
    assert (plain > 0.75).float().mean().item() == pytest.approx(0.136, abs=0.02)
    assert (ours > 0.75).float().mean().item() == pytest.approx(0.5, abs=0.03)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_timesteps_without_a_recipe_are_what_they_were():
    logits = torch.normal(mean=0.0, std=1.0, size=(8,), generator=generator())
    assert torch.equal(FlowMatching().timesteps(8, generator()), torch.sigmoid(logits))
    assert FlowMatching().weights(torch.ones(3)) is None


def test_other_densities_and_moments():
    uniform = FlowMatching(BackboneRecipe(timesteps=Timesteps("uniform"))).timesteps(2000, generator())
    assert (uniform > 0.75).float().mean().item() == pytest.approx(0.25, abs=0.03)
    moved = FlowMatching(BackboneRecipe(timesteps=Timesteps(mean=1.0, std=0.5))).timesteps(2000, generator())
    assert torch.logit(moved).mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.logit(moved).std().item() == pytest.approx(0.5, abs=0.05)


def test_flux_is_told_another_guidance_in_sampling_unless_there_is_to_be_none(folders):
    backbone = loaded("flux", folders("flux"))
    assert backbone.told == 1.0
    for guidance, told in (("cfg", 3.5), ("none", 1.0), ("adapter-off", 3.5)):
        chosen = plan(method="lora", task="digits-lt", guidance=guidance)
        sampler = Sampler(backbone, chosen.method, chosen.guidance, CPU)
        assert backbone.told == told
        sampler.place(backbone)
        assert backbone.told == told
    schnell = loaded("flux-schnell", folders("flux-schnell"))
    for guidance in ("cfg", "none"):
        chosen = plan(method="lora", task="digits-lt", guidance=guidance)
        Sampler(schnell, chosen.method, chosen.guidance, CPU)
        assert schnell.told is None


# Resolution


@pytest.mark.parametrize("name", ["flux", "pixart", "sana", "sd3"])
def test_another_resolution_is_followed_by_shapes_and_predictions(folders, name, monkeypatch):
    folder = folders(name)
    kind = kind_of(name)
    native = kind.describe(str(folder))
    other = native.image_shape[-1] * (3 if name != "sd3" else 1) // (1 if name != "sd3" else 2)
    monkeypatch.setattr(kind, "_recipe_of", classmethod(lambda cls, saved: replace(cls.recipe, resolutions=(other,))))
    found = kind.describe(str(folder), other)
    assert found.image_shape == (3, other, other)
    assert found.settings["resolution"] == other
    assert (found.revision, found.autoencoder, found.text_encoder) == (
        native.revision,
        native.autoencoder,
        native.text_encoder,
    )
    backbone = loaded(name, folder, other)
    image = torch.zeros(1, 3, other, other).byte()
    assert backbone.encode_images(image).shape[1:] == backbone.latent_shape
    latents = torch.randn(2, *backbone.latent_shape, generator=generator())
    with torch.no_grad():
        output = backbone.predict(latents, torch.tensor([0.3, 0.7]), backbone.encode_prompts(PROMPTS))
    assert output.shape == latents.shape
    assert backbone.decode_latents(latents).shape == (2, 3, other, other)


def test_placed_positions_are_those_that_diffusers_would_compute_in_every_step(folders, monkeypatch):
    monkeypatch.setattr(
        kind_of("pixart"), "_recipe_of", classmethod(lambda cls, saved: replace(cls.recipe, resolutions=(24,)))
    )
    backbone = loaded("pixart", folders("pixart"), 24)
    theirs = loaded("pixart", folders("pixart")).transformer
    latents = torch.randn(1, *backbone.latent_shape, generator=generator())
    table = backbone.transformer.pos_embed
    assert (table.height, table.width) == tuple(side // 2 for side in backbone.latent_shape[1:])
    assert torch.equal(table(latents), theirs.pos_embed(latents))
    assert "pos_embed.pos_embed" not in backbone.transformer.state_dict()


def test_alpha_reads_the_size_that_was_chosen(folders, monkeypatch):
    folder = folders("pixart-alpha")
    native = kind_of("pixart").describe(str(folder)).image_shape[-1]
    monkeypatch.setattr(
        kind_of("pixart"), "_recipe_of", classmethod(lambda cls, saved: replace(cls.recipe, resolutions=(native // 2,)))
    )
    backbone = loaded("pixart-alpha", folder, native // 2)
    latents = torch.zeros(2, *backbone.latent_shape)
    assert backbone._size_conditions(latents)["resolution"].tolist() == [[native // 2] * 2] * 2


@pytest.mark.parametrize("name", sorted(SAVE))
def test_a_resolution_that_is_not_supported_is_refused(folders, name):
    with pytest.raises(UserError, match=r"--resolution 100: .* supports .* Choose one of them"):
        kind_of(name).describe(str(folders(name)), 100)
    native = kind_of(name).describe(str(folders(name)))
    assert kind_of(name).describe(str(folders(name)), native.image_shape[-1]) == native


def test_sizes_beyond_the_table_of_positions_are_refused(folders):
    with pytest.raises(UserError, match=r"--resolution 1024: .* position embeddings for at most 96? ?.*pixels"):
        kind_of("sd3").describe(str(folders("sd3")), 1024)


def test_a_resolution_that_is_no_whole_number_of_tokens_is_refused(folders, monkeypatch):
    monkeypatch.setattr(
        kind_of("sana"), "_recipe_of", classmethod(lambda cls, saved: replace(cls.recipe, resolutions=(33,)))
    )
    with pytest.raises(UserError, match=r"--resolution 33: .* needs a multiple of"):
        kind_of("sana").describe(str(folders("sana")), 33)


# Which recipe


def test_every_alias_has_a_recipe_of_its_own_name():
    for alias, (family, _) in ALIASES.items():
        kind = plugins.load("backbones", family)
        recipe = kind.recipes.get(alias, kind.recipe)
        assert recipe.name == alias
        assert recipe.source
        assert set(recipe.rates) == {"all weights", "low rank", "adapters", "gates"}


@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        ("sd3", {"num_layers": 38}, "sd3.5-large"),
        ("sd3", {"dual_attention_layers": []}, "sd3-medium"),
        ("sd3", {"dual_attention_layers": [0, 1]}, "sd3.5-medium"),
        ("sana", {"num_layers": 20}, "sana-1.6b"),
        ("sana", {"num_layers": 28}, "sana-0.6b"),
        ("pixart", {}, "pixart-sigma"),
    ],
)
def test_a_folder_has_the_recipe_of_its_own_weights(folders, family, changes, expected, tmp_path):
    folder = Path(shutil.copytree(folders(family), tmp_path / "copy"))
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert kind_of(family).describe(str(folder)).recipe.name == expected


def test_tiny_backbones_have_no_figure_of_their_own():
    for name in ("tiny-sd3", "tiny-sd3-32"):
        description = plugins.load("backbones", name).describe("")
        assert description.recipe == PLAIN
        assert description.settings == {}
        with pytest.raises(UserError, match=r"--resolution 512: backbone tiny-sd3"):
            plugins.load("backbones", name).describe("", 512)


def test_a_rate_is_far_where_it_is_an_order_of_magnitude_outside():
    rate = Rate(1e-4, 1e-5, 3e-3)
    assert [rate.is_far(value) for value in (3e-2, 2.9e-2, 1e-4, 1.1e-6, 1e-6)] == [True, False, False, False, True]
    with pytest.raises(ValueError, match="expected 0 < low"):
        Rate(1, 2, 3)

"""Stable Diffusion 3's backbone on tiny pipelines of the real classes, saved and loaded as users do."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from helpers.tiny_pipelines import autoencoder, save_sd3, sd3_pipeline
from huggingface_hub import constants
from safetensors.torch import load, load_file, save_file

from grasp_bench.backbones import files
from grasp_bench.backbones.sd3 import SD3
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.task import Split
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance, NoGuidance
from grasp_bench.io import read_tensors
from grasp_bench.processes import ALONE
from grasp_bench.run.encoded import KnownPrompts, Pixels
from grasp_bench.run.files import IMAGES
from grasp_bench.run.generation import generate
from grasp_bench.run.plan import plan
from grasp_bench.run.training.batches import Batches
from grasp_bench.sampling import Sampler

METHODS = ("vanilla-ft", "lora", "moe", "grasp", "shared-adapter")
PROMPTS = ["a photo of the dog", "A cat, 3 of 4!", ""]
FEED_FORWARDS = [f"transformer_blocks.{i}.{stream}" for i in range(3) for stream in ("ff", "ff_context")][:-1]
REPOSITORY, COMMIT = "someone/tiny-sd3.5", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A pipeline folder that no test changes."""
    folder = tmp_path_factory.mktemp("pipelines")
    return save_sd3(folder / "sd3", folder / "scratch")


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A pipeline folder of the test's own."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def backbone(saved) -> SD3:
    return SD3.load(str(saved))


@pytest.fixture(scope="module")
def pipeline(saved) -> StableDiffusion3Pipeline:
    """The same folder as diffusers itself loads it."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(saved, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def images(count: int, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(1)).byte()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def cached(saved: Path, home: Path) -> Path:
    """``saved`` as a repository in the hub's cache of ``home``; the folder of its snapshot."""
    repository = home / "hub" / ("models--" + REPOSITORY.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    for number, path in enumerate(sorted(path for path in saved.rglob("*") if path.is_file())):
        blob, link = repository / "blobs" / str(number), snapshot / path.relative_to(saved)
        for place in (blob, link):
            place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


# Describing


def test_the_size_of_images_is_that_of_latents_times_the_autoencoders_factor(folder):
    assert SD3.describe(str(folder)).image_shape == (3, 32, 32)  # latents of 8 and three blocks
    config = json.loads((folder / "vae" / "config.json").read_text())
    (folder / "vae" / "config.json").write_text(json.dumps(config | {"block_out_channels": [8] * 4}))
    assert SD3.describe(str(folder)).image_shape == (3, 64, 64)


def test_the_revision_follows_the_content_and_not_the_place(saved, tmp_path):
    revision = SD3.describe(str(saved)).revision
    assert len(revision) == 12
    assert int(revision, 16) >= 0
    moved = tmp_path / "elsewhere" / "model"
    shutil.copytree(saved, moved)
    (moved / "README.md").write_text("A card is not part of the model.")
    assert SD3.describe(str(moved)).revision == revision
    seen = {revision}
    for path in sorted(path for path in moved.rglob("*.*") if path.suffix != ".md"):
        original = path.read_bytes()
        weights = path.suffix == ".safetensors"
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]) if weights else original + b"\n")
        seen.add(SD3.describe(str(moved)).revision)
        path.write_bytes(original)
    assert len(seen) == 1 + 5 * 2 + 3 * 2 + 2  # five models, three tokenizers, scheduler and index: all tell


def test_the_revision_reads_header_and_edges_of_the_weights(folder, monkeypatch):
    monkeypatch.setattr(files, "EDGE", 64)
    revision = SD3.describe(str(folder)).revision
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    original = path.read_bytes()
    start = 8 + int.from_bytes(original[:8], "little")
    changed = {}
    for offset in (start, start + 63, start + 64, len(original) - 65, len(original) - 64, len(original) - 1):
        path.write_bytes(original[:offset] + bytes([original[offset] ^ 1]) + original[offset + 1 :])
        changed[offset] = SD3.describe(str(folder)).revision != revision
    assert list(changed.values()) == [True, True, False, False, True, True]
    tensors = load_file(folder / "text_encoder" / "model.safetensors")
    path.write_bytes(original)
    save_file(tensors, folder / "text_encoder" / "model.safetensors", {"note": "only the header differs"})
    assert SD3.describe(str(folder)).revision != revision


def test_a_repository_is_found_in_the_hubs_cache_without_torch_or_network(saved, tmp_path):
    cached(saved, tmp_path)
    script = (
        "import sys, socket\n"
        "socket.socket.connect = socket.getaddrinfo = None\n"
        "from grasp_bench.backbones.sd3 import SD3\n"
        f"found = SD3.describe({REPOSITORY!r})\n"
        "print(found.revision, *{'torch', 'diffusers', 'transformers'} & sys.modules.keys())\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment | {"HF_HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert found.stdout.split() == [SD3.describe(str(saved)).revision], found.stderr


def test_a_repository_loads_from_the_hubs_cache(saved, tmp_path, monkeypatch, backbone):
    cached(saved, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    from_cache = SD3.load(REPOSITORY)
    assert from_cache.revision == backbone.revision
    state = backbone.transformer.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in from_cache.transformer.state_dict().items())


# Missing and wrong


def test_what_is_missing_in_a_folder_is_one_message(folder):
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.rmtree(folder / "tokenizer_3")
    with pytest.raises(UserError) as caught:
        SD3.describe(str(folder))
    message = str(caught.value)
    assert "transformer/diffusion_pytorch_model.safetensors, tokenizer_3/tokenizer.json not found" in message
    assert f"searched {folder}." in message
    assert f"hf download OWNER/NAME --local-dir {folder}" in message


def test_what_is_missing_in_the_hubs_cache_names_the_repository_and_the_licence(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError) as caught:
        SD3.load(REPOSITORY)
    for said in (f"{REPOSITORY}: model_index.json not found", str(tmp_path / "hub"), str(Path(REPOSITORY).absolute())):
        assert said in str(caught.value)
    snapshot = cached(saved, tmp_path)
    (snapshot / "vae" / "config.json").unlink()
    with pytest.raises(UserError) as caught:
        SD3.load(REPOSITORY)
    for said in (
        f"{REPOSITORY}: vae/config.json not found; searched {snapshot}.",
        f"hf download {REPOSITORY} ",
        f"accept the licence on https://huggingface.co/{REPOSITORY} and log in",
    ):
        assert said in str(caught.value)


def test_no_source_and_no_such_folder_are_said(tmp_path):
    with pytest.raises(UserError, match="needs the folder of a saved pipeline or a repository"):
        SD3.load("")
    with pytest.raises(UserError, match="there is no such folder, and a repository is written OWNER/NAME"):
        SD3.describe(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"model_index\.json not found"):
        SD3.describe(str(tmp_path))


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("transformer", ["diffusers", "FluxTransformer2DModel"], "class FluxTransformer2DModel, expected SD3Transf"),
        ("text_encoder_2", [None, None], "names no text_encoder_2"),
        ("tokenizer_3", [None, None], "names no tokenizer_3"),
    ],
)
def test_a_pipeline_of_another_kind_is_refused(folder, part, value, said):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {part: value}))
    with pytest.raises(UserError, match=said):
        SD3.describe(str(folder))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda whole: whole[:-100], r"bytes where its header says \d+"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\n", "is no .safetensors file, of 43 bytes"),
        (lambda whole: b"", "is no .safetensors file, of 0 bytes"),
    ],
)
def test_weights_that_are_cut_short_are_said_before_they_are_loaded(folder, content, said):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(UserError, match=said):
        SD3.describe(str(folder))


def test_weights_that_do_not_fit_their_config_are_refused(folder):
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load(path.read_bytes())  # not mapped from the file that is about to be replaced
    save_file({name: tensor for name, tensor in tensors.items() if name != "proj_out.weight"}, path)
    with pytest.raises(UserError, match=r"weights do not fit its config\.json: proj_out\.weight"):
        SD3.load(str(folder))
    save_file(tensors | {"proj_out.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(UserError, match=r"proj_out\.weight"):
        SD3.load(str(folder))


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened(folder, tmp_path):
    exploded, opened = tmp_path / "exploded", []
    encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    names = [f"{part}/diffusion_pytorch_model.bin" for part in ("transformer", "vae")]
    for name in [*names, *(f"{part}/pytorch_model.bin" for part in encoders)]:
        (folder / name).write_bytes(pickle.dumps(Bomb(exploded)))
    watching = [True]  # a hook stays for as long as the process does
    sys.addaudithook(lambda event, details: event == "open" and watching and opened.append(str(details[0])))
    SD3.load(str(folder))
    (folder / "text_encoder" / "model.safetensors").unlink()
    said = r"text_encoder/model\.safetensors not found.*text_encoder/pytorch_model\.bin.* a pickle can run any code"
    with pytest.raises(UserError, match=said):
        SD3.load(str(folder))
    watching.clear()
    assert not exploded.exists()
    assert str(folder / "vae" / "config.json") in opened
    assert not [path for path in opened if path.endswith(".bin")]


def test_a_pickled_adapter_beside_the_weights_is_refused(folder):
    """Transformers would load it into the text encoder that it lies beside."""
    (folder / "text_encoder" / "adapter_config.json").write_text("{}")
    (folder / "text_encoder" / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(UserError, match=r"text_encoder/adapter_model\.bin: a pickle can run any code and is not read"):
        SD3.load(str(folder))


# Loading


def modules(backbone: SD3) -> dict[str, torch.nn.Module]:
    """The transformer, the autoencoder and the encoders."""
    texts = {
        name: part for name, part in backbone.text_pipeline.components.items() if isinstance(part, torch.nn.Module)
    }
    return {"transformer": backbone.transformer, "vae": backbone.autoencoder} | texts


def assert_frozen_in_float32(backbone: SD3) -> None:
    assert len(modules(backbone)) == 5
    for module in modules(backbone).values():
        assert not module.training
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_every_model_is_on_the_device(saved):
    backbone = SD3.load(str(saved))
    assert backbone.to(torch.device("meta")) is backbone
    devices = {parameter.device.type for module in modules(backbone).values() for parameter in module.parameters()}
    assert devices == {"meta"}


def test_files_in_half_precision_are_loaded_in_float32(tmp_path):
    pipeline = sd3_pipeline(tmp_path / "scratch").to(torch.float16)
    pipeline.save_pretrained(tmp_path / "half")
    backbone = SD3.load(str(tmp_path / "half"))
    assert_frozen_in_float32(backbone)
    assert torch.equal(backbone.transformer.proj_out.weight, pipeline.transformer.proj_out.weight.float())


def test_weights_in_several_files_are_loaded_and_each_is_needed(saved, tmp_path):
    folder = save_sd3(tmp_path / "sharded", tmp_path / "scratch", max_shard_size="100KB")
    shards = sorted((folder / "transformer").glob("*.safetensors"))
    assert len(shards) > 1
    state = SD3.load(str(saved)).transformer.state_dict()
    for name, tensor in SD3.load(str(folder)).transformer.state_dict().items():
        assert torch.equal(tensor, state[name])
    shards[1].unlink()
    with pytest.raises(UserError, match=f"transformer/{shards[1].name} not found"):
        SD3.describe(str(folder))


# Encoding and predicting


def test_prompts_are_encoded_as_the_pipeline_does(backbone, pipeline):
    found = backbone.encode_prompts(PROMPTS)
    assert found.tokens.shape == (3, 77 + 256, 64)
    assert found.pooled.shape == (3, 16 + 24)
    with torch.no_grad():
        for row, prompt in enumerate(PROMPTS):
            tokens, null, pooled, null_pooled = pipeline.encode_prompt(prompt, None, None)
            torch.testing.assert_close(found.tokens[row : row + 1], tokens)  # of a batch, whose last bits may differ
            torch.testing.assert_close(found.pooled[row : row + 1], pooled)
            words = [len(part(prompt).input_ids) for part in (pipeline.tokenizer, pipeline.tokenizer_3)]
            expected = [*(place >= words[0] for place in range(77)), *(place >= words[1] for place in range(256))]
            assert found.padding[row].tolist() == expected
        tokens, _, pooled, _ = pipeline.encode_prompt(PROMPTS, None, None)
    torch.testing.assert_close(found.tokens, tokens)
    torch.testing.assert_close(found.pooled, pooled)
    assert torch.equal(found.tokens[2:], null)  # the null condition is the pipeline's own
    assert torch.equal(found.pooled[2:], null_pooled)
    clip_l, clip_g, padding = found.tokens[:, :77].split([16, 24, 24], dim=2)
    assert clip_l.std() > 0.1
    assert clip_g.std() > 0.1
    assert not padding.any()
    assert len({tuple(row.tolist()) for row in found.pooled}) == 3


def test_embeddings_kept_from_sampling_serve_training(backbone):
    with torch.inference_mode():
        backbone.encode_prompts(["a dog"])
    tokens = backbone.encode_prompts(["a dog"]).tokens
    assert not tokens.is_inference()  # those cannot be saved for a backward pass
    (tokens * torch.ones(64, requires_grad=True)).sum().backward()


def test_without_t5_its_tokens_are_zeros(tmp_path):
    folder = save_sd3(tmp_path / "sd3", tmp_path / "scratch", t5=False)
    assert json.loads((folder / "model_index.json").read_text())["text_encoder_3"] == [None, None]
    backbone = SD3.load(str(folder))
    found = backbone.encode_prompts(["a dog"])
    tokens = found.tokens
    assert found.padding[:, 77:].all()
    assert tokens.shape == (1, 77 + 256, 64)
    assert tokens[:, :77].any()
    assert not tokens[:, 77:].any()
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    with torch.no_grad():
        assert torch.equal(tokens, pipeline.encode_prompt("a dog", None, None)[0])


def test_predictions_are_the_transformers_own(backbone, pipeline):
    latents, timesteps, prompts = noise(3, 16, 8, 8), torch.tensor([0.1, 0.5, 1.0]), backbone.encode_prompts(PROMPTS)
    with torch.no_grad():
        expected = pipeline.transformer(
            hidden_states=latents,
            encoder_hidden_states=prompts.tokens,
            pooled_projections=prompts.pooled,
            timestep=torch.tensor([100.0, 500.0, 1000.0]),
        ).sample
    assert torch.equal(backbone.predict(latents, timesteps, prompts), expected)


# Sampling


def sampler(backbone: SD3, guidance=None) -> Sampler:
    return Sampler(backbone, Method(MethodSettings()), guidance or NoGuidance(Settings()), torch.device("cpu"))


@pytest.mark.parametrize("scale", [0, 1, 4.5])
def test_sampling_is_the_pipelines_own(backbone, pipeline, scale):
    """Scheduler with its shift, clock and scaling: the same images from the same noise, guided or not."""
    start, labels = noise(2, 16, 8, 8), torch.tensor([0, 1])
    guidance = NoGuidance(Settings()) if scale == 1 else ClassifierFreeGuidance(CfgSettings(guidance_scale=scale))
    found = sampler(backbone, guidance)(start, PROMPTS[:2], labels, 5)
    prompts = ["", ""] if scale == 0 else PROMPTS[:2]
    expected = pipeline(
        prompts, num_inference_steps=5, guidance_scale=scale, latents=start, height=32, width=32, output_type="np"
    ).images
    assert np.abs(found.permute(0, 2, 3, 1).numpy() - expected * 255).max() < 0.51
    assert found.float().std() > 1


def test_the_schedule_is_the_folders(backbone):
    scheduler = backbone.scheduler(2, torch.device("cpu"))
    assert scheduler.config.shift == 3.0
    assert scheduler is not backbone.scheduler(2, torch.device("cpu"))
    assert scheduler.sigmas[0] == 1
    assert scheduler.sigmas[-1] == 0


def test_the_harness_trains_and_samples_at_the_size_of_latents(backbone, tmp_path):
    spec = plan(method="grasp", task="digits-lt", budget="smoke").spec
    sizes = {"batch_size": 2, "images_per_class": 2, "num_inference_steps": 2}
    spec = spec.model_copy(update={"budget": spec.budget.model_copy(update=sizes)})
    pixels = images(4).numpy()
    split = Split(list("abcd"), np.arange(4), ["a dog", "a cat", "a dog", "a photo"], lambda rows: pixels[rows])
    latents, prompts = Pixels(split, backbone), KnownPrompts(["", *split.prompts], backbone)
    batch = Batches(spec, split, backbone, latents, prompts, torch.device("cpu"), None)(0)
    assert batch.latents.shape == batch.noise.shape == batch.target.shape == (2, 16, 8, 8)
    assert batch.condition.prompts.tokens.shape == (2, 333, 64)
    subjects = [("a dog", 0), ("a dog", 0), ("a cat", 1), ("a cat", 1)]
    generate(spec, subjects, torch.tensor([0, 0, 1, 1]), sampler(backbone), tmp_path, 3, ALONE, Progress())
    made = read_tensors(tmp_path / IMAGES)["images"]
    assert made.shape == (4, 3, 32, 32)
    assert len({image.numpy().tobytes() for image in made}) == 4


def test_the_tiny_autoencoder_halves_the_image_with_every_block_but_the_last():
    """What the size of images is computed from."""
    for blocks in (2, 3, 4):
        latents = autoencoder((8,) * blocks).encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode()
        assert latents.shape[-1] == 64 // 2 ** (blocks - 1)

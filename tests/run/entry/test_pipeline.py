"""Pipelines of diffusers as entries of the open division: U-Nets and transformers, LoRAs, and what is refused."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from backbones.tiny_pixart import save_sigma
from helpers.entries import request
from helpers.tiny_pipelines import save_sd3
from helpers.tiny_unet import save_loras, save_sdxl, save_unet

from grasp_bench.errors import UserError
from grasp_bench.extractors.hf import _files
from grasp_bench.io import read_tensors
from grasp_bench.run.entry.pipeline import GivenPipeline
from grasp_bench.run.files import IMAGES

SAVE = {"sd3": save_sd3, "pixart": partial(save_sigma, sample_size=32, patch_size=16), "sdxl": save_sdxl}


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_unet(tmp_path_factory.mktemp("unet") / "pipeline", tmp_path_factory.mktemp("scratch"))


def images(given: GivenPipeline, folder: Path, each: int = 1, **changes) -> torch.Tensor:
    folder.mkdir()
    found = given.make(request(each, **changes), folder)
    assert found.scored == 10 * each
    assert found.seconds
    return read_tensors(folder / IMAGES)["images"]


@pytest.mark.parametrize("kind", SAVE)
def test_pipelines_generate_the_prompts_of_every_class(kind: str, tmp_path: Path) -> None:
    given = GivenPipeline(SAVE[kind](tmp_path / "pipeline", tmp_path / "scratch"), guidance_scale=2, steps=2)
    made = images(given, tmp_path / "stage")
    assert made.shape == (10, 1, 8, 8)
    assert made.float().std() > 0


def test_a_unet_gives_every_image_its_own_noise_whatever_the_batch(unet: Path, tmp_path: Path) -> None:
    given = GivenPipeline(unet, guidance_scale=2, steps=2)
    one, other = (images(given, tmp_path / str(size), 2, batch_size=size) for size in (20, 3))
    assert (one.int() - other.int()).abs().max() <= 1  # products of other shapes round otherwise
    assert len({image.numpy().tobytes() for image in one}) == 20


def test_an_interrupted_generation_goes_on_where_it_was(
    unet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, calls = GivenPipeline(unet, steps=1), []
    batch = GivenPipeline._images

    def breaking(self, pipeline, asked, numbers) -> list[np.ndarray]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(numbers)
        return batch(self, pipeline, asked, numbers)

    folder = tmp_path / "stage"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(GivenPipeline, "_images", breaking)
        with pytest.raises(KeyboardInterrupt):
            given.make(request(1, batch_size=3), folder)
    made = []
    with monkeypatch.context() as patch:
        patch.setattr(GivenPipeline, "_images", lambda *given: made.append(given[-1]) or batch(*given))
        given.make(request(1, batch_size=3), folder)
    assert calls == [[0, 1, 2], [3, 4, 5]]
    assert made == [[6, 7, 8], [9]]


def test_a_lora_counts_and_is_the_same_in_both_layouts(unet: Path, tmp_path: Path) -> None:
    peft, kohya = save_loras(tmp_path / "loras")
    plain = images(GivenPipeline(unet, steps=2), tmp_path / "plain")
    made = [images(GivenPipeline(unet, lora, steps=2), tmp_path / lora.stem) for lora in (peft, kohya)]
    assert torch.equal(*made)
    assert not torch.equal(made[0], plain)
    settings = [GivenPipeline(unet, lora, steps=2).settings for lora in (None, peft, kohya)]
    assert len({json.dumps(each) for each in settings}) == 3


def test_a_lora_of_another_model_is_refused(unet: Path, tmp_path: Path) -> None:
    _, kohya = save_loras(tmp_path / "loras", width=12)
    with pytest.raises(UserError, match="does not fit this StableDiffusionPipeline"):
        GivenPipeline(unet, kohya).load(torch.device("cpu"))
    (tmp_path / "lora.bin").write_bytes(b"")
    with pytest.raises(UserError, match="Pickles can run any code"):
        _ = GivenPipeline(unet, tmp_path / "lora.bin").settings


@pytest.mark.parametrize(
    ("index", "fault"),
    [
        ({"_class_name": "StableDiffusionPipeline"}, "cannot load it as a pipeline"),
        ({"_class_name": "DDPMPipeline"}, "cannot load it as a pipeline"),
        ({"_class_name": "NoSuchPipeline"}, "cannot load it as a pipeline: .*NoSuchPipeline"),
    ],
)
def test_what_diffusers_cannot_load_is_one_message(index: dict, fault: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=fault):
        GivenPipeline(tmp_path).load(torch.device("cpu"))


def test_weights_that_were_cut_short_are_one_message(unet: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(unet, tmp_path / "cut"))
    (weights,) = (folder / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot load it as a pipeline: "):
        GivenPipeline(folder).load(torch.device("cpu"))


@pytest.mark.parametrize("kind", ["StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"])
def test_a_pipeline_that_starts_from_an_image_is_refused(kind: str, unet: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(unet, tmp_path / "other"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": kind}))
    with pytest.raises(UserError, match=f"a {kind} needs image beside a prompt"):
        GivenPipeline(folder).load(torch.device("cpu"))


def test_neither_pickles_nor_code_are_read(unet: Path, tmp_path: Path) -> None:
    code = Path(shutil.copytree(unet, tmp_path / "code"))
    (code / "unet" / "mine.py").write_text("raise SystemExit\n")
    with pytest.raises(UserError, match=r"brings code of its own \(unet/mine.py\), which is not run"):
        _ = GivenPipeline(code).settings
    pickled = Path(shutil.copytree(unet, tmp_path / "pickled"))
    (pickled / "unet" / "diffusion_pytorch_model.safetensors").rename(pickled / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="a pickle can run any code and is not read"):
        _ = GivenPipeline(pickled).settings


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder/nested"])
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "model.safetensors.index.fp16.json"])
def test_an_index_that_names_a_pickle_is_refused_before_anything_is_loaded(
    part: str, index: str, unet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Path(shutil.copytree(unet, tmp_path / "pipeline"))
    (pipeline / part).mkdir(exist_ok=True)
    (pipeline / part / "weights.ckpt").write_bytes(b"never read")
    (pipeline / part / index).write_text(json.dumps({"weight_map": {"a": "weights.ckpt"}}))
    monkeypatch.setattr(GivenPipeline, "load", lambda self, device: pytest.fail("something was loaded"))
    with pytest.raises(UserError, match=r"names weights.ckpt, which is no safetensors file beside it"):
        _ = GivenPipeline(pipeline).settings


def test_a_pickled_adapter_is_refused_even_beside_safetensors(unet: Path, tmp_path: Path) -> None:
    pipeline = Path(shutil.copytree(unet, tmp_path / "pipeline"))
    (pipeline / "text_encoder" / "adapter_model.bin").write_bytes(b"never read")
    with pytest.raises(UserError, match=r"text_encoder/adapter_model.bin: a pickle can run any code"):
        _ = GivenPipeline(pipeline).settings
    with pytest.raises(UserError, match=r"adapter_model.bin: a pickle can run any code"):
        _files(pipeline)


def test_weights_and_how_the_pipeline_is_called_identify_the_images(unet: Path, tmp_path: Path) -> None:
    own = GivenPipeline(unet).settings
    assert GivenPipeline(Path(shutil.copytree(unet, tmp_path / "copy"))).settings == own
    assert GivenPipeline(unet, guidance_scale=3).settings == own | {"guidance_scale": 3}
    with pytest.raises(UserError, match=r"has no model_index.json"):
        _ = GivenPipeline(tmp_path).settings

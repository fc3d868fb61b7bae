"""Saved pipelines of every family are found whole, in the variant that is there, and named by their aliases."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
from helpers.tiny_pipelines import sd3_pipeline
from safetensors.numpy import save
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from grasp_bench import plugins
from grasp_bench.backbones import aliases
from grasp_bench.backbones.files import MissingFilesError, SavedPipeline, find_pipeline
from grasp_bench.errors import UserError

PLAIN = dict.fromkeys(("transformer", "vae"), "diffusion_pytorch_model")
SD3 = "SD3Transformer2DModel"
SD3_PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
T5 = ("text_encoder_3", "tokenizer_3")
FAMILIES = {
    "DiTTransformer2DModel": ("transformer", "vae"),
    "PixArtTransformer2DModel": ("transformer", "vae", "text_encoder", "tokenizer"),
    "SanaTransformer2DModel": ("transformer", "vae", "text_encoder", "tokenizer"),
    "FluxTransformer2DModel": SD3_PARTS,
}


def write(folder: Path, transformer: str, parts: tuple[str, ...], variant: str = "", **config: object) -> Path:
    """A pipeline folder of the right names, with a number for weights."""
    index: dict[str, object] = {"_class_name": "Pipeline", "scheduler": ["diffusers", "Scheduler"]}
    for number, part in enumerate(parts):
        (folder / part).mkdir(parents=True)
        index[part] = ["library", transformer if part == "transformer" else "Class"]
        if part.startswith("tokenizer"):
            (folder / part / "spiece.model").write_text(part)
            continue
        (folder / part / "config.json").write_text(json.dumps(config if part == "transformer" else {}))
        name = f"{PLAIN.get(part, 'model')}{variant}.safetensors"
        (folder / part / name).write_bytes(save({"weight": np.full(3, number, np.float32)}))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"shift": 3.0}')
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def shard(folder: Path, name: str, shards: list[str]) -> None:
    """An index of weights that are in several files, which are not there themselves."""
    (folder / name).write_text(json.dumps({"weight_map": {f"weight.{row}": shard for row, shard in enumerate(shards)}}))


# Families


@pytest.mark.parametrize(("transformer", "parts"), FAMILIES.items())
def test_a_family_names_its_own_parts_and_each_is_needed(tmp_path, transformer, parts):
    folder = write(tmp_path / "saved", transformer, parts)
    saved = find_pipeline(str(folder), transformer, parts)
    assert set(saved.parts) == {"scheduler", *parts}
    assert saved.scheduler_config() == {"shift": 3.0}
    for part in saved.parts:
        shutil.move(folder / part, tmp_path / "aside")
        with pytest.raises(MissingFilesError, match=f"{part}/"):
            find_pipeline(str(folder), transformer, parts)
        shutil.move(tmp_path / "aside", folder / part)


def test_the_index_is_read_whole(tmp_path):
    folder = write(tmp_path / "saved", "DiTTransformer2DModel", ("transformer", "vae"))
    index = json.loads((folder / "model_index.json").read_text()) | {"id2label": {"0": "tench, Tinca tinca"}}
    (folder / "model_index.json").write_text(json.dumps(index))
    assert find_pipeline(str(folder), "DiTTransformer2DModel", ("transformer", "vae")).index == index


def test_an_optional_tokenizer_goes_with_its_text_encoder(tmp_path):
    whole = write(tmp_path / "whole", SD3, (*SD3_PARTS, *T5))
    assert set(T5) < set(find_pipeline(str(whole), SD3, SD3_PARTS, T5).parts)
    without = write(tmp_path / "without", SD3, SD3_PARTS)
    assert not set(T5) & set(find_pipeline(str(without), SD3, SD3_PARTS, T5).parts)
    half = write(tmp_path / "half", SD3, (*SD3_PARTS, "text_encoder_3"))
    with pytest.raises(UserError, match="names no tokenizer_3"):
        find_pipeline(str(half), SD3, SD3_PARTS, T5)


@pytest.mark.parametrize(
    ("norm_type", "family", "other"),
    [
        ("ada_norm_zero", "DiTTransformer2DModel", "PixArtTransformer2DModel"),
        ("ada_norm_single", "PixArtTransformer2DModel", "DiTTransformer2DModel"),
    ],
)
def test_pipelines_saved_under_the_former_name_are_told_apart_as_diffusers_does(tmp_path, norm_type, family, other):
    parts = ("transformer", "vae")
    folder = write(tmp_path / "saved", "Transformer2DModel", parts, norm_type=norm_type)
    find_pipeline(str(folder), family, parts)
    with pytest.raises(UserError, match=f"of the class {family}, expected {other}"):
        find_pipeline(str(folder), other, parts)
    with pytest.raises(UserError, match=f"of the class Transformer2DModel, expected {SD3}"):
        find_pipeline(str(folder), SD3, parts)
    (folder / "transformer" / "config.json").unlink()
    with pytest.raises(MissingFilesError, match=r"transformer/config\.json not found"):
        find_pipeline(str(folder), family, parts)


def test_a_folder_is_not_said_to_be_downloadable_and_a_repository_is(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MissingFilesError) as caught:
        find_pipeline(str(tmp_path), SD3, SD3_PARTS)
    assert "--allow-download" not in str(caught.value)
    with pytest.raises(MissingFilesError, match="the same with --allow-download, or hf download someone/sd3 "):
        find_pipeline("someone/sd3", SD3, SD3_PARTS)


# Variants


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> StableDiffusion3Pipeline:
    return sd3_pipeline(tmp_path_factory.mktemp("scratch") / "sd3")


@pytest.fixture(scope="module")
def half(original, tmp_path_factory) -> Path:
    """A pipeline of which only the variant fp16 was saved, some of its models in several files."""
    folder = tmp_path_factory.mktemp("pipelines") / "half"
    original.save_pretrained(folder, variant="fp16")
    for part in ("transformer", "text_encoder_3"):
        shutil.rmtree(folder / part)
        getattr(original, part).save_pretrained(folder / part, variant="fp16", max_shard_size="50KB")
    return folder


@pytest.mark.parametrize("stray", [False, True])
@pytest.mark.parametrize(
    ("part", "kind", "index"),
    [
        ("transformer", SD3Transformer2DModel, "diffusion_pytorch_model.safetensors.index.fp16.json"),
        ("vae", AutoencoderKL, None),
        ("text_encoder", CLIPTextModelWithProjection, None),
        ("text_encoder_3", T5EncoderModel, "model.safetensors.index.fp16.json"),
    ],
)
def test_a_variant_is_found_and_loads_where_the_plain_weights_are_absent(
    original, half, tmp_path, part, kind, index, stray
):
    folder = Path(shutil.copytree(half, tmp_path / "copy"))
    assert index is None or (folder / part / index).is_file()
    if stray:  # the plain index without its files, which those who fetch "*.json" and "*.fp16*" have
        name = PLAIN.get(part, "model")
        shard(folder / part, f"{name}.safetensors.index.json", [f"{name}-00001-of-00001.safetensors"])
    saved = find_pipeline(str(folder), SD3, SD3_PARTS, T5)
    assert saved.variant(part) == "fp16"
    model = kind.from_pretrained(folder / part, variant=saved.variant(part), use_safetensors=True)
    expected = getattr(original, part).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_each_file_of_a_variant_is_needed_and_enters_the_revision(half, tmp_path):
    folder = Path(shutil.copytree(half, tmp_path / "copy"))

    def find() -> SavedPipeline:
        return find_pipeline(str(folder), SD3, SD3_PARTS, T5)

    seen = {find().revision()}
    weights = sorted(folder.rglob("*.safetensors"))
    assert len(weights) > 5
    for path in weights:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        seen.add(find().revision())
        path.unlink()
        with pytest.raises(MissingFilesError, match=f"{path.parent.name}/"):
            find()
        path.write_bytes(content)
    assert len(seen) == 1 + len(weights)


def test_plain_weights_come_before_a_variant_and_a_whole_variant_before_half_of_the_plain(tmp_path):
    parts = ("transformer", "vae")
    folder = write(tmp_path / "saved", SD3, parts)
    saved = find_pipeline(str(folder), SD3, parts)
    plain, stem = saved.revision(), folder / "transformer" / "diffusion_pytorch_model"
    half = stem.with_name(stem.name + ".fp16.safetensors")
    half.write_bytes(save({"weight": np.zeros(3, np.float16)}))
    assert saved.variant("transformer") is None
    assert saved.revision() == plain
    stem.with_suffix(".safetensors").unlink()
    shard(
        folder / "transformer",
        f"{stem.name}.safetensors.index.json",
        ["diffusion_pytorch_model-00001-of-00001.safetensors"],
    )
    assert find_pipeline(str(folder), SD3, parts).variant("transformer") == "fp16"
    assert saved.variant("vae") is None
    half.unlink()
    with pytest.raises(MissingFilesError, match=r"transformer/diffusion_pytorch_model-00001-of-00001\.safetensors not"):
        find_pipeline(str(folder), SD3, parts)


def test_one_shard_of_a_variant_is_no_variant(tmp_path):
    folder = write(tmp_path / "saved", SD3, ("transformer", "vae"), ".fp16-00001-of-00002")
    with pytest.raises(MissingFilesError, match=r"transformer/diffusion_pytorch_model\.safetensors"):
        find_pipeline(str(folder), SD3, ("transformer", "vae"))


# Revisions of parts


def test_the_revision_of_some_parts_follows_them_alone(tmp_path):
    folder = write(tmp_path / "saved", SD3, SD3_PARTS)
    saved = find_pipeline(str(folder), SD3, SD3_PARTS)
    texts = [part for part in SD3_PARTS if part.startswith(("text", "token"))]

    def revisions() -> tuple[str, str, str]:
        return saved.revision(), saved.part_revision(texts), saved.part_revision(["vae"])

    before = revisions()
    assert len(set(before)) == 3
    assert saved.part_revision(texts[::-1]) == before[1]
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content, part = path.read_bytes(), path.relative_to(folder).parts[0]
        weights = path.suffix == ".safetensors"
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if weights else content + b"\n")
        changed = tuple(old != new for old, new in zip(before, revisions(), strict=True))
        assert changed == (True, part in texts, part == "vae"), path
        path.write_bytes(content)


# Names


@pytest.fixture
def families(monkeypatch):
    """As if these were what is installed."""
    entry = next(iter(plugins.entries("backbones").values()))
    names = ("flux", "pixart", "sana", "sd3", "tiny-sd3")
    monkeypatch.setattr(plugins, "entries", lambda kind: dict.fromkeys(names, entry))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sd3.5-medium", ("sd3", "stabilityai/stable-diffusion-3.5-medium")),
        ("sana-0.6b", ("sana", "Efficient-Large-Model/Sana_600M_512px_diffusers")),
        ("sd3:/models/a:b", ("sd3", "/models/a:b")),
        ("sd3", ("sd3", "")),
        ("tiny-sd3", ("tiny-sd3", "")),
    ],
)
def test_an_alias_or_a_family_and_a_source_name_a_backbone(families, name, expected):
    assert aliases.resolve(name) == expected


def test_an_unknown_name_is_compared_with_backbones_and_aliases(families):
    with pytest.raises(UserError, match=r"unknown backbone 'sd3\.5-medum'\. Did you mean 'sd3\.5-medium'\?") as caught:
        aliases.resolve("sd3.5-medum")
    for known in ("tiny-sd3", "flux-dev"):
        assert known in str(caught.value)
    with pytest.raises(UserError, match=r"Did you mean 'tiny-sd3'\?"):
        aliases.resolve("tiny-sd33:/models/x")
    with pytest.raises(UserError, match=r"takes no source\. Leave out ':/models/x', or write sd3:/models/x\."):
        aliases.resolve("sd3.5-medium:/models/x")


def test_only_aliases_of_installed_families_are_offered(monkeypatch):
    entry = next(iter(plugins.entries("backbones").values()))
    monkeypatch.setattr(plugins, "entries", lambda kind: {"sd3": entry, "sd3-medium": entry})
    assert set(aliases.available()) == {"sd3.5-medium", "sd3.5-large"}
    assert aliases.resolve("sd3-medium") == ("sd3-medium", "")  # a backbone's own name goes first
    with pytest.raises(UserError, match="unknown backbone 'flux-dev'"):
        aliases.resolve("flux-dev")


def test_every_alias_is_of_a_repository_and_repeats_none():
    repositories = [repository for _, repository in aliases.ALIASES.values()]
    assert len(set(repositories)) == len(repositories)
    assert all(repository.count("/") == 1 and ":" not in alias for alias, (_, repository) in aliases.ALIASES.items())

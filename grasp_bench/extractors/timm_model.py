"""Any model of timm, such as DINOv2, with its weights in a safetensors file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Self

from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.extractors.network import NetworkExtractor, Preprocessing
from grasp_bench.extractors.weights import drawn_apart, fill, read_safetensors
from grasp_bench.weights import VARIABLE, how_to_fetch, timm_file

DINOV2 = "vit_large_patch14_dinov2.lvd142m"


class Timm(NetworkExtractor):
    """Features that a timm model passes to its classifier (``num_classes=0``)

    Weights: ``--weights``, or ``MODEL.TAG.safetensors`` in ``$GRASP_BENCH_WEIGHTS``, which is model.safetensors of
    timm's repository; the tag is the model's first in timm where none is named.
    Input size, interpolation, mean and std are the model's own in timm; the whole image is resized, without a crop.
    """

    version = "1"
    argument = "model"

    @classmethod
    def from_weights(cls, weights: Path | None, argument: str = "") -> Self:
        return cls(*_load(f"timm:{argument}", cls.version, argument, weights))


class DinoV2(NetworkExtractor):
    """The 1,024 values of DINOv2 ViT-L/14's class token at 224×224, from timm's weights

    Weights: ``--weights``, or ``vit_large_patch14_dinov2.lvd142m.safetensors`` in ``$GRASP_BENCH_WEIGHTS``. The
    position embeddings are resampled from 37×37 to 16×16 by timm (bicubic, antialiased).
    """

    version = "1"

    @classmethod
    def from_weights(cls, weights: Path | None, argument: str = "") -> Self:
        return cls(*_load("dinov2", cls.version, DINOV2, weights, img_size=224))


def _load(
    name: str, version: str, model_name: str, weights: Path | None, **options: int
) -> tuple[Any, dict[str, str], Preprocessing]:
    """Model, identity and preprocessing of a timm model with the weights of a file."""
    from timm.data import resolve_data_config

    from grasp_bench.io import file_digest

    model = _build(name, model_name, options)
    weights = weights or _find(name, model_name, model)
    _fill(model, weights, name)
    config = resolve_data_config(options, model=model)
    channels, height, width = config["input_size"]
    if channels != 3:
        raise UserError(f"{name}: takes {channels} channels, expected a model for RGB.")
    preprocessing = Preprocessing((height, width), config["interpolation"], config["mean"], config["std"])
    identity = {
        "extractor": name,
        "version": version,
        "model": model_name,
        "weights": file_digest(weights),
        "features": "what timm gives to the classifier",
    }
    return model.eval(), identity, preprocessing


def _find(name: str, model_name: str, model: Any) -> Path:
    """The file in the folder of weights. Raises :class:`UserError` that says how to get it."""
    base, _, tag = model_name.partition(".")
    tag = tag or model.pretrained_cfg.get("tag") or "no-tag"
    path = timm_file(base, tag)
    if path.is_file():
        return path
    repository = model.pretrained_cfg.get("hf_hub_id") or f"timm/{base}.{tag}"
    raise UserError(
        f"{name}: its weights are missing. Expected {path.name} in {path.parent} (${VARIABLE}), or anywhere with "
        f"--weights: it is model.safetensors of {repository} on the Hugging Face Hub. To fetch it: "
        f"{how_to_fetch(base, tag, repository)}"
    )


def _build(name: str, model_name: str, options: dict[str, int]) -> Any:
    import timm

    base = model_name.split(".")[0]
    if not timm.is_model(base):
        raise UserError(f"timm has no model {model_name!r}.{did_you_mean(base, timm.list_models())}")
    try:
        return drawn_apart(lambda: timm.create_model(model_name, pretrained=False, num_classes=0, **options))
    except RuntimeError as error:  # a tag that the model does not have
        tags = timm.list_pretrained(f"{base}.*")
        raise UserError(f"{name}: {error} There are: {', '.join(tags) or base}.") from error


def _fill(model: Any, path: Path, name: str) -> None:
    state = read_safetensors(path)
    classifier = model.pretrained_cfg.get("classifier") or ()
    for part in (classifier,) if isinstance(classifier, str) else classifier:
        for kind in ("weight", "bias"):
            state.pop(f"{part}.{kind}", None)
    # timm renames and resamples older or larger checkpoints in a function of this name beside each model
    adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if adapt is not None:
        try:
            state = adapt(state, model)
        except (KeyError, RuntimeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: are not the weights of {name} ({error}).") from error
    fill(model, state, path, name)

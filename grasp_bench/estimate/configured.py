"""Backbones at their true size from their configurations alone: no weight is read, and none is needed.

Configurations of the published pipelines that have an alias ship with the package, one JSON file for each repository,
with the numbers of its own ``config.json`` files; ``text_encoders`` are numbers of parameters. A folder of a user's own
is read where it lies.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from grasp_bench import plugins
from grasp_bench.backbones.aliases import resolve
from grasp_bench.backbones.files import PIPELINE, SavedPipeline
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.backbone import Backbone, Description, PromptEmbeddings
from grasp_bench.errors import UserError
from grasp_bench.estimate.errors import NotEstimatedError
from grasp_bench.home import with_home

SHIPPED = files("grasp_bench") / "estimate" / "configs"
LAYERS, SINGLE, DUAL = "num_layers", "num_single_layers", "dual_attention_layers"
"""What configurations call blocks, FLUX's single ones, and those of SD3.5-medium with a second attention."""
Depths = Mapping[str, int]
"""Kind of block, by its name in the configuration → how many there are."""
PARTS = ("transformer", "vae", "scheduler")


class Configuration(SavedPipeline):
    """A pipeline of which configurations are known and nothing else."""

    def __init__(self, source: str, content: dict[str, Any]) -> None:
        super().__init__(Path(source), tuple(content["parts"]))
        object.__setattr__(self, "content", content)  # the base is frozen

    content: dict[str, Any]

    @property
    def index(self) -> dict[str, Any]:
        return {"_class_name": self.content["pipeline"], "scheduler": [None, self.content["scheduler"]["_class_name"]]}

    def stated(self, part: str, name: str) -> Any:
        if name not in self.content[part]:
            raise NotEstimatedError(
                f"{self.folder}: the configuration of {part} has no {name!r}, which an estimate needs."
            )
        return self.content[part][name]

    def config(self, part: str) -> dict[str, Any]:
        return dict(self.content[part])

    def scheduler_config(self) -> dict[str, Any]:
        return dict(self.content["scheduler"])

    def revision(self) -> str:
        return "configuration"

    def part_revision(self, parts: Any) -> str:
        return "configuration"


def configured(name: str, resolution: int | None = None, depths: Depths | None = None) -> Backbone:
    """Return a backbone without its weights, for images of ``resolution`` pixels a side, or of its own size.

    With ``depths`` it has as many blocks of each kind.

    Inside a simulated GPU its parts take no memory. A backbone that ships its weights is loaded. Raises
    :class:`UserError` for a name or a source that is unknown, and for a resolution that the backbone does not have.
    """
    family, source = resolve(name)
    kind = plugins.load("backbones", family)
    if not issubclass(kind, SavedBackbone):
        return _loaded(kind, name, source, resolution)
    content = read_configuration(kind, source)
    if depths:
        content = content | {"transformer": _with_depths(content["transformer"], depths)}
    of_configuration = type(kind.__name__, (_WithoutWeights, kind), {"family": family})
    return cast(Backbone, of_configuration(Configuration(source, content), resolution))


def describe(kind: type[Backbone], source: str, resolution: int | None) -> Description:
    """Return what a backbone's configuration says of it; see :meth:`Backbone.describe`."""
    if not issubclass(kind, SavedBackbone):
        return kind.describe(source, resolution)
    return kind._described(Configuration(source, read_configuration(kind, source)), resolution)


def depths(name: str) -> Depths:
    """Return how many blocks of each kind a backbone has; none where its configuration does not say."""
    family, source = resolve(name)
    kind = plugins.load("backbones", family)
    if not issubclass(kind, SavedBackbone):
        return {}
    transformer = read_configuration(kind, source)["transformer"]
    layers = transformer["num_layers"]
    if transformer.get(DUAL):
        return {DUAL: len(transformer[DUAL]), LAYERS: layers - len(transformer[DUAL])}
    return {name: transformer[name] for name in (LAYERS, SINGLE) if name in transformer}


def _with_depths(transformer: dict[str, Any], depths: Depths) -> dict[str, Any]:
    if DUAL not in depths:
        return {**transformer, **depths}
    return transformer | {LAYERS: sum(depths.values()), DUAL: list(range(depths[DUAL]))}


def read_configuration(kind: type[SavedBackbone], source: str) -> dict[str, Any]:
    """Return part → its configuration, of a published repository or of a folder.

    Raises :class:`NotEstimatedError` where there is none.
    """
    shipped = SHIPPED / f"{source.replace('/', '--')}.json"
    if shipped.is_file():
        content: dict[str, Any] = json.loads(shipped.read_text())
        return content | {"parts": list(PARTS)}
    folder = _folder(kind, source)
    paths = [folder / PIPELINE, folder / "scheduler" / "scheduler_config.json"]
    paths += [folder / part / "config.json" for part in PARTS[:2]]
    if absent := [str(path.relative_to(folder)) for path in paths if not path.is_file()]:
        known = ", ".join(sorted(each.name.removesuffix(".json").replace("--", "/") for each in SHIPPED.iterdir()))
        raise NotEstimatedError(
            f"{source or kind.example}: its configuration is not known ({', '.join(absent)} not found). An estimate "
            f"needs no weights; name a folder with the pipeline's JSON files, or one of {known}."
        )
    index, scheduler, transformer, vae = (json.loads(path.read_text()) for path in paths)
    encoders = [part for part in index if part.startswith("text_encoder") and index[part][0]]
    sizes = {part: sum(each.stat().st_size for each in (folder / part).glob("*.safetensors")) for part in encoders}
    return {
        "pipeline": index["_class_name"],
        "transformer": transformer,
        "vae": vae,
        "scheduler": scheduler | {"_class_name": index["scheduler"][1]},
        "text_encoders": {part: size // 4 for part, size in sizes.items()},  # float32, as save_pretrained writes it
        "parts": list(PARTS),
    }


def _folder(kind: type[SavedBackbone], source: str) -> Path:
    """Return a folder, or where the hub's cache has a repository, or the folder that is not there."""
    folder = with_home(Path(source))
    if not source or folder.is_dir():
        return folder
    try:
        return kind._find(source).folder
    except UserError:
        return folder


class _WithoutWeights(SavedBackbone):
    """A backbone whose models are made from their configurations, and whose prompts are embedded as zeros."""

    family: str

    def _load(self, part: str) -> Any:
        library, _, kind = self.components[part].partition(".")
        saved = cast(Configuration, self.saved)
        model = getattr(importlib.import_module(library), kind).from_config(saved.content[part])
        return model.float().requires_grad_(False).eval()

    def encode_prompts(self, prompts: list[str]) -> PromptEmbeddings:
        """Return embeddings of the shapes that the family's text encoders give, one row per prompt."""
        blank = self.blank_prompts(len(prompts))
        if blank is None:
            raise NotEstimatedError(f"backbone {self.family}: an estimate does not know how long its prompts are.")
        return blank


def _loaded(kind: type[Backbone], name: str, source: str, resolution: int | None) -> Backbone:
    """Return a backbone that is not a saved pipeline, with its weights, on the host; its size is its own."""
    from grasp_bench.estimate.simulate import adopt
    from grasp_bench.estimate.values import real

    with real():
        backbone, size = kind.load(source), kind.describe(source).image_shape[-1]
    if resolution not in (None, size):
        raise UserError(f"--resolution {resolution}: backbone {name} makes images of {size} pixels and no others.")
    adopt(backbone.transformer)
    return backbone

"""An exported folder as an entry of the open division: it generates the images of every class, which are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from pydantic import JsonValue

from grasp_bench import plugins
from grasp_bench.contracts.entry import Entry, Facts, Found, Request
from grasp_bench.errors import UserError
from grasp_bench.export.manifest import MANIFEST, Manifest, read_manifest
from grasp_bench.home import with_home
from grasp_bench.run.entry.generated import generate

if TYPE_CHECKING:
    import numpy as np

    from grasp_bench.contracts.backbone import PromptEmbeddings
    from grasp_bench.export.pipeline import FineTunedPipeline
    from grasp_bench.sampling import Sampler


PROMPTS = "prompts"
"""Folder of embeddings, in that of the images while these are generated."""


@dataclass(frozen=True)
class GivenExport:
    """A folder that ``grasp-bench export`` wrote, and how it is sampled.

    Image number i of a class begins with the noise that it has in a run of the same seed, and prompts are encoded in
    the run's order, each once. So weights that were exported as they are generate the images that were scored, on the
    same device, by as many threads and in batches of the same size, and others differ by their weights alone. Only
    where text encoders read prompts of single training images, which an export does not have, may last bits differ.
    """

    folder: Path
    backbone: str | None = None
    """The pretrained weights where they are files of the user's, such as ``sd3:FOLDER``."""
    guidance_scale: float | None = None
    """Scale of the run's guidance; None for the run's own."""
    steps: int | None = None
    """Sampling steps; None for the run's own number."""

    @cached_property
    def manifest(self) -> Manifest:
        """The folder's manifest. Raises :class:`UserError` where weights are not those that it names."""
        return read_manifest(self.folder)

    @property
    def settings(self) -> dict[str, JsonValue]:
        """Whatever decides the images: the run, the hash of its weights, and how they are sampled."""
        manifest = self.manifest
        given: dict[str, JsonValue] = {
            "quantized": manifest.quantized,
            "guidance_scale": self.guidance_scale,
            "steps": self.steps,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return {"export": manifest.weights, "run": manifest.run_id, **own}

    def make(self, request: Request, folder: Path) -> Found:
        """Leave images of every class in ``folder``. Raises :class:`UserError` for a class that the export lacks."""
        from grasp_bench.export.pipeline import load

        known = {info.name: index for index, info in enumerate(self.manifest.classes)}
        classes = request.task.classes()
        if missing := [info.name for info in classes if info.name not in known]:
            raise UserError(
                f"{self.folder}: was fine-tuned on {self.manifest.spec.task.name}, which has no class {missing[0]!r}: "
                f"{len(missing)} of the {len(classes)} classes of {request.spec.task.name} are not there. Evaluate it "
                "on a task of its own classes."
            )
        pipeline = load(self.folder, self.backbone, "cpu")
        chosen = {} if self.guidance_scale is None else {"guidance_scale": self.guidance_scale}
        subjects = [(prompt, known[classes[index].name]) for prompt, index in request.sampled()[0]]
        embed = _encoded(pipeline, {prompt for prompt, _ in subjects}, request, folder)
        sampler = pipeline.to(request.device).sampler(None, chosen, embed)
        steps = self.steps or sampler.guidance.steps(self.manifest.spec.budget)
        found = generate(request, folder, partial(_images, pipeline, sampler, steps, request, subjects))
        if request.processes.is_first:
            rmtree(folder / PROMPTS, ignore_errors=True)
        return found


def is_export(source: str) -> bool:
    """Return whether ``source`` is a folder that ``grasp-bench export`` wrote, rather than diffusers."""
    return (with_home(Path(source)) / MANIFEST).is_file()


def entry_of_export(
    name: str,
    folder: Path,
    backbone: str | None,
    guidance_scale: float | None,
    steps: int | None,
    facts: Facts,
) -> Entry:
    """Return the entry of an exported folder.

    ``backbone`` is that of the table, whose weights are taken where they are the user's and of the export's family.
    Raises :class:`UserError` for a damaged folder.
    """
    family = GivenExport(folder).manifest.spec.backbone.name
    own = backbone if backbone and backbone.startswith(f"{family}:") else None
    given = GivenExport(folder, own, guidance_scale, steps)
    return Entry(name, given.settings, facts, given.make, threads=plugins.load("backbones", family).threads)


def _encoded(
    pipeline: FineTunedPipeline, prompts: set[str], request: Request, folder: Path
) -> Callable[[Sequence[str]], PromptEmbeddings]:
    """Return the embeddings of ``prompts``, encoded as a run's stage does: with its classes' prompts, in that order."""
    from grasp_bench.run.encoded import KnownPrompts, StoredPrompts, encode_prompts

    backbone = pipeline.backbone.encode_on(request.device)
    ordered = sorted({"", *prompts, *(info.prompt for info in pipeline.manifest.classes)})
    if not pipeline.encodes_text:
        return KnownPrompts(ordered, backbone)
    kept = folder / PROMPTS
    kept.mkdir(exist_ok=True)
    encode_prompts(ordered, backbone, kept, request.processes, request.progress)
    request.processes.wait()
    backbone.release_encoders()
    return StoredPrompts(kept)


def _images(
    pipeline: FineTunedPipeline,
    sampler: Sampler,
    steps: int,
    request: Request,
    subjects: list[tuple[str, int]],
    numbers: list[int],
) -> list[np.ndarray]:
    """Return the images of those ``numbers``, uint8 (C, H, W) each."""
    from grasp_bench.sampling import noise_stream

    spec = request.spec
    places = [divmod(number, spec.budget.images_per_class) for number in numbers]
    streams = [noise_stream(spec.task.name, spec.seed, *place) for place in places]
    made = pipeline.images(sampler, [subjects[number] for number in numbers], streams, steps)
    return [image.numpy() for image in made]

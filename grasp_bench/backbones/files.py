"""A saved diffusers pipeline: found in a folder or in the hub's local cache, checked to be whole, and identified.

Nothing here reaches for the network, imports torch or loads a weight: what is missing is said before any compute.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grasp_bench.errors import UserError
from grasp_bench.home import with_home
from grasp_bench.io import check_file, file_digest, read_object
from grasp_bench.weights import refuse_pickled_adapters, shards

PIPELINE = "model_index.json"
WEIGHTS = dict.fromkeys(("transformer", "vae"), "diffusion_pytorch_model.safetensors")
ENCODER_WEIGHTS = "model.safetensors"  # as transformers names them, where the others are diffusers'
TOKENIZERS = (["tokenizer.json"], ["vocab.json", "merges.txt"], ["spiece.model"])  # any of these suffices
FORMER_CLASS = "Transformer2DModel"
FORMER_NAMES = {"ada_norm_zero": "DiTTransformer2DModel", "ada_norm_single": "PixArtTransformer2DModel"}
"""What diffusers loads a :data:`FORMER_CLASS` as, by its ``norm_type``: older pipelines were saved under that name."""
EDGE = 2**20  # bytes at either end of a file's weights that enter the revision


@contextmanager
def loading(folder: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises inside the block for files of another form into a :class:`UserError`."""
    try:
        yield
    except Exception as error:  # diffusers and transformers raise nearly anything
        raise UserError(f"{folder}: cannot be loaded as a {kind} ({error}). Fetch it again.") from error


def check_scaling(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise :class:`UserError` where an autoencoder's configuration scales or shifts latents by what is no number."""
    for name, expected in (("scaling_factor", "a number above 0"), ("shift_factor", "a number or null")):
        value = config.get(name, 1)
        if name == "shift_factor" and value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or (name == "scaling_factor" and value <= 0):
            raise UserError(f"{folder / 'config.json'}: {name} is {value!r}, expected {expected}. Fetch it again.")


class MissingFilesError(UserError):
    """Files of a pipeline are not where they were looked for."""


@dataclass(frozen=True)
class SavedPipeline:
    """A folder as ``save_pretrained`` writes it, of which every needed file is there."""

    folder: Path
    parts: tuple[str, ...]
    """Names of its models, tokenizers and scheduler, and of their folders; null parts are left out."""

    @property
    def index(self) -> dict[str, Any]:
        """Its ``model_index.json``: the parts' classes, and what the pipeline itself is set to."""
        return read_object(self.folder / PIPELINE)

    def setting(self, part: str, name: str) -> int:
        """A number of a model's configuration, above 0. Raises :class:`UserError` where it has none of that name."""
        value = self.stated(part, name)
        if type(value) is not int or value < 1:
            raise self._odd(part, name, value, "a whole number above 0")
        return value

    def length(self, part: str, name: str) -> int:
        """How long a list of a model's configuration is. Raises :class:`UserError` where it has none of that name."""
        value = self.stated(part, name)
        if not isinstance(value, list) or not value:
            raise self._odd(part, name, value, "a list")
        return len(value)

    def stated(self, part: str, name: str) -> Any:
        """Whatever a model's configuration says of that name. Raises :class:`UserError` where it says nothing."""
        config = self.config(part)
        if name not in config:
            raise UserError(f"{self._config(part)}: has no {name!r}, which `save_pretrained` writes. Fetch it again.")
        return config[name]

    def config(self, part: str) -> dict[str, Any]:
        """A model's whole configuration."""
        return read_object(self._config(part))

    def _config(self, part: str) -> Path:
        return self.folder / part / "config.json"

    def _odd(self, part: str, name: str, value: Any, expected: str) -> UserError:
        return UserError(f"{self._config(part)}: {name} is {value!r}, expected {expected}. Fetch it again.")

    def scheduler_config(self) -> dict[str, Any]:
        """The saved scheduler's settings."""
        return read_object(self.folder / "scheduler" / "scheduler_config.json")

    def variant(self, part: str) -> str | None:
        """What ``from_pretrained(variant=...)`` asks for a model's weights: "fp16", or None of the plain ones."""
        return weights_of(self.folder, part, _names(self.folder / part))[0]

    def revision(self) -> str:
        """12 hex digits of a sha256 over the configurations, the tokenizers and the edges of the weights.

        Of each safetensors file, of which there may be tens of gigabytes, name, size, header and the first and the last
        MiB of data enter. The folder's own place does not.
        """
        return self._digest([self.folder / PIPELINE, *self._files(self.parts)])

    def part_revision(self, parts: Sequence[str]) -> str:
        """Like :meth:`revision`, over some of :attr:`parts` in any order: for what is made with them alone."""
        return self._digest(self._files(parts))

    def _digest(self, paths: Iterable[Path]) -> str:
        digest = hashlib.sha256()
        for path in sorted(paths):
            content = weights_digest(path) if path.suffix == ".safetensors" else file_digest(path)
            digest.update(f"{path.relative_to(self.folder).as_posix()}\n{content}\n".encode())
        return digest.hexdigest()[:12]

    def _files(self, parts: Sequence[str]) -> list[Path]:
        """Whatever decides what is loaded of some parts."""
        names = [(part, name) for part in parts for name in files_of(self.folder, part, _names(self.folder / part))]
        return [self.folder / part / name for part, name in names]


def find_pipeline(
    source: str, transformer: str, required: Sequence[str], optional: Sequence[str] = ()
) -> SavedPipeline:
    """The pipeline in the folder ``source``, or of the repository ``source`` in the hub's local cache.

    ``transformer`` is the class that its transformer must have. ``required`` and ``optional`` are the parts that its
    family reads, beside the scheduler. Raises :class:`MissingFilesError`, with all that is missing, where it is not
    there or not whole, and :class:`UserError` where it is of another family or holds a pickled adapter.
    """
    folder = find_folder(source)
    parts = check_family(folder, transformer, required, optional)
    present = {part: _names(folder / part) for part in parts}
    if missing := [
        f"{part}/{name}"
        for part, names in present.items()
        for name in files_of(folder, part, names)
        if name not in names
    ]:
        pickled = sorted(f"{part}/{path.name}" for part in parts for path in (folder / part).glob("*.bin"))
        raise MissingFilesError(_missing(source, missing, str(folder), pickled))
    for part in parts:
        refuse_pickled_adapters(folder / part)
    return SavedPipeline(folder, parts)


def check_family(
    folder: Path, transformer: str, required: Sequence[str], optional: Sequence[str] = ()
) -> tuple[str, ...]:
    """The parts to read of a pipeline: the required and the scheduler, and the optional that it names.

    A tokenizer is optional together with its text encoder. Raises :class:`UserError` for another transformer than
    ``transformer``, and where a part is not named.
    """
    index = folder / PIPELINE
    classes = _classes(index)
    found = classes.get("transformer")
    if found == FORMER_CLASS and transformer in FORMER_NAMES.values():
        config = folder / "transformer" / "config.json"
        # where config.json is missing, that is said later, with all else that is
        found = (
            FORMER_NAMES.get(str(read_object(config).get("norm_type", "")), found) if config.is_file() else transformer
        )
    if found != transformer:
        raise UserError(
            f"{index}: its transformer is of the class {found}, expected {transformer}. "
            "Choose the backbone of that family, or another pipeline."
        )
    used = [part for part in optional if part.replace("tokenizer", "text_encoder") in classes]
    parts = ("scheduler", *required, *used)
    if absent := [part for part in parts if part not in classes]:
        raise UserError(f"{index}: names no {', '.join(absent)}. Fetch or save the pipeline whole.")
    return parts


def files_of(folder: Path, part: str, names: Collection[str]) -> list[str]:
    """Files that a part is loaded from, in safetensors only, if its folder holds the files ``names``.

    Those it cannot do without are among them even where they are not among ``names``. Indices of weights in several
    files are read from ``folder``.
    """
    if part == "scheduler":
        return ["scheduler_config.json"]
    if part.startswith("tokenizer"):
        whole = (kind for kind in TOKENIZERS if set(kind) <= set(names))
        return sorted({*names, *next(whole, TOKENIZERS[0])})
    return ["config.json", *weights_of(folder, part, names)[1]]


def weights_of(folder: Path, part: str, names: Collection[str]) -> tuple[str | None, list[str]]:
    """Variant and files of a model's weights, if its folder holds the files ``names``.

    The plain ones, which have no variant, come before others, one file before several, and what is whole before what
    is not.
    """
    plain = WEIGHTS.get(part, ENCODER_WEIGHTS)
    stem = re.escape(plain.removesuffix(".safetensors"))
    pattern = re.compile(rf"{stem}(?:\.(\w+))?\.safetensors|{stem}\.safetensors\.index(?:\.(\w+))?\.json")
    matches = [match for match in map(pattern.fullmatch, sorted(names, key=lambda name: (len(name), name))) if match]
    stored = [(match[1] or match[2], _with_shards(folder / part, match[0])) for match in matches]
    stored.sort(key=lambda each: (not set(each[1]) <= set(names), each[0] or ""))
    return stored[0] if stored else (None, [plain])


def _with_shards(folder: Path, name: str) -> list[str]:
    """A file of weights, or an index and the files it names."""
    if name.endswith(".safetensors"):
        return [name]
    return [name, *shards(folder / name)]


def _names(folder: Path) -> set[str]:
    """Files in a part's folder."""
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


def _classes(index: Path) -> dict[str, str]:
    """Part → its class, of those that are not null."""
    named = {part: value for part, value in read_object(index).items() if isinstance(value, list) and len(value) == 2}
    return {part: name for part, (_, name) in named.items() if name is not None}


def find_folder(source: str) -> Path:
    """Where ``source`` is. A folder comes before a repository of the same name."""
    folder = with_home(Path(source))
    if folder.is_dir():
        if (folder / PIPELINE).is_file():
            return folder
        raise MissingFilesError(_missing(source, [PIPELINE], str(folder)))
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    cache = Path(constants.HF_HUB_CACHE)
    try:
        found = try_to_load_from_cache(source, PIPELINE, cache_dir=cache)
    except HFValidationError as error:
        raise UserError(f"{source}: there is no such folder, and a repository is written OWNER/NAME.") from error
    if isinstance(found, str):
        return Path(found).parent
    searched = f"the folder {folder.absolute()} and the hub's cache {cache}"
    raise MissingFilesError(_missing(source, [PIPELINE], searched))


def _missing(source: str, names: list[str], searched: str, pickled: Sequence[str] = ()) -> str:
    """What is missing, where it was looked for, and how to get it."""
    refused = f" {', '.join(pickled)}: a pickle can run any code and is not read." if pickled else ""
    is_folder = with_home(Path(source)).is_dir()
    repository = "OWNER/NAME" if is_folder else source
    command = f"hf download {repository}"
    fetch = f"{command} --local-dir {source}" if is_folder else f"the same with --allow-download, or {command}"
    return (
        f"{source}: {', '.join(names)} not found; searched {searched}.{refused} To fetch what is missing: {fetch} "
        f"(of a gated model, first accept the licence on https://huggingface.co/{repository} and log in with "
        "`hf auth login`)."
    )


def weights_digest(path: Path) -> str:
    """sha256 (hex) over size, header and edges of a safetensors file. Raises :class:`UserError` where it is cut short.

    The format: the header's length as an unsigned 64-bit little-endian number, the header in JSON, and the data.
    """
    size = path.stat().st_size
    with check_file(path).open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = file.read(start - 8) if start <= size else b""
        try:
            tensors = json.loads(header)
            stop = start + max(entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}: is no .safetensors file, of {size} bytes. Fetch it again.") from error
        if stop != size:
            raise UserError(f"{path}: has {size} bytes where its header says {stop}. Fetch it again.")
        digest = hashlib.sha256(size.to_bytes(8, "little") + header + file.read(EDGE))
        file.seek(max(start, size - EDGE))
        digest.update(file.read())
    return digest.hexdigest()

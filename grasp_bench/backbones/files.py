"""A saved diffusers pipeline: found in a folder or in the hub's local cache, checked to be whole, and identified.

Nothing here reaches for the network, imports torch or loads a weight: what is missing is said before any compute.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grasp_bench.errors import UserError

PIPELINE = "model_index.json"
WEIGHTS = {"diffusers": "diffusion_pytorch_model.safetensors", "transformers": "model.safetensors"}
TOKENIZERS = (["tokenizer.json"], ["vocab.json", "merges.txt"], ["spiece.model"])  # any of these suffices
EDGE = 2**20  # bytes at either end of a file's weights that enter the revision


@dataclass(frozen=True)
class SavedPipeline:
    """A folder as ``save_pretrained`` writes it, of which every needed file is there."""

    source: str
    """What the user wrote: a folder or a repository of the hub."""
    folder: Path
    parts: dict[str, str]
    """Part, which is the name of its folder, to the library that its class comes from; null parts are left out."""

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a model."""
        return _json(self.folder / part / "config.json")

    def revision(self) -> str:
        """12 hex digits of a sha256 over the configurations, the tokenizers and the edges of the weights.

        Of each safetensors file, of which there may be tens of gigabytes, name, size, header and the first and the last
        MiB of data enter. The folder's own place does not.
        """
        digest = hashlib.sha256()
        for path in sorted(self._files()):
            content = _weights_digest(path) if path.suffix == ".safetensors" else hashlib.sha256(path.read_bytes())
            digest.update(f"{path.relative_to(self.folder).as_posix()}\n{content.hexdigest()}\n".encode())
        return digest.hexdigest()[:12]

    def _files(self) -> Iterator[Path]:
        """Whatever decides what is loaded."""
        yield self.folder / PIPELINE
        for part, library in self.parts.items():
            if part.startswith("tokenizer"):
                yield from (path for path in (self.folder / part).iterdir() if path.is_file())
            else:
                yield from (self.folder / name for name in _expected(self.folder, part, library))


def find_pipeline(
    source: str, transformer: str, needed: Collection[str], optional: Collection[str] = ()
) -> SavedPipeline:
    """The pipeline in the folder ``source``, or of the repository ``source`` in the hub's local cache.

    ``transformer`` is the class that its transformer must have, ``needed`` and ``optional`` the parts that are used.
    Raises :class:`UserError`, with all that is missing, where it is not there, not whole, or of another family.
    """
    folder = _folder(source)
    index = _json(folder / PIPELINE)
    classes = {part: index.get(part) or [None, None] for part in (*needed, *optional)}
    if classes["transformer"][1] != transformer:
        raise UserError(
            f"{folder / PIPELINE}: its transformer is of the class {classes['transformer'][1]}, expected {transformer}. "
            "Choose the backbone of that family."
        )
    if absent := [part for part in needed if classes[part][0] is None]:
        raise UserError(f"{folder / PIPELINE}: names no {', '.join(absent)}. Fetch or save the pipeline whole.")
    parts = {part: library for part, (library, _) in classes.items() if library is not None}
    missing = [
        name
        for part, library in parts.items()
        for name in _expected(folder, part, library)
        if not (folder / name).is_file()
    ]
    if missing:
        raise UserError(_missing(source, missing, folder, parts))
    return SavedPipeline(source, folder, parts)


def _folder(source: str) -> Path:
    """Where ``source`` is. A folder comes before a repository of the same name."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        if (folder / PIPELINE).is_file():
            return folder
        raise UserError(_missing(source, [PIPELINE], folder, {}))
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    cache = Path(constants.HF_HUB_CACHE)
    try:
        found = try_to_load_from_cache(source, PIPELINE, cache_dir=cache)
    except HFValidationError as error:
        raise UserError(f"{source}: there is no such folder, and a repository is written OWNER/NAME.") from error
    if isinstance(found, str):
        return Path(found).parent
    raise UserError(_missing(source, [PIPELINE], f"the folder {folder.absolute()} and the hub's cache {cache}", {}))


def _expected(folder: Path, part: str, library: str) -> list[str]:
    """Files that a part is loaded from, in safetensors only, as paths relative to ``folder``."""
    if part == "scheduler":
        names = ["scheduler_config.json"]
    elif part.startswith("tokenizer"):
        whole = (names for names in TOKENIZERS if all((folder / part / name).is_file() for name in names))
        names = next(whole, TOKENIZERS[0])
    else:
        weights, index = WEIGHTS[library], f"{WEIGHTS[library]}.index.json"
        names = ["config.json", weights]
        if not (folder / part / weights).is_file() and (folder / part / index).is_file():
            shards = _json(folder / part / index).get("weight_map", {}).values()
            names = ["config.json", index, *sorted(set(shards))]
    return [f"{part}/{name}" for name in names]


def _missing(source: str, names: list[str], searched: Path | str, parts: dict[str, str]) -> str:
    """What is missing, where it was looked for, and how to get it."""
    pickled = []
    if isinstance(searched, Path):
        pickled = sorted(f"{part}/{path.name}" for part in parts for path in (searched / part).glob("*.bin"))
    refused = f" {', '.join(pickled)}: a pickle can run any code and is not read." if pickled else ""
    folder = Path(source).expanduser().is_dir()
    repository, into = ("OWNER/NAME", f" --local-dir {source}") if folder else (source, "")
    return (
        f"{source}: {', '.join(names)} not found; searched {searched}.{refused} To fetch it: "
        f"hf download {repository}{into} (a gated model: first accept its licence on "
        f"https://huggingface.co/{repository} and log in with `hf auth login`)."
    )


def _weights_digest(path: Path) -> hashlib._Hash:
    """sha256 over size, header and edges of a safetensors file. Raises :class:`UserError` for one that is not whole.

    The format: the header's length as an unsigned 64-bit little-endian number, the header in JSON, and the data.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = file.read(start - 8) if start <= size else b""
        try:
            tensors = json.loads(header)
            stop = start + max(entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path}: is no .safetensors file, of {size} bytes. Fetch it again.") from error
        if stop != size:
            raise UserError(f"{path}: has {size} bytes where its header says {stop}. Fetch it again.")
        digest = hashlib.sha256(size.to_bytes(8, "little") + header + file.read(EDGE))
        file.seek(max(start, size - EDGE))
        digest.update(file.read())
    return digest


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}). Fetch it again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object. Fetch it again.")
    return value

"""A saved diffusers pipeline: found in a folder or in the hub's local cache, checked to be whole, and identified.

Nothing here reaches for the network, imports torch or loads a weight: what is missing is said before any compute.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grasp_bench.errors import UserError
from grasp_bench.io import file_digest

PIPELINE = "model_index.json"
WEIGHTS = dict.fromkeys(("transformer", "vae"), "diffusion_pytorch_model.safetensors")
ENCODER_WEIGHTS = "model.safetensors"  # as transformers names them, where the others are diffusers'
TOKENIZERS = (["tokenizer.json"], ["vocab.json", "merges.txt"], ["spiece.model"])  # any of these suffices
EDGE = 2**20  # bytes at either end of a file's weights that enter the revision


@dataclass(frozen=True)
class SavedPipeline:
    """A folder as ``save_pretrained`` writes it, of which every needed file is there."""

    folder: Path
    parts: tuple[str, ...]
    """Names of its models, tokenizers and scheduler, and of their folders; null parts are left out."""

    def setting(self, part: str, name: str) -> Any:
        """A value of a model's configuration. Raises :class:`UserError` where it has none of that name."""
        path = self.folder / part / "config.json"
        config = _json(path)
        if name not in config:
            raise UserError(f"{path}: has no {name!r}, which `save_pretrained` writes. Fetch it again.")
        return config[name]

    def revision(self) -> str:
        """12 hex digits of a sha256 over the configurations, the tokenizers and the edges of the weights.

        Of each safetensors file, of which there may be tens of gigabytes, name, size, header and the first and the last
        MiB of data enter. The folder's own place does not.
        """
        digest = hashlib.sha256()
        for path in sorted(self._files()):
            content = _weights_digest(path) if path.suffix == ".safetensors" else file_digest(path)
            digest.update(f"{path.relative_to(self.folder).as_posix()}\n{content}\n".encode())
        return digest.hexdigest()[:12]

    def _files(self) -> Iterator[Path]:
        """Whatever decides what is loaded."""
        yield self.folder / PIPELINE
        for part in self.parts:
            if part.startswith("tokenizer"):
                yield from (path for path in (self.folder / part).iterdir() if path.is_file())
            else:
                yield from (self.folder / name for name in _expected(self.folder, part))


def find_pipeline(
    source: str, transformer: str, encoders: Sequence[str], optional_encoders: Sequence[str] = ()
) -> SavedPipeline:
    """The pipeline in the folder ``source``, or of the repository ``source`` in the hub's local cache.

    ``transformer`` is the class that its transformer must have; ``encoders`` are its text encoders, each of which needs
    its tokenizer. Raises :class:`UserError`, with all that is missing, where it is not there, not whole, or of another
    family.
    """
    folder = _folder(source)
    index = folder / PIPELINE
    classes = _classes(index)
    if classes.get("transformer") != transformer:
        raise UserError(
            f"{index}: its transformer is of the class {classes.get('transformer')}, expected {transformer}. "
            "Choose the backbone of that family, or another pipeline."
        )
    used = [*encoders, *(part for part in optional_encoders if part in classes)]
    tokenizers = [part.replace("text_encoder", "tokenizer") for part in used]
    parts = ("transformer", "vae", "scheduler", *used, *tokenizers)
    if absent := [part for part in parts if part not in classes]:
        raise UserError(f"{index}: names no {', '.join(absent)}. Fetch or save the pipeline whole.")
    expected = [name for part in parts for name in _expected(folder, part)]
    if missing := [name for name in expected if not (folder / name).is_file()]:
        pickled = sorted(f"{part}/{path.name}" for part in parts for path in (folder / part).glob("*.bin"))
        raise UserError(_missing(source, missing, str(folder), pickled))
    return SavedPipeline(folder, parts)


def _classes(index: Path) -> dict[str, str]:
    """Part → its class, of those that are not null."""
    named = {part: value for part, value in _json(index).items() if isinstance(value, list) and len(value) == 2}
    return {part: name for part, (_, name) in named.items() if name is not None}


def _folder(source: str) -> Path:
    """Where ``source`` is. A folder comes before a repository of the same name."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        if (folder / PIPELINE).is_file():
            return folder
        raise UserError(_missing(source, [PIPELINE], str(folder)))
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    cache = Path(constants.HF_HUB_CACHE)
    try:
        found = try_to_load_from_cache(source, PIPELINE, cache_dir=cache)
    except HFValidationError as error:
        raise UserError(f"{source}: there is no such folder, and a repository is written OWNER/NAME.") from error
    if isinstance(found, str):
        return Path(found).parent
    raise UserError(_missing(source, [PIPELINE], f"the folder {folder.absolute()} and the hub's cache {cache}"))


def _expected(folder: Path, part: str) -> list[str]:
    """Files that a part is loaded from, in safetensors only, as paths relative to ``folder``."""
    if part == "scheduler":
        names = ["scheduler_config.json"]
    elif part.startswith("tokenizer"):
        whole = (names for names in TOKENIZERS if all((folder / part / name).is_file() for name in names))
        names = next(whole, TOKENIZERS[0])
    else:
        weights = WEIGHTS.get(part, ENCODER_WEIGHTS)
        index = f"{weights}.index.json"  # where the weights are in several files
        names = ["config.json", weights]
        if not (folder / part / weights).is_file() and (folder / part / index).is_file():
            shards = _json(folder / part / index).get("weight_map", {}).values()
            names = ["config.json", index, *sorted(set(shards))]
    return [f"{part}/{name}" for name in names]


def _missing(source: str, names: list[str], searched: str, pickled: Sequence[str] = ()) -> str:
    """What is missing, where it was looked for, and how to get it."""
    refused = f" {', '.join(pickled)}: a pickle can run any code and is not read." if pickled else ""
    is_folder = Path(source).expanduser().is_dir()
    repository, into = ("OWNER/NAME", f" --local-dir {source}") if is_folder else (source, "")
    return (
        f"{source}: {', '.join(names)} not found; searched {searched}.{refused} To fetch what is missing: "
        f"hf download {repository}{into} (of a gated model, first accept the licence on "
        f"https://huggingface.co/{repository} and log in with `hf auth login`)."
    )


def _weights_digest(path: Path) -> str:
    """sha256 (hex) over size, header and edges of a safetensors file. Raises :class:`UserError` where it is cut short.

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
    return digest.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}). Fetch it again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object. Fetch it again.")
    return value

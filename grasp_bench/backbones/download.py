"""Fetching a pipeline into the hub's local cache, for those who ask for it: what its family reads, and nothing else."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.backbones.files import PIPELINE, MissingFilesError, check_family, files_of, find_folder, find_pipeline
from grasp_bench.errors import UserError
from grasp_bench.home import with_home
from grasp_bench.places import free_bytes
from grasp_bench.text import counted

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling


def download_pipeline(
    source: str,
    transformer: str,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    say: Callable[[str], None],
) -> None:
    """Fetch what :func:`~grasp_bench.backbones.files.find_pipeline` misses of the repository ``source``.

    ``say`` is told beforehand how many files of how many bytes that is. Makes no request for a folder, nor where
    nothing is missing. Raises :class:`UserError` where the pipeline is of another family, its files are not to be had,
    or the disk is too small, and in offline mode.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from rich import filesize

    if with_home(Path(source)).is_dir():
        return
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"--allow-download: {source} is not fetched while HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set. Unset "
            "it, or leave out --allow-download."
        )
    with contextlib.suppress(MissingFilesError):
        find_pipeline(source, transformer, required, optional)
        return
    with _explained(source):
        siblings = HfApi().model_info(source, files_metadata=True).siblings or []
    listed = {file.rfilename: file for file in siblings}
    if PIPELINE not in listed:
        raise UserError(
            f"{source}: the repository has no {PIPELINE}, so it is no whole pipeline as `save_pretrained` writes "
            "it. Choose one that is."
        )
    small = ("config.json", "*.safetensors.index.json", "*.safetensors.index.*.json")
    with _explained(source):  # what says which of the large files are needed
        patterns = [PIPELINE, *(f"{part}/{name}" for part in (*required, *optional) for name in small)]
        folder = Path(snapshot_download(source, allow_patterns=patterns))
    parts = check_family(folder, transformer, required, optional)
    wanted = _wanted(folder, parts, listed)
    _check_published(source, wanted, listed)
    left = [listed[name] for name in wanted if not _is_cached(folder, listed[name])]
    size = sum(file.size or 0 for file in left)
    free = free_bytes(Path(constants.HF_HUB_CACHE))
    if size > free:
        raise UserError(
            f"{source}: what is missing takes {filesize.decimal(size)}, and the disk of {constants.HF_HUB_CACHE} has "
            f"{filesize.decimal(free)} left. Free some, or set HF_HOME to a folder on a larger disk."
        )
    say(f"fetching {counted(len(left), 'file')} of {source}, {filesize.decimal(size)}, into {constants.HF_HUB_CACHE}")
    with _explained(source):
        snapshot_download(source, allow_patterns=wanted)


WHOLE = (PIPELINE, "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors")
"""Patterns of the files that any pipeline is loaded from, none of which can run code."""


def whole_pipeline(source: str, say: Callable[[str], None] | None) -> Path:
    """Return the folder of a pipeline of any family: ``source`` itself, or the repository in the hub's cache.

    With ``say``, which is told how many bytes that is, a repository is fetched first as far as it is not here. Raises
    :class:`UserError` where it is not to be had.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from rich import filesize

    if say is None or with_home(Path(source)).is_dir():
        return find_folder(source)
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"--allow-download: {source} is not fetched while HF_HUB_OFFLINE is set. Unset it.")
    with _explained(source):
        siblings = HfApi().model_info(source, files_metadata=True).siblings or []
    kept = [file for file in siblings if any(fnmatch(file.rfilename, pattern) for pattern in WHOLE)]
    size, free = sum(file.size or 0 for file in kept), free_bytes(Path(constants.HF_HUB_CACHE))
    if size > free:
        raise UserError(f"{source}: takes {filesize.decimal(size)}, and {filesize.decimal(free)} are free.")
    say(f"fetching {source}, at most {filesize.decimal(size)}, into {constants.HF_HUB_CACHE}")
    with _explained(source):
        return Path(snapshot_download(source, allow_patterns=[*WHOLE]))


def _wanted(folder: Path, parts: Sequence[str], listed: Collection[str]) -> list[str]:
    """Paths of what a pipeline of these parts is loaded from."""
    wanted = [PIPELINE]
    for part in parts:
        names = [Path(name).name for name in listed if Path(name).parent == Path(part)]
        wanted += [f"{part}/{name}" for name in files_of(folder, part, names)]
    return wanted


def _check_published(repository: str, wanted: Sequence[str], listed: Collection[str]) -> None:
    if absent := [name for name in wanted if name not in listed]:
        folders = {name.partition("/")[0] for name in absent}
        pickled = sorted(name for name in listed if name.endswith(".bin") and name.partition("/")[0] in folders)
        refused = f" It has {', '.join(pickled)}: a pickle can run any code and is not read." if pickled else ""
        raise UserError(
            f"{repository}: the repository has no {', '.join(absent)}.{refused} Nothing large was fetched; choose "
            "another pipeline, or save this one as safetensors into a folder of your own."
        )


def _is_cached(folder: Path, file: RepoSibling) -> bool:
    """Whether a file is there already: in the snapshot ``folder``, or among what another snapshot left."""
    content = file.lfs.sha256 if file.lfs else file.blob_id
    return (folder / file.rfilename).is_file() or bool(content and (folder.parents[1] / "blobs" / content).is_file())


@contextlib.contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn whatever goes wrong at the hub into a :class:`UserError` that says what to do."""
    try:
        yield
    except Exception as error:  # the library beneath that speaks HTTP, whose errors these are, is the hub's own choice
        raise UserError(f"{repository}: {_reason(repository, error)}") from error


def _reason(repository: str, error: Exception) -> str:
    """What went wrong and how to fix it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, GatedRepoError):  # before RepositoryNotFoundError, of which it is one
        return (
            f"is gated: its publisher gives the files to those who accept a licence. Accept it on {page}, log in with "
            "`hf auth login` (or set HF_TOKEN) as the one who did, and try again."
        )
    if isinstance(error, RepositoryNotFoundError) or (
        isinstance(error, HfHubHTTPError) and error.response.status_code == 401
    ):
        return (
            f"there is no such repository at {constants.ENDPOINT}, or it is private, or your token is not valid. "
            "Check the name, and log in with `hf auth login` (or set HF_TOKEN) if you may read it."
        )
    if isinstance(error, HfHubHTTPError):
        return f"{constants.ENDPOINT} refused ({_first_line(error)}). See {page}, check your token, or try again later."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk of {constants.HF_HUB_CACHE} is full. Free some space and try again: what was fetched is kept."
    return (
        f"could not be fetched from {constants.ENDPOINT} ({_first_line(error)}). Check the network and HF_ENDPOINT and "
        "try again: what was fetched is kept."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")

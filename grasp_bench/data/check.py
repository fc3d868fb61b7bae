"""Whether the images that a task lists are there and look like images: headers are read, pixels are not."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import UnidentifiedImageError

from grasp_bench.data.formats import UNKNOWN, open_picture
from grasp_bench.data.listing import Entry, Problem, leads_out
from grasp_bench.errors import UserError
from grasp_bench.places import free_bytes, resolved

CHUNK = 128  # images that a thread checks between two advances of the progress
PLAIN = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")  # a path that needs no closer look to see that it leads nowhere else


def check_images(root: Path, entries: Sequence[Entry], workers: int, advance: Callable[[int], None]) -> list[Problem]:
    """What :class:`Inspector` finds wrong with the images at ``root``, in the order of ``entries``.

    ``advance`` is called with the number of images checked since its last call.
    """
    inspect = Inspector(root)

    def attempt(chunk: Sequence[Entry]) -> list[Problem]:
        return [problem for entry in chunk if (problem := inspect(entry))]

    problems = []
    chunks = [entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK)]
    with ThreadPoolExecutor(workers) as pool:
        for chunk, found in zip(chunks, pool.map(attempt, chunks), strict=True):
            problems += found
            advance(len(chunk))
    return problems


class Inspector:
    """Says what is wrong with one image of a folder, without decoding it; may be called from several threads.

    An image must be a regular file with a header that Pillow reads, of one picture, and lie in the folder: neither its
    path nor a symbolic link on the way may lead out. Links that stay inside are followed, and so are folders at the top
    that are links: data that many share is often read-only, and label files have to stand beside it.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        linked = [path for path in root.iterdir() if path.is_symlink() and path.is_dir()] if root.is_dir() else []
        self._real_roots = [resolved(path) for path in (root, *linked)]
        self._folders = {""}
        """Folders below the root from which nothing leads out; a large data set has many images in each."""

    def __call__(self, entry: Entry) -> Problem | None:
        """The first thing that is wrong with the image of ``entry``."""
        path = entry.path
        try:
            if not PLAIN.fullmatch(path) and leads_out(path):
                raise _WrongError("path leads out", f"is not a path inside {self._root}")
            self._enter(path.rpartition("/")[0])
            try:
                _check_header(f"{self._root}/{path}")
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                _check_header(self._follow(path))
        except _WrongError as error:
            kind, found = error.args
            return Problem(kind, entry.where, f"{path} {found}")
        except (FileNotFoundError, NotADirectoryError):
            return Problem("missing image", entry.where, f"{path} is not in {self._root}")
        except IsADirectoryError:
            return Problem("not a file", entry.where, f"{path} is a folder, expected an image")
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            reason = getattr(error, "strerror", None) or error
            return Problem("unreadable image", entry.where, f"{path} cannot be read ({reason})")
        return None

    def _enter(self, folder: str) -> None:
        """Check the links among the folders of a path, each folder once."""
        if folder not in self._folders:
            self._enter(folder.rpartition("/")[0])
            if stat.S_ISLNK(os.lstat(f"{self._root}/{folder}").st_mode):
                self._follow(folder)
            self._folders.add(folder)

    def _follow(self, path: str) -> str:
        """Where a link leads: the real path, which is inside the root."""
        link = Path(f"{self._root}/{path}")
        try:
            real = link.resolve(strict=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: how Python before 3.13 tells of a circle
            reason = getattr(error, "strerror", None) or "it leads in a circle"
            found = f"links to {link.readlink()}, which cannot be followed ({reason})"
            raise _WrongError("broken link", found) from error
        if not any(map(real.is_relative_to, self._real_roots)):
            raise _WrongError("link leads out", f"links to {real}, outside {self._root}")
        return str(real)


def too_few_bytes(folder: Path, needed: int) -> None:
    """Raise :class:`UserError` when fewer than ``needed`` bytes are free where ``folder`` is, or will be."""
    if (free := free_bytes(folder)) < needed:
        raise UserError(
            f"{folder}: {needed / 2**30:,.1f} GiB are needed and {free / 2**30:,.1f} GiB are free. Free some space or "
            "choose a work folder on another disk."
        )


class _WrongError(Exception):
    """Why an image is refused: the problem's kind, and what was found."""


def _check_header(path: str) -> None:
    """Raise :class:`_WrongError` for a file that is not an image, and OSError with ELOOP for a link.

    What a file is is only asked when it is not an image: asking of each would take a tenth of the time.
    """
    with open(path, "rb", opener=_open_directly) as file:  # a Path for each of 100,000 images is slow
        try:
            image = open_picture(file)
            # MPO is how cameras store a JPEG with a thumbnail behind it
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _WrongError("not a file", "is a device or a pipe, expected an image") from error
            if status.st_size == 0:
                raise _WrongError("zero bytes", "has zero bytes") from error
            if isinstance(error, UnidentifiedImageError):
                raise _WrongError("not an image", UNKNOWN) from error
            raise _WrongError("not an image", f"has a header that cannot be read ({error})") from error
    if frames > 1:
        raise _WrongError("several pictures", f"holds {frames} pictures, expected one")


def _open_directly(path: str, flags: int) -> int:
    """Open no link, and do not wait for somebody to write into a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

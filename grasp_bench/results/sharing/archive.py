"""Packs as files: zip archives whose bytes depend on their content alone, and which are not trusted when read.

Members are stored, not compressed: equal content gives equal bytes with any version of zlib, and what is read is never
larger than the file.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from grasp_bench.errors import UserError
from grasp_bench.io import check_file, written_whole
from grasp_bench.places import followed
from grasp_bench.results.sharing.manifest import KINDS, MANIFEST, MEMBER
from grasp_bench.text import printable

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip archive can hold
LOCAL = b"PK\x03\x04"
"""The first bytes of an archive's first member."""
TEXT_LIMIT = 64 * 2**20
"""Size in bytes of the largest JSON or CSV file that is read into memory."""

escaped = partial(printable, also="<>&")
"""Makes third-party text harmless on a terminal and in a page."""


def write_archive(path: Path, members: Mapping[str, Path | bytes]) -> None:
    """Write ``members``, a mapping from names to contents or to files, to ``path``, whole or not at all.

    Where ``path`` is a link, it stays, and what it leads to is written.
    """
    with written_whole(followed(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sorted(members.items()):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            info.file_size = len(source) if isinstance(source, bytes) else source.stat().st_size  # zip64 or not
            with archive.open(info, "w") as member:
                if isinstance(source, bytes):
                    member.write(source)
                else:
                    with source.open("rb") as content:
                        shutil.copyfileobj(content, member)


class Archive:
    """A pack that is open for reading; every name in it is checked, and none becomes a file name."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        self.sizes: dict[str, int] = {}
        """Name → size in bytes of every member."""
        for info in archive.infolist():
            self._check(info)
            self.sizes[info.filename] = info.file_size
        if sum(self.sizes.values()) > path.stat().st_size:
            raise UserError(
                f"{path}: its members claim {sum(self.sizes.values()):,} bytes together, but the file has "
                f"{path.stat().st_size:,}. It is refused: it is damaged, or made to exhaust the memory."
            )

    def _check(self, info: zipfile.ZipInfo) -> None:
        """Raise :class:`UserError` for a member that does not belong in a pack."""
        name, mode = info.orig_filename, info.external_attr >> 16
        if info.filename in self.sizes:
            fault = "is there twice"
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            fault = "is a symbolic link or another special file"
        elif name.startswith("/") or ".." in name.split("/") or "\\" in name or ":" in name:
            fault = "leads out of the pack"
        elif name != MANIFEST and not MEMBER.fullmatch(name):
            fault = f"is not a name in a pack; its files are of the kinds {', '.join(KINDS)}, pickles are never read"
        elif info.flag_bits & 1:
            fault = "is encrypted"
        elif info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            fault = "is compressed, and members of a pack are not"
        else:
            return
        raise UserError(f"{self.path}: refused: {escaped(name)} {fault}. Expected what `grasp-bench submit` wrote.")

    def text(self, name: str) -> bytes:
        """Return the content of a small member. Raises :class:`UserError` if it is absent, damaged or too large."""
        if self.sizes.get(name, 0) > TEXT_LIMIT:
            raise UserError(f"{self.path}: {name} has {self.sizes[name]:,} bytes, at most {TEXT_LIMIT:,} are read.")
        with self._open(name) as member:
            return member.read()

    def digest(self, name: str) -> str:
        """Return the sha256 (hex) of a member. Raises :class:`UserError` if it is absent or damaged."""
        found = hashlib.sha256()
        for chunk in self._chunks(name):
            found.update(chunk)
        return found.hexdigest()

    def copy(self, name: str, to: Path) -> None:
        """Write a member to the file ``to``."""
        with to.open("wb") as file:
            file.writelines(self._chunks(name))

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._open(name) as member:
            while chunk := member.read(2**20):
                yield chunk

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with self._archive.open(name) as member:
                yield member
        except KeyError as error:
            raise UserError(f"{self.path}: {escaped(name)} is not there. The pack is incomplete.") from error
        except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError) as error:
            raise UserError(f"{self.path}: {escaped(name)} is damaged ({error}).") from error


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a pack. Raises :class:`UserError` that names what does not belong in a pack, before anything is read."""
    try:
        archive = zipfile.ZipFile(check_file(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file.") from error
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise UserError(
            f"{path}: cannot be read as a pack ({error}). Expected what `grasp-bench submit` wrote."
        ) from error
    with archive:
        before = min((info.header_offset for info in archive.infolist()), default=0)
        with path.open("rb") as file:
            at_start = file.read(4) == LOCAL
            file.seek(max(0, min(before, path.stat().st_size)))
            later = before > 0 and file.read(4) == LOCAL
        if later or not at_start or archive.comment:
            raise UserError(
                f"{path}: refused: it holds bytes before or behind its members. Expected what `grasp-bench submit` "
                "wrote."
            )
        yield Archive(path, archive)

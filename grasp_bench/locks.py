"""Locks between processes, also on file systems that have none of their own."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from grasp_bench.errors import UserError
from grasp_bench.text import printable

if TYPE_CHECKING:
    from filelock import SoftFileLease

POLL_SECONDS = 0.2
LEASE_SECONDS = 60.0
"""Seconds without a sign of life after which a lock file's holder counts as dead."""
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""What flock(2) answers where a file system has no locks."""
HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}
"""What flock(2) answers where another process has the lock."""


@contextlib.contextmanager
def held(path: Path, waits: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock ``path``; ``waits`` is told once who holds it, if another process does.

    The operating system releases the lock when the process ends, however it ends. Where the file system has no locks,
    as NFS and Lustre may be mounted, a file ``<path>.lease`` is created exclusively and renewed while the lock is held;
    another process takes it over when it has not been renewed for :data:`LEASE_SECONDS`. Raises :class:`UserError`
    where the lock cannot be made, and where ``path`` is a link, whose target it would change.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        try:
            supported = _wait(descriptor, waits)
        except OSError as error:
            raise _refused(path, error) from error
        with contextlib.nullcontext() if supported else _leased(path, waits):
            with contextlib.suppress(OSError):  # who holds it is for people to read
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
    finally:
        os.close(descriptor)


def publishing(results: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a folder of results, for as long as a file there is read, changed and written again."""
    return held(results / ".lock")


def _refused(path: Path, error: OSError) -> UserError:
    if error.errno == errno.ELOOP and path.is_symlink():
        return UserError(f"{path}: is a link, and a lock must be a file of its own. Remove it.")
    return UserError(
        f"{path}: no lock can be made there, for it cannot be written ({error.strerror}). Choose a folder that you may "
        "write to, on a disk with some space, or remove what lies there."
    )


def _wait(descriptor: int, waits: Callable[[str], None] | None) -> bool:
    """Return True once the lock is held, or False where there are no locks."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return False
            if error.errno not in HELD:
                raise
        else:
            return True
        if waits:
            waits(f"process {printable(os.pread(descriptor, 100, 0).decode(errors='replace')) or '?'}")
            waits = None
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def _leased(path: Path, waits: Callable[[str], None] | None) -> Iterator[None]:
    from filelock import SoftFileLease, Timeout

    lease = SoftFileLease(
        path.with_name(f"{path.name}.lease"), lease_duration=LEASE_SECONDS, poll_interval=POLL_SECONDS
    )
    try:
        try:
            lease.acquire(timeout=0)
        except Timeout:
            if waits:
                waits(f"the process that made {lease.lock_file}")
            _acquire(lease)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lease.release()


def _acquire(lease: SoftFileLease) -> None:
    """Wait for a lease.

    filelock takes an empty file for the lock of another program and waits for ever: a process that was killed between
    making its lease and writing it leaves one. It is removed when it has not changed for :data:`LEASE_SECONDS`.
    """
    from filelock import Timeout

    path = Path(lease.lock_file)
    while True:
        seen = _empty(path)
        try:
            lease.acquire(timeout=LEASE_SECONDS)
        except Timeout:
            if seen and _empty(path) == seen:
                _remove_same(path, seen)
        else:
            return


def _empty(path: Path) -> tuple[int, int] | None:
    """What identifies an empty file; None for any other."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_mtime_ns) if S_ISREG(found.st_mode) and not found.st_size else None


def _remove_same(path: Path, seen: tuple[int, int]) -> None:
    """Remove an empty file, and put back what another process has made in its place meanwhile."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside)
        if _empty(aside) != seen:
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(aside)
        aside.unlink()

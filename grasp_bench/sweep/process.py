"""A cell as a process of its own, whose output goes to the cell's log."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from grasp_bench.errors import UserError
from grasp_bench.io import unreadable, writing
from grasp_bench.locks import UNSUPPORTED

COMMAND = (sys.executable, "-P", "-m", "grasp_bench", "--no-defaults")
"""Command of `grasp-bench` of this installation, to which nothing but its arguments says what to do.

With -P, it imports nothing from the folder where it is run.
"""


def start(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start `grasp-bench` with ``arguments`` in ``folder``, apart from this process's terminal.

    The process holds a lock on its log as long as it lives, whatever becomes of its parent.
    """
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            _lock(file, log)
            return subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                cwd=folder,
                start_new_session=True,
            )


def _lock(file: IO[bytes], log: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        raise UserError(
            f"{log}: the file system there has no locks ({error.strerror}), by which a sweep knows which of its runs "
            "are alive. Set work_dir, under [options], to a folder on another disk, or use --launcher print."
        ) from error


def send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process and its own, as a terminal would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def is_running(log: Path) -> bool:
    """Return whether a process writes to ``log``."""
    try:
        with log.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in UNSUPPORTED:  # then no sweep has started one
            return False
        raise unreadable(log, error) from error
    return False


def last_line(log: Path) -> str:
    """Return the last line that a process printed; empty if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")

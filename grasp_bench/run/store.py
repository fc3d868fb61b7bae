"""The store of stages: folders that are keyed by the hash of their inputs, and finished whole or resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from pydantic import JsonValue

from grasp_bench.io import has_digest, move_aside, remove, sync_folder, writing
from grasp_bench.journal import forget, journalled, sift
from grasp_bench.locks import held
from grasp_bench.processes import ALONE, POLL_SECONDS, Processes
from grasp_bench.run.mirror import UNFINISHED, Mirror
from grasp_bench.run.seal import MANIFEST, damaged, folder_name, seal

FORMER = ".former"
"""Suffix of a finished stage that another is about to replace."""


class Store:
    """The finished and unfinished stages under a work folder, ``<root>/<stage>/<key>``.

    ``say`` is told what a user should know: that another process is waited for, or that a damaged folder was moved
    aside. All ``processes`` of a run must call :meth:`run` for the same stages in the same order. With ``verify`` every
    file of a finished stage is read and its hash compared; otherwise only of files whose size, time of change or inode
    are not those that were recorded when the stage was finished. Stages are also kept in the folder ``sync_to``, and
    taken from there where they are missing.
    """

    def __init__(
        self,
        root: Path,
        say: Callable[[str], None],
        processes: Processes = ALONE,
        verify: bool = False,
        sync_to: Path | None = None,
    ) -> None:
        self.root, self.say, self.processes, self.verify = root, say, processes, verify
        self.mirror = Mirror(root, sync_to) if sync_to else None

    def run(
        self,
        name: str,
        inputs: dict[str, JsonValue],
        build: Callable[[Path], None],
        together: bool = False,
        again: bool = False,
    ) -> Path:
        """Return the finished folder of the stage, built by ``build(folder)`` unless it is there already.

        ``build`` gets the stage's unfinished folder, with whatever an interrupted call has written there whole: every
        file is compared with the digest that was kept when it was written, and one that differs, or has none, is
        taken out. The folder is renamed to its final name once ``build`` returns, so a failed stage is never mistaken
        for a finished one. With ``together`` every process calls ``build``; otherwise the first one alone does, and
        ``build`` must then run no other stage. With ``again`` a finished stage is built once more, and stays until the
        new one is finished.
        """
        final = self.folder(name, inputs)
        if not again and self.is_finished(name, inputs):
            return final
        with self._lock(final) if self.processes.is_first else nullcontext():
            if self.processes.first_says(lambda: self._is_missing(final) or again):
                partial = final.with_suffix(UNFINISHED)
                if together or self.processes.is_first:
                    with writing(partial):
                        partial.mkdir(parents=True, exist_ok=True)
                    with self._kept_if_interrupted(partial), journalled(partial, self.processes.index):
                        build(partial)
                if together:
                    self.processes.wait()
                if self.processes.is_first:
                    seal(partial, name, inputs)
                    self._finish(partial, final)
                elif not together:
                    _wait_for(final)
        self.processes.wait()
        return final

    def _finish(self, partial: Path, final: Path) -> None:
        """Give the sealed folder its name; one that has it already goes when the other is in its place."""
        former = final.with_suffix(FORMER)
        remove(former)  # which a killed call left
        with writing(final):
            if final.exists():
                final.replace(former)
            partial.replace(final)
            sync_folder(final.parent)
            forget(final)
        remove(former)
        self.keep(final)

    def is_finished(self, name: str, inputs: dict[str, JsonValue]) -> bool:
        """Return whether the stage is finished and undamaged."""
        return self.processes.first_says(lambda: self._is_sound(self.folder(name, inputs)))

    def keep(self, folder: Path) -> None:
        """Make the second place's copy of a stage what the stage's folder is now, where there is a second place."""
        if self.mirror and self.processes.is_first:
            self.mirror.keep(folder)

    @contextmanager
    def _kept_if_interrupted(self, partial: Path) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.keep(partial)
            raise

    def _is_sound(self, final: Path) -> bool:
        if self.mirror and self.mirror.fetch(final):
            self.say(f"{final.parent.name}: taken from {self.mirror.copies}")
        sound = damaged(final, self.verify) == []
        if sound:
            self.keep(final)  # what was interrupted before it was kept
        return sound

    def _is_missing(self, final: Path) -> bool:
        """Move a damaged folder of the stage aside, and return whether the stage has to be built.

        What was begun of it, here or elsewhere, is brought here first, and sifted.
        """
        partial = final.with_suffix(UNFINISHED)
        if self.mirror:
            self.mirror.fetch(partial)
        if found := damaged(final, self.verify):
            aside = move_aside(final)
            self.say(f"{found[0]} is damaged; its folder was moved to {aside.name}, and the stage is recomputed")
        with writing(partial):
            if partial.exists() and not partial.is_dir():
                move_aside(partial)
            if partial.is_dir():
                for path, moved in sift(partial, lambda path, known: has_digest(path, *known), move_aside):
                    if moved:
                        self.say(f"{path} is damaged; it was moved to {moved.name} and is not used")
                    elif path.suffix != ".tmp" and path.name != MANIFEST:
                        self.say(f"{path} may be half written, since nobody noted its digest; it was removed")
        return not final.exists()

    def folder(self, name: str, inputs: dict[str, JsonValue]) -> Path:
        """Return the folder that the stage has once it is finished."""
        return self.root / name / folder_name(name, inputs)

    def _lock(self, final: Path) -> AbstractContextManager[None]:
        """Hold the stage's lock."""
        return held(
            final.with_suffix(".lock"),
            lambda holder: self.say(f"waiting for {holder}, which is working on {final.name}"),
        )


def _wait_for(final: Path) -> None:
    """Wait until the first process has built a stage alone, however long it takes, without keeping a GPU busy.

    A launcher ends this process where the first one fails.
    """
    while not final.exists():
        time.sleep(POLL_SECONDS)

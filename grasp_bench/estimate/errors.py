"""Why a run has no estimate, though nothing is wrong with what was asked for."""

from __future__ import annotations

from grasp_bench.errors import UserError


class SkippedError(Exception):
    """The method or the guidance does not apply to the backbone, so a run would be skipped; the message says why."""


class NotEstimatedError(UserError):
    """A run that would go ahead, of which nothing can be said before; the message says why, and what to do."""

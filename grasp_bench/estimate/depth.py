"""What deep transformers take, from shallow ones: blocks of a kind are alike, so each adds as much as the next.

That holds exactly for parameters, FLOPs and traffic, and for peaks of memory while activations are kept. With gradient
checkpointing it holds where there is one kind of blocks: of several, the peak is where one of them is recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from grasp_bench.estimate.configured import depths
from grasp_bench.estimate.subject import Subject

T = TypeVar("T")


def extrapolated(make: Callable[[Subject], T], subject: Subject, alike: bool = True) -> T:
    """Return what ``make`` gives of a subject: a dataclass of numbers, or a list of such, linear in its blocks.

    A subject of few blocks, or whose method tells the middle blocks from the others, is made as it is; so is one of
    several kinds of blocks unless ``alike``.
    """
    full = depths(subject.backbone)
    base = dict.fromkeys(full, 2 if len(full) == 1 else 1)
    if (len(full) > 1 and not alike) or subject.method.config.tread or not any(full[kind] > 3 for kind in full):
        return make(subject)
    subject = replace(subject, sizes=sizes(subject))
    first = make(replace(subject, depths=base))
    deeper = [(make(replace(subject, depths=base | {kind: base[kind] + 1})), full[kind] - base[kind]) for kind in full]
    found: T = _extrapolated(first, deeper)
    return found


def sizes(subject: Subject) -> dict[str, int]:
    """Return the sizes of the subject's method at its full depth, with which those that follow from parameters fall."""
    from grasp_bench.estimate.parts import fresh_backbone, fresh_method
    from grasp_bench.estimate.simulate import SimulatedGpu

    with SimulatedGpu():
        backbone = fresh_backbone(subject)
        return fresh_method(subject, backbone).find_sizes(backbone, subject.task)


def _extrapolated(first: Any, deeper: Sequence[tuple[Any, int]]) -> Any:
    """Return ``first`` and, of each of ``deeper``, as many times what it has more."""
    if isinstance(first, list):
        return [_extrapolated(each, [(more[n], times) for more, times in deeper]) for n, each in enumerate(first)]
    if is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in fields(first)]
        values = {
            name: _extrapolated(getattr(first, name), [(getattr(more, name), times) for more, times in deeper])
            for name in names
        }
        return replace(first, **values)
    if isinstance(first, int) and not isinstance(first, bool):
        return first + sum((more - first) * times for more, times in deeper)
    return first

"""A paragraph of what the numbers of a diagnosis show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grasp_bench.text import markdown_escaped

LEVEL_OF_TEST = 0.05
FEW = 16
"""Number of batches below which a bootstrap over them is too narrow."""
CHANCE = {
    "images": "than if images had changed groups at random",
    "classes": "than other groupings of the same classes into groups of the same sizes",
}


def paragraph(found: dict[str, Any]) -> str:
    """Return a title and a paragraph of Markdown."""
    names = found["groups"]["names"]
    sentences = [
        _measured(found),
        *_alignment(found),
        *(_verdict(test) for test in found["tests"] if test["groups"] == [names[0], names[-1]]),
        *_partitions(found),
        *(f"Left out is the partition by {name}: {why}" for name, why in found["no_partition"].items()),
        *_training(found["training"]),
    ]
    title = f"{found['label']} on {found['task']}, seed {found['run_seed']}, step {found['step']}"
    return f"# Gradients of {title}\n\n{' '.join(sentences)}\n"


def document(found: dict[str, Any]) -> str:
    """Return what :func:`paragraph` returns, in which names are no Markdown."""
    title, _, text = paragraph(found).partition("\n\n")
    return f"# {markdown_escaped(title.removeprefix('# '))}\n\n{markdown_escaped(text.rstrip())}\n"


def _measured(found: dict[str, Any]) -> str:
    batches, classes = found["batches"], found["classes"]
    text = (
        f"Gradients of {len(classes['names'])} classes were compared on {batches} images each, all on the same noise "
        f"at {len(found['levels'])} noise levels, by kind of layer ({', '.join(found['kinds'])})."
    )
    if batches < found["batches_asked"]:
        text += f" {found['batches_asked']} images were asked for; the rarest class has {batches}."
    if batches < FEW:
        text += f" Intervals marked * resample those {batches} batches: below {FEW} they are too narrow."
    if found["left_out"]:
        text += f" Left out: {', '.join(found['left_out'])}."
    return text


def _alignment(found: dict[str, Any]) -> list[str]:
    """Describe the cosines of the whole gradient of the first group with the last, by noise level."""
    names = found["groups"]["names"]
    if len(names) == 1:
        return ["There is one group, so there is nothing to compare it with."]
    most, rarest, last = names[0], names[-1], len(names) - 1
    whole = [cell for cell in found["groups"]["cells"] if cell["kind"] == found["whole"]]
    if all(cell["apart"][0][last] for cell in whole):
        return [f"{most} and {rarest} share no trainable parameter: their gradients cannot conflict, by construction."]
    shown = []
    for cell in whole:
        low, high = found["levels"][cell["level"]]
        shown.append(f"{_number(cell, 0, last, _mark(found['batches']))} at t {low:g}-{high:g}")
    return [
        f"The cosine of the whole gradient between {most} and {rarest}, corrected for sampling noise, is "
        f"{'; '.join(shown)} (95 % intervals over batches)."
    ]


def _number(cell: dict[str, Any], row: int, column: int, mark: str) -> str:
    value, low, high = (cell[name][row][column] for name in ("cosine", "low", "high"))
    if value is None:
        return "not measurable"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]{mark}" if low is not None else f"{value:.2f} [no interval]"


def _mark(batches: int) -> str:
    """Return what stands behind intervals over so few batches that they are too narrow."""
    return "*" if batches < FEW else ""


def _verdict(test: dict[str, Any]) -> str:
    first, second = test["groups"]
    if test["p_holm"] is None:
        return f"Whether {first} and {second} are less aligned {CHANCE[test['null']]} is not measurable."
    tested = [cell for cell in test["cells"] if cell["p_corrected"] is not None]
    under = [cell for cell in tested if cell["p_corrected"] <= LEVEL_OF_TEST]
    found = "are" if test["p_holm"] <= LEVEL_OF_TEST else "are not shown to be"
    return (
        f"{first} and {second} {found} less aligned {CHANCE[test['null']]} (p = {test['p_holm']:.3g}, corrected for "
        f"{len(tested)} pairs of layer kind and noise level and for the pairs of groups; {len(under)} of the "
        f"{len(tested)} are below {LEVEL_OF_TEST:g} each)."
    )


def _partitions(found: dict[str, Any]) -> list[str]:
    lifts = [each for each in found["lifts"] if each["kind"] == found["whole"]]
    if not lifts:
        return ["How partitions compare is not measurable: some classes share no trained parameter."]
    shown = [_lift(each, _mark(found["batches"])) for each in lifts]
    text = [f"Within-cluster alignment over random clusters of the same sizes: {'; '.join(shown)}."]
    if any(each["partition"] == "gradient" for each in lifts):
        text.append("The partition by gradient was found on images of the same training set, which favours it.")
    return text


def _lift(each: dict[str, Any], mark: str) -> str:
    if each["p"] is None:
        return f"{each['partition']} not measurable"
    interval = f"[{each['low']:+.3f}, {each['high']:+.3f}]{mark}" if each["low"] is not None else "[no interval]"
    return f"{each['partition']} {each['within'] - each['random']:+.3f} {interval}, p = {each['p']:.3g}"


def _training(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Describe the groups' losses over training, and how similarly groups use experts at the end."""
    if not rows:
        return []
    first, last = rows[0], rows[-1]
    text = [
        f"{group} {first['group_loss'][group]:.3f} to {value:.3f}"
        for group, value in last["group_loss"].items()
        if value is not None and first["group_loss"].get(group) is not None
    ]
    told = (
        [f"Training loss from step {first['step']} to {last['step']}: {', '.join(text)}."] if text and rows[1:] else []
    )
    usage = last["method"].get("expert_usage")
    if isinstance(usage, dict) and len(usage) > 1 and all(isinstance(each, list) for each in usage.values()):
        (one, shares), *_, (other, others) = usage.items()
        if len(shares) == len(others) and all(isinstance(share, float | int) for share in [*shares, *others]):
            apart = sum(abs(a - b) for a, b in zip(shares, others, strict=True)) / 2
            told.append(
                f"At the end {one} and {other} differ in {apart:.1%} of their choices of experts, and the most used "
                f"expert of {other} has {max(others):.1%} of them."
            )
    return told

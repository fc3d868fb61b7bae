"""Radiology reports of MIMIC-CXR: the part of a report that serves as its image's prompt."""

from __future__ import annotations

import re

ENDING = (
    "addendum|clinical history|clinical information|comparison|comparisons|conclusion|examination|exam|final report"
    "|history|indication|notification|reason for exam|reason for examination|recommendation|recommendations"
    "|technique|wet read"
)
HEADER = re.compile(
    # known headings in any case, alone on their line or with a colon; any other that is in capitals, with a colon
    rf"^[ \t]*(?:(?P<known>(?i:(?:impressions?|findings?)(?:[ \t]*(?:and|/|&)[ \t]*(?:impressions?|findings?))?"
    rf"|{ENDING}))[ \t]*(?::|$)|[A-Z][A-Z0-9 ()/&,.-]+:)",
    re.MULTILINE,
)


def impression(text: str) -> str | None:
    """The impression of a report, or else its findings; None where both are missing or say nothing.

    Of several sections of a kind the last with words counts: addenda come after what they correct. A section that is
    headed "findings and impression" is an impression. The marks of removed names (``___``) go, and runs of white
    space become one space.
    """
    text = "\n".join(text.splitlines())
    headers = list(HEADER.finditer(text))
    ends = [*(header.start() for header in headers), len(text)][1:]
    found: dict[str, str] = {}
    for header, end in zip(headers, ends, strict=True):
        name = (header["known"] or "").lower()
        kind = next((kind for kind in ("impression", "finding") if kind in name), None)
        words = " ".join(re.sub("_{2,}", " ", text[header.end() : end]).split())
        if kind and re.search(r"\w", words):
            found[kind] = words
    return found.get("impression") or found.get("finding")

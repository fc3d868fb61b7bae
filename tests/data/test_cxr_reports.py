"""Which words of a report become a prompt."""

from pathlib import Path

import pytest
from helpers.datasets import make_mimic

from grasp_bench.data.cxr_lt import read_mimic
from grasp_bench.tasks.mimic_lt import impression

FULL = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman

 FINDINGS:

 The heart is large.
 Lungs: clear.

 IMPRESSION:

 Cardiomegaly.  Discussed with
 Dr. ___ at 10:15.

 NOTIFICATION:  by telephone
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FULL, "Cardiomegaly. Discussed with Dr. at 10:15."),
        (FULL.replace("\n", "\r\n"), "Cardiomegaly. Discussed with Dr. at 10:15."),
        (FULL.lower(), "cardiomegaly. discussed with dr. at 10:15."),
        (FULL.split(" IMPRESSION")[0], "The heart is large. Lungs: clear."),
        ("FINDINGS: Clear.\nIMPRESSION: ___.\n", "Clear."),
        ("IMPRESSION: Old.\nADDENDUM\nIMPRESSION: New.\n", "New."),
        ("IMPRESSION: Old.\nADDENDUM\nIMPRESSION:\n", "Old."),
        ("FINDINGS: Clear.\nIMPRESSION:\nCOMPARISON: None.\n", "Clear."),
        ("IMPRESSION: Effusion.\nFINDINGS: Long text.\n", "Effusion."),
        ("FINDINGS AND IMPRESSION:  No change.\n", "No change."),
        ("Impression\n\nNo pneumonia\n", "No pneumonia"),
        ("IMPRESSION: 1. Edema.\n 2. The impression: fluid.\n", "1. Edema. 2. The impression: fluid."),
        ("TECHNIQUE: Single view.\n", None),
        ("INDICATION: her impression: none\n", None),
        ("IMPRESSION:\n", None),
        ("", None),
    ],
)
def test_the_last_impression_or_else_the_findings(text: str, expected: str | None) -> None:
    assert impression(text) == expected


def test_a_report_beside_its_study(tmp_path: Path) -> None:
    entry = read_mimic(make_mimic(tmp_path, per_class=1, reports=True)).entries[0]
    progress = (tmp_path / entry.path).parent.with_suffix(".txt")
    assert impression(progress.read_text()) == f"No acute process, {entry.label}. Seen by Dr. ."

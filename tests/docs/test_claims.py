"""The page of claims shows what the committed results give, and each claim has its verdict."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grasp_bench.cli import app

from .claim_costs import BETWEEN, CLAIMS, FURTHER, OF_CLAIM, SWEEP, further_run, run_cells
from .pages import ROOT

PAGE = ROOT / "docs/claims.md"
DIAGNOSED = ROOT / "results/archive/digits-lt/diagnose"
VERDICTS = ("stands", "suggestive", "not shown")


def by_hand() -> str:
    """The page without its tables of results."""
    return re.sub(r"(<!-- grasp-bench report [^\n]*-->\n).*?(?=<!-- end -->)", r"\1", PAGE.read_text(), flags=re.DOTALL)


def test_tables_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = CliRunner().invoke(app, ["report", "--update", "docs/claims.md", "--check"])
    assert shown.exit_code == 0, shown.output or shown.exception


def test_a_stale_table_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    copy = Path(shutil.copy(PAGE, tmp_path))
    text = copy.read_text()
    copy.write_text(
        text[: text.index("<!-- end -->")].replace("| grasp | cfg |", "| grasp | none |") + "<!-- end -->\n"
    )
    assert CliRunner().invoke(app, ["report", "--update", str(copy), "--check"]).exit_code == 1


def test_every_claim_says_what_would_refute_it_and_has_the_verdict_of_the_first_table() -> None:
    page = by_hand()
    listed = dict(re.findall(r"^\| \[(.+?)\]\(#\S+\) \| \*\*(.+?)\*\* \|$", page, re.MULTILINE))
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)+)", page, re.MULTILINE))
    assert [name for name in sections if name != "On the paper's tasks"] == list(listed)
    for name, verdict in listed.items():
        said = re.search(r"^\*\*(Stands|Suggestive|Not shown)\b", sections[name], re.MULTILINE)
        assert said, name
        assert said[1].lower() == verdict, name
        assert "*Refuted" in sections[name], name
    assert {*listed.values()} <= {*VERDICTS}


def of_diagnose(folder: Path) -> tuple[list[float], list[float], list[float]]:
    """Cosines of head and tail at step 0 over methods and levels, and p of both null hypotheses over methods."""
    cosines, images, classes = [], [], []
    for path in sorted(folder.glob("*/seed-0@0.json")):
        found = json.loads(path.read_text())
        head, tail = (found["groups"]["names"].index(name) for name in ("head", "tail"))
        cells = found["groups"]["cells"]
        cosines += [cell["cosine"][head][tail] for cell in cells if cell["kind"] == found["whole"]]
        tests = {each["null"]: each["p_holm"] for each in found["tests"] if each["groups"] == ["head", "tail"]}
        images.append(tests["images"])
        classes.append(tests["classes"])
    return cosines, images, classes


def test_what_sixteen_batches_show_is_in_its_files() -> None:
    text = " ".join((ROOT / "docs/claims.md").read_text().split())
    cosines, images, classes = of_diagnose(ROOT / "results/digits-16/diagnose")
    count = {8: "two", 12: "three"}[len(cosines)]
    assert f"the cosine is {min(cosines):.2f} to {max(cosines):.2f} over {count} methods" in text
    assert {f"{p:.3f}" for p in images} == {"0.003"}
    assert f"(p of {min(classes):.3f} to {max(classes):.3f}, each for one method)" in text
    assert max(classes) < 0.05


def test_what_diagnose_found_is_in_its_files() -> None:
    text = " ".join(by_hand().split())
    cosines, images, classes = of_diagnose(DIAGNOSED)
    assert len(cosines) == 12
    assert f"is {min(cosines):.2f} to {max(cosines):.2f} over three methods" in text
    assert f"(p of {min(images):.3f} to {max(images):.3f})" in text
    assert f"(p of {min(classes):.2f} to {max(classes):.2f})" in text
    lifts = json.loads((DIAGNOSED / "vanilla-ft/seed-0@0.json").read_text())["lifts"]
    (own,) = [each for each in lifts if (each["partition"], each["kind"]) == ("group", "all")]
    lift = f"{own['within'] - own['random']:.3f} [{own['low']:.3f}, {own['high']:+.3f}]"
    assert lift.replace("-", "\N{MINUS SIGN}") in text


def cost_tables() -> list[list[list[str]]]:
    """Cells of the rows of the three tables of costs, without their heads."""
    found = BETWEEN.search(PAGE.read_text())
    assert found
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        for table in found[0].strip().split("\n\n")
        if table.startswith("|")
    ]


def test_what_claims_cost_is_the_sum_over_the_runs_of_the_sweep() -> None:
    sweep = tomllib.loads(SWEEP.read_text())
    runs, claims, _ = cost_tables()
    hours = {cells[0].strip("`"): [float(each) for each in cells[1::2]] for cells in runs}
    assert list(hours) == sweep["methods"]
    assert {len(each) for each in hours.values()} == {len(sweep["tasks"])}
    sections = re.findall(r"^## (.+)$", by_hand(), re.MULTILINE)
    assert {*CLAIMS} < {*sections}
    for cells, (claim, methods) in zip(claims, [*CLAIMS.items(), ("all of them", sweep["methods"])], strict=True):
        said = {task: float(each) for task, each in zip(sweep["tasks"], cells[2:-1], strict=True) if each}
        assert {*sweep["tasks"]} - {*said} == {task for task, of in OF_CLAIM.items() if claim in {*CLAIMS} - {of}}
        for at, task in enumerate(sweep["tasks"]):
            alone = len(sweep["seeds"]) * sum(hours[name][at] for name in methods)
            # methods share a seed's real classifiers, under two hours
            once = 2 * len(sweep["seeds"]) * (len(methods) - 1)
            assert task not in said or alone - once - 1 <= said[task] <= alone + 1
        trained = sum(each for task, each in said.items() if task not in OF_CLAIM)
        lent = sum(each for task, each in said.items() if task in OF_CLAIM)  # with the trainings of another task
        assert trained - 1.5 <= float(cells[-1]) <= trained + max(1.5, 0.9 * lent)


@pytest.mark.slow
def test_a_run_costs_what_the_page_says() -> None:
    runs, _, further = cost_tables()
    said = {cells[0]: cells[1:3] for cells in runs}
    assert said["`grasp`"] == run_cells("grasp", "mimic-lt"), "make estimates writes them all"
    assert further[0][2] == f"{further_run(FURTHER[0], 'mimic-lt').hours:.1f}"


def test_further_runs_of_a_claim_cost_no_more_than_five_of_them_alone() -> None:
    _, _, further = cost_tables()
    sections = re.findall(r"^## (.+)$", by_hand(), re.MULTILINE)
    for each, cells in zip(FURTHER, further, strict=True):
        assert each.claim in sections
        assert cells[1] == f"`{each.words}`"
        alone = 5 * sum(float(hours) for hours in cells[2:-1] if hours)
        assert 0 < float(cells[-1]) <= alone + 2

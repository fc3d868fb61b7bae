import itertools
import math
import re
from xml.etree import ElementTree

import pytest

from grasp_bench.results.cd_diagram import cd_diagram_svg

SVG = "{http://www.w3.org/2000/svg}"
RANKS = {"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}  # Demšar 2006, figure 1


def drawn(ranks: dict[str, float], cd: float) -> ElementTree.Element:
    return ElementTree.fromstring(cd_diagram_svg(ranks, cd))


def texts(svg: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def bars(svg: ElementTree.Element) -> list[tuple[float, float]]:
    """Left and right end of each group's bar."""
    found = [path.get("d", "") for path in svg.iter(f"{SVG}path") if path.get("stroke-width") == "4"]
    return [(float(x1), float(x2)) for x1, x2 in (re.findall(r"[ML]([\d.]+)", path) for path in found)]


def stems(svg: ElementTree.Element) -> dict[str, float]:
    """Method of RANKS → where its line leaves the axis; the line's path comes right before its label."""
    found = {}
    for path, label in itertools.pairwise(svg.iter()):
        if "V" in path.get("d", ""):
            (name,) = RANKS.keys() & (label.text or "").split("\u2002")
            found[name] = float(path.get("d", "")[1:].split()[0])
    return found


def test_ranks_lie_in_proportion_with_the_best_at_the_right():
    x = stems(drawn(RANKS, 1.12))
    assert sorted(x, key=x.__getitem__) == ["C4.5", "C4.5+cf", "C4.5+m", "C4.5+m+cf"]
    unit = (x["C4.5+m"] - x["C4.5"]) / (3.143 - 2.0)
    assert x["C4.5+m+cf"] - x["C4.5+cf"] == pytest.approx(unit * (2.893 - 1.964), abs=0.2)


def test_bars_join_the_groups_of_demsars_figure():
    svg = drawn(RANKS, 1.12)
    x = stems(svg)
    reach = [{name for name in x if left <= x[name] <= right} for left, right in bars(svg)]
    assert reach == [{"C4.5+m+cf", "C4.5+m", "C4.5+cf"}, {"C4.5+cf", "C4.5"}]
    assert bars(drawn(RANKS, 0.01)) == []


def test_it_is_named_and_described_in_words():
    svg = drawn(RANKS, 1.12)
    assert svg.get("role") == "img"
    title, description = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert description.text == (
        "Mean ranks, best first: C4.5+m+cf 1.96, C4.5+m 2.00, C4.5+cf 2.89, C4.5 3.14. Critical difference: 1.12. "
        "Not significantly different: C4.5+m+cf, C4.5+m, C4.5+cf; C4.5+cf, C4.5."
    )
    apart = drawn(RANKS, 0.01).find(f"{SVG}desc")
    assert apart is not None
    assert (apart.text or "").endswith("All differ significantly.")
    assert apart.get("id") != description.get("id")  # two diagrams on one page


def test_hostile_names_are_text():
    names = ["<script>alert(1)</script>", "a & b", '"quoted"', "bell \x07 and \ud800", "Ωmega"]
    svg = drawn({name: float(rank) for rank, name in enumerate(names, 1)}, 1.0)
    assert not list(svg.iter(f"{SVG}script"))
    shown = " ".join(texts(svg))
    assert "<script>alert(1)</script>" in shown
    assert "a & b" in shown
    assert "bell \ufffd and \ufffd" in shown
    assert "Ωmega" in shown


def test_it_takes_the_colour_of_the_page_and_needs_nothing_else():
    text = cd_diagram_svg(RANKS, 1.12)
    assert {*re.findall(r'(?:fill|stroke)="([^"\d]+)"', text)} == {"none", "currentColor"}
    assert not re.search(r"href|url\(|<style|<image", text)
    assert text == cd_diagram_svg(dict(reversed(RANKS.items())), 1.12)


@pytest.mark.parametrize("count", [2, 3, 30])
@pytest.mark.parametrize("cd", [0.5, 40.0])
def test_everything_lies_within_the_drawing(count: int, cd: float):
    svg = drawn({f"method-with-a-long-name-{rank}": float(rank) for rank in range(1, count + 1)}, cd)
    _, _, width, height = (float(value) for value in svg.get("viewBox", "").split())
    for text in svg.iter(f"{SVG}text"):
        x, y, reach = float(text.get("x", "")), float(text.get("y", "")), 7 * len(text.text or "")
        left = {"start": x, "middle": x - reach / 2, "end": x - reach}[text.get("text-anchor", "")]
        assert left >= 0
        assert left + reach <= width
        assert 0 < y < height
    rows = [float(text.get("y", "")) for text in svg.iter(f"{SVG}text") if text.get("text-anchor") == "start"]
    assert all(later - earlier > 13 for earlier, later in itertools.pairwise(rows))


@pytest.mark.parametrize(
    ("ranks", "cd", "message"),
    [
        ({"a": 1.0}, 1.0, "two or more methods"),
        ({"a": 0.5, "b": 2.0}, 1.0, r"mean ranks in \[1, methods\]"),
        ({"a": 1.0, "b": math.nan}, 1.0, r"mean ranks in \[1, methods\]"),
        ({"a": 1.0, "b": 2.0}, 0.0, "cd: expected a positive number"),
        ({"a": 1.0, "b": 2.0}, math.inf, "cd: expected a positive number"),
    ],
)
def test_bad_input(ranks, cd, message):
    with pytest.raises(ValueError, match=message):
        cd_diagram_svg(ranks, cd)

"""The page of all committed runs in a browser: what is on the first screen, at the sizes of a laptop and a phone."""

import re
import shutil
import time
from pathlib import Path

import pytest
from helpers.records import found_runs
from selenium.webdriver.support.ui import WebDriverWait

from grasp_bench.results.site import write_site
from grasp_bench.run.files import GENERATED_SHEET, REAL_SHEET
from results.site.browser import chromium, console_messages, requested, resize

pytestmark = pytest.mark.slow

SIZES = {"laptop": (1440, 900), "phone": (390, 844)}
RESULTS = Path(__file__).parents[3] / "results"
ARCHIVE = RESULTS / "archive"
"""Records of 18 methods, 90 rows in all, without images."""
OVERLAPS = """
const found = [];
for (const svg of document.querySelectorAll('.chart svg')) {
  const texts = [...svg.querySelectorAll('text')].filter((each) => each.textContent.trim() && each.checkVisibility());
  const boxes = texts.map((each) => [each.textContent, each.getBoundingClientRect()]).filter(([, box]) => box.width);
  boxes.forEach(([name, a], at) => boxes.slice(at + 1).forEach(([other, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 2) found.push([name, other]);
  }));
}
return found;
"""
DRAWN = """
const shown = [...document.querySelectorAll('.chart')].filter((each) => each.checkVisibility());
return shown.length > 3 && shown.every((each) => each.querySelector('svg text'));
"""
BOTTOMS = "return [...document.querySelectorAll('.scores tbody tr')].map((row) => row.getBoundingClientRect().bottom)"
RIGHTS = (
    "return [...document.querySelectorAll('.scores :is(td, th)')].map((cell) => cell.getBoundingClientRect().right)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return write_site(found_runs(ARCHIVE), tmp_path_factory.mktemp("page") / "site")


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """The page of runs with images: those of the first seed are committed, and here the second has them, too."""
    folder = tmp_path_factory.mktemp("pictured")
    for row in (RESULTS / "digits-lt").glob("*~tuned=16"):
        for seed in ("seed-0", "seed-1"):
            (there := folder / "results" / "digits-lt" / row.name / seed).mkdir(parents=True)
            shutil.copy(row / seed / "record.json", there)
            for sheet in (GENERATED_SHEET, REAL_SHEET):
                shutil.copy(row / "seed-0" / sheet, there)
    return write_site(found_runs(folder / "results"), folder / "site")


@pytest.fixture(scope="module")
def driver():
    with chromium() as opened:
        yield opened


def opened(driver, site, size):
    resize(driver, *SIZES[size])
    driver.get(site.as_uri())
    for _ in range(200):
        if driver.execute_script("return document.querySelectorAll('.charts:not([hidden]) .chart svg').length >= 3"):
            break
        time.sleep(0.05)
    driver.size = size
    yield driver
    assert console_messages(driver) == []
    assert {each for each in requested(driver) if not each.startswith(site.parent.as_uri())} == set()


@pytest.fixture(params=SIZES)
def page(driver, site, request):
    yield from opened(driver, site, request.param)


@pytest.fixture(params=SIZES)
def page_of_pictures(driver, pictured, request):
    yield from opened(driver, pictured, request.param)


def test_a_page_of_all_runs_is_small(site, pictured):
    assert site.stat().st_size <= 2_200_000  # room for the methods of the protocol that these are not
    assert pictured.stat().st_size <= 3_000_000


def test_every_row_is_on_the_first_screen_and_nothing_is_cut_off(page):
    bottoms = page.execute_script(BOTTOMS)
    width, height = SIZES[page.size]
    assert len(bottoms) == 18
    assert max(bottoms) <= height
    assert page.execute_script("return document.documentElement.scrollWidth") == width
    assert max(page.execute_script(RIGHTS)) <= width
    assert "has the lowest mean" in page.find_element("css selector", ".answer").text
    shown = page.execute_script(
        "return [...document.querySelectorAll('.scores thead th')].filter(e => e.offsetWidth).map(e => e.dataset.title)"
    )
    compact = ["Rank", "Method", "Guidance", "tail", "all", "CAS tail", "Parameters", "NFE"]
    assert shown == (compact if page.size == "laptop" else ["Method", "tail", "Difference"])


def test_metric_group_baseline_and_guidance_are_chosen_without_opening_anything(page):
    seen = page.execute_script(
        "return [...document.querySelectorAll('form.chips :is(select, input[type=radio])')]"
        ".filter(each => each.closest('label').checkVisibility()).map(each => each.name)"
    )
    assert list(dict.fromkeys(seen)) == ["metric", "group", "baseline", "guidance"]


def test_the_plot_of_differences_says_its_numbers_to_a_screen_reader(page):
    told = page.find_element("css selector", ".forest .chart").get_attribute("aria-label")
    assert told.startswith("Differences to vanilla-ft")
    assert len(re.findall(r"[+\N{MINUS SIGN}]?\d+ % \([^)]* to [^)]*\)(?:; |$)", told)) == 17


def test_a_long_name_pushes_no_number_out_of_view(page):
    names = page.find_elements("css selector", ".scores tbody th.method")
    page.execute_script("arguments[0].append('-of-a-package-that-somebody-named-at-length')", names[3])
    assert max(page.execute_script(RIGHTS)) <= SIZES[page.size][0]


def test_it_has_few_elements_at_first(page):
    count = "const all = document.createNodeIterator(document); let n = 0; while (all.nextNode()) n += 1; return n"
    assert page.execute_script(count) < 15_000


def test_no_text_of_a_chart_lies_on_another(page):
    page.execute_script("for (const each of document.querySelectorAll('.charts')) each.hidden = false")
    page.execute_script("document.querySelector('select[name=chart]').dispatchEvent(new Event('input'))")
    WebDriverWait(page, 30).until(lambda there: there.execute_script(DRAWN))
    assert page.execute_script(OVERLAPS) == []


def test_the_header_stays_while_all_rows_scroll(page):
    page.execute_script(
        "const it = document.querySelector('select[name=guidance]'); it.value = '*';"
        "it.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    rows = page.find_elements("css selector", ".scores tbody tr")
    assert len(rows) > 80
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", rows[60])
    head, row = (each.rect for each in (page.find_element("css selector", ".scores thead th.method"), rows[60]))
    top = page.execute_script("return scrollY")
    assert top - 1 <= head["y"] < row["y"]
    assert row["y"] < top + SIZES[page.size][1]


def test_other_images_are_files_beside_the_page(page_of_pictures):
    page_of_pictures.execute_script(
        "const it = document.querySelector('select[name=seed]'); it.selectedIndex = 1;"
        "it.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    loaded = (
        "return [...document.querySelectorAll('.strips figure:not(.real) img')].map(e => e.complete && e.naturalWidth)"
    )
    for _ in range(100):
        widths = page_of_pictures.execute_script(loaded)
        if all(widths):
            break
        time.sleep(0.05)
    methods = {re.split(r"[+~]", path.name)[0] for path in (RESULTS / "digits-lt").glob("*~tuned=16")}
    assert len(widths) == len(methods) > 2
    assert all(widths)

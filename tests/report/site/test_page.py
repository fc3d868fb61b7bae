import json
import time

import pytest

from report.site.browser import chromium, console_messages, prefer, requested, resize
from report.site.results import BREAKOUT, HOSTILE, make_page, make_results

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    address = make_page(make_results(folder / "results"), folder / "site").as_uri()
    with chromium() as opened:
        opened.address = address
        yield opened


@pytest.fixture
def page(driver):
    resize(driver, 1280, 900)
    prefer(driver, "light")
    driver.get(driver.address)
    driver.execute_script("localStorage.clear()")
    driver.get(driver.address)
    yield driver
    assert console_messages(driver) == []
    assert {address for address in requested(driver) if address != driver.address} == set()
    assert driver.title == "grasp-bench: leaderboards"  # what the hostile names would change


def one(page, selector):
    return page.find_element("css selector", selector)


def methods(page):
    """Those of the table's rows that are shown, in order."""
    return page.execute_script(
        "return [...document.querySelectorAll('.scores tbody tr')].filter(r => !r.hidden).map(r => r.dataset.method)"
    )


def choose(page, selector, value):
    page.execute_script(
        "const it = document.querySelector(arguments[0]); it.value = arguments[1];"
        "it.dispatchEvent(new Event('input', {bubbles: true}))",
        selector,
        value,
    )


def headers(page):
    return [each.text.split("\n")[-1] for each in page.find_elements("css selector", ".scores thead th") if each.text]


def until(page, script):
    """Wait for what the script returns to be true."""
    for _ in range(100):
        if found := page.execute_script(f"return {script}"):
            return found
        time.sleep(0.05)
    raise AssertionError(f"never true: {script}")


def test_the_best_tail_is_first_and_a_click_turns_the_order(page):
    assert methods(page) == ["grasp", "moe", "lora", HOSTILE, "broken"]
    header = one(page, '.scores th[data-metric="fd"][data-group="tail"]')
    assert header.get_attribute("aria-sort") == "ascending"
    header.find_element("tag name", "button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert methods(page) == [HOSTILE, "lora", "moe", "grasp", "broken"]  # no score: last either way


def test_higher_is_better_sorts_the_other_way_at_first(page):
    choose(page, 'select[name="metric"]', "recall")
    one(page, '.scores th[data-metric="recall"][data-group="all"] button').click()
    assert methods(page) == [HOSTILE, "moe", "lora", "grasp", "broken"]


def test_filters_leave_what_fits_and_say_so_where_nothing_does(page):
    field = one(page, 'input[name="method"]')
    field.send_keys("OR")
    assert methods(page) == ["lora", HOSTILE]  # it has an "onerror"
    field.send_keys("acle")
    assert methods(page) == []
    assert one(page, ".none").is_displayed()
    field.clear()
    choose(page, 'select[name="status"]', "failed")
    assert methods(page) == ["broken"]
    choose(page, 'select[name="status"]', "")
    choose(page, 'select[name="guidance"]', "cfg")
    assert len(methods(page)) == 5


def test_metric_and_groups_choose_the_columns(page):
    costs = ["trainable parameters", "training seconds", "evaluations per image"]
    assert headers(page)[:5] == ["Method", "head", "medium", "tail", "all"]
    choose(page, 'select[name="metric"]', "*")
    assert headers(page)[1:9] == ["head", "medium", "tail", "all"] * 2
    for group in ("head", "medium", "all"):
        one(page, f'input[value="{group}"]').click()
    assert headers(page) == ["Method", "tail", "tail", *costs, "Guidance", "Runs"]
    widths = page.execute_script(
        "return [...document.querySelectorAll('.scores tr')].map(r => [...r.cells].filter(c => !c.hidden)"
        ".reduce((sum, c) => sum + c.colSpan, 0))"
    )
    assert set(widths) == {8}  # the floor's row too


def test_a_run_opens_with_its_command_scores_and_whole_record(page):
    one(page, ".runs summary").click()
    (broken,) = (each for each in page.find_elements("css selector", ".open") if each.text == "broken")
    broken.click()
    until(page, "document.querySelector('#run-body details')")
    dialog = one(page, "dialog")
    assert dialog.text.startswith("broken, seed 0")
    assert "grasp-bench run --method broken --task digits-lt" in dialog.text
    assert BREAKOUT in dialog.text
    one(page, "#run-close").click()
    assert not dialog.is_displayed()
    next(each for each in page.find_elements("css selector", ".open") if each.text == "grasp").click()
    until(page, "document.querySelector('#run-body details')")
    record = json.loads(page.execute_script("return document.querySelector('#run-body details pre').textContent"))
    assert record["label"] in dialog.text
    assert str(record["metrics"][0]["value"]) in dialog.text
    assert [each.text for each in dialog.find_elements("css selector", ".buttons button")] == [
        "record.json",
        "train.jsonl",
        "classes.csv",
    ]


def test_a_download_is_the_file(page, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    one(page, ".runs summary").click()
    page.find_elements("css selector", ".runs button.open")[1].click()
    until(page, "document.querySelector('#run-body details')")
    one(page, "#run-body .buttons button").click()
    for _ in range(100):
        if (tmp_path / "record.json").exists():
            break
        time.sleep(0.05)
    whole = page.execute_script("return document.querySelector('#run-body details pre').textContent")
    assert (tmp_path / "record.json").read_text() == whole


def test_the_theme_follows_the_system_until_it_is_chosen(page):
    def background():
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = background()
    prefer(page, "dark")
    dark = background()
    assert light != dark
    one(page, "#theme").click()
    assert background() == light
    page.refresh()
    assert background() == light  # remembered


def test_everything_works_by_keyboard(page):
    from selenium.webdriver import ActionChains, Keys

    def press(*keys):
        ActionChains(page).send_keys(*keys).perform()

    def focused():
        return page.execute_script(
            "const e = document.activeElement; return e.id || e.className || e.textContent.trim()"
        )

    press(Keys.TAB)
    assert focused() == "skip"
    press(Keys.ENTER)
    press(Keys.TAB)
    assert page.execute_script("return document.activeElement.name") == "metric"
    page.execute_script("document.querySelector('.scores th button').focus()")
    press(Keys.ENTER)
    assert methods(page) == sorted(methods(page), key=str.lower)
    page.execute_script("document.querySelector('.runs summary').focus()")
    press(Keys.ENTER, Keys.TAB, Keys.TAB, Keys.ENTER)  # the list that scrolls, its first run
    until(page, "document.querySelector('dialog').open")
    press(Keys.ESCAPE)
    assert not one(page, "dialog").is_displayed()
    assert focused() == "open"  # back where it was


def test_charts_follow_the_metric_and_the_chosen_colours(page):
    assert one(page, '.charts[data-metric="fd"]').is_displayed()
    choose(page, 'select[name="chart"]', "recall")
    assert not one(page, '.charts[data-metric="fd"]').is_displayed()
    assert one(page, '.charts[data-metric="recall"] svg').is_displayed()
    key = one(page, '.key[data-method="lora"]')
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    faded = page.execute_script(
        "return [...new Set([...document.querySelectorAll('.off')].map(e => e.dataset.method))]"
    )
    assert faded == ["lora"]


def test_images_follow_the_class_and_the_seed(page):
    def sources():
        return [each.get_attribute("src") for each in page.find_elements("css selector", ".strips img")]

    first = sources()
    assert len(first) == 5  # four methods below real images
    assert one(page, '.samples select[name="class"]').get_attribute("value") == "quince"  # the rarest
    choose(page, '.samples select[name="class"]', "apple")
    assert all(a != b for a, b in zip(first, sources(), strict=True))
    choose(page, '.samples select[name="class"]', "quince")
    choose(page, '.samples select[name="seed"]', "1")
    assert len(sources()) == 5


@pytest.mark.parametrize("width", [360, 768])
def test_no_page_is_wider_than_its_window(page, width):
    resize(page, width, 800)
    page.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    choose(page, 'select[name="metric"]', "*")
    assert page.execute_script("return document.documentElement.scrollWidth") == width
    page.execute_script("document.querySelectorAll('.open')[1].click()")
    until(page, "document.querySelector('#run-body details')")
    assert page.execute_script("const d = document.querySelector('dialog'); return d.scrollWidth <= d.clientWidth")


def test_without_script_everything_is_still_there(page):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get(page.address)
        text = one(page, "body").text
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert HOSTILE in text
    assert "Fréchet distance" in text
    assert len([each for each in page.find_elements("css selector", "svg.chart") if each.is_displayed()]) >= 7

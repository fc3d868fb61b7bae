import gzip
import json
import time
from base64 import b64decode, b64encode
from contextlib import contextmanager

import pytest
from helpers.records import metric, record, save

from results.site.browser import chromium, console_messages, prefer, requested, resize
from results.site.results import BREAKOUT, CUT_OFF, HOSTILE, PEAR, make_page, make_results

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    address = make_page(make_results(folder / "results"), folder / "site").as_uri()
    with chromium() as opened:
        opened.address = address
        yield opened


DRAWN = "!document.querySelector('form.chips')?.hidden"
"""Whether the page has unpacked what it draws from."""


@contextmanager
def opened(driver, address):
    """The page at ``address``, of which nothing goes wrong and no other place hears."""
    driver.get(address)
    until(driver, DRAWN)
    yield driver
    assert console_messages(driver) == []
    assert {each for each in requested(driver) if each != address} == set()
    assert driver.title == "grasp-bench: leaderboards"  # what the hostile names would change


@pytest.fixture
def page(driver):
    resize(driver, 1280, 900)
    prefer(driver, "light")
    driver.get(driver.address)
    driver.execute_script("localStorage.clear()")
    with opened(driver, driver.address):
        yield driver


def one(page, selector):
    return page.find_element("css selector", selector)


def methods(page):
    """The rows of the table, in order."""
    return page.execute_script("return [...document.querySelectorAll('.scores tbody tr')].map(r => r.dataset.method)")


def choose(page, selector, value):
    page.execute_script(
        "const it = document.querySelector(arguments[0]); it.value = arguments[1];"
        "it.dispatchEvent(new Event('input', {bubbles: true}))",
        selector,
        value,
    )


def headers(page):
    """Titles of the columns that are shown."""
    return page.execute_script(
        "return [...document.querySelectorAll('.scores thead th')].filter(h => h.offsetWidth).map(h => h.dataset.title)"
    )


def header(page, title):
    return one(page, f'.scores th[data-title="{title}"]')


def unfold(page):
    page.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")


def until(page, script):
    """Wait for what the script returns to be true."""
    for _ in range(100):
        if found := page.execute_script(f"return {script}"):
            return found
        time.sleep(0.05)
    raise AssertionError(f"never true: {script}")


def test_the_best_tail_is_first_and_a_click_turns_the_order(page):
    assert methods(page) == ["grasp", "moe", "lora", HOSTILE, "broken"]
    assert header(page, "tail").get_attribute("aria-sort") == "ascending"
    header(page, "tail").find_element("tag name", "button").click()
    assert header(page, "tail").get_attribute("aria-sort") == "descending"
    assert methods(page) == [HOSTILE, "lora", "moe", "grasp", "broken"]  # no score: last either way


def test_rows_are_sorted_by_the_chosen_metric_and_group(page):
    choose(page, 'select[name="metric"]', "recall")
    assert header(page, "tail").get_attribute("aria-sort") == "descending"  # higher is better
    assert methods(page) == [HOSTILE, "moe", "lora", "grasp", "broken"]
    choose(page, 'select[name="metric"]', "fd")
    one(page, '.radio label:has([value="head"])').click()
    assert headers(page)[:5] == ["Rank", "Method", "Guidance", "head", "all"] or headers(page)[0] == "Method"
    assert header(page, "head").get_attribute("aria-sort") == "ascending"
    assert "in the head" in one(page, ".answer").text
    header(page, "Method").find_element("tag name", "button").click()
    choose(page, 'select[name="metric"]', "recall")
    assert methods(page) == sorted(methods(page), key=str.lower)  # the reader's own order stays


def test_filters_leave_what_fits_and_say_so_where_nothing_does(page):
    unfold(page)
    field = one(page, 'input[name="method"]')
    said = one(page, '[role="status"]')
    assert said.text == ""
    field.send_keys("OR")
    assert methods(page) == ["lora", HOSTILE]  # it has an "onerror"
    assert said.text == "2 of 5 rows."
    field.send_keys("acle")
    assert methods(page) == []
    assert said.text == "No row fits."
    field.clear()
    choose(page, 'select[name="guidance"]', "=none")
    assert methods(page) == ["moe"]
    choose(page, 'select[name="guidance"]', "=cfg")
    assert methods(page) == ["grasp", "lora", HOSTILE, "broken"]


def test_what_did_not_change_is_not_announced_again(page):
    page.execute_script(
        "window.changed = [];"
        "const watch = new MutationObserver(found => changed.push(...found.map(each => each.target.className)));"
        "document.querySelectorAll('.meaning, [role=status]').forEach(each => watch.observe(each, {childList: true}))"
    )
    unfold(page)
    one(page, 'input[name="method"]').send_keys("or")  # four methods, then two
    assert methods(page) == ["lora", HOSTILE]
    assert until(page, "window.changed") == ["found", "found"]
    choose(page, 'select[name="metric"]', "recall")
    assert until(page, "window.changed.slice(2)") == ["meaning"]


def test_columns_can_be_chosen(page):
    shown = ["Rank", "Method", "Guidance", "tail", "all", "Parameters", "NFE", "Problems"]
    assert headers(page) == shown
    unfold(page)
    for title in ("head", "Seeds", "Rank"):
        box = f"[...document.querySelectorAll('.columns label')].find(e => e.textContent === '{title}').firstChild"
        page.execute_script(f"{box}.click()")
    assert headers(page) == ["Method", "Guidance", "Seeds", "head", *shown[3:]]
    widths = page.execute_script("return [...document.querySelectorAll('.scores tr')].map(r => r.cells.length)")
    assert len(set(widths)) == 1  # the real reference's row too


def test_the_baseline_is_chosen(page):
    until(page, "document.querySelector('.forest svg')")
    choose(page, 'select[name="baseline"]', "moe")
    assert "difference to moe in percent, left is better" in one(page, ".forest figcaption").text
    until(page, "[...document.querySelectorAll('.forest svg text')].some(e => e.textContent === 'grasp')")
    texts = "[...document.querySelectorAll('.forest svg text')].map(e => [e.getBoundingClientRect().y, e.textContent])"
    names = [name for _, name in sorted(page.execute_script(f"return {texts}"))]
    first, second, third = (name for name in names if name in ("grasp", "moe", "lora") or name.startswith("<img"))
    assert (first, second) == ("grasp", "lora")
    assert third.startswith("<img")


def test_a_run_opens_with_its_command_scores_and_whole_record(page):
    one(page, ".runs summary").click()
    until(page, "document.querySelector('.open')")
    (broken,) = (each for each in page.find_elements("css selector", ".open") if each.text == "broken")
    broken.click()
    until(page, "document.querySelector('#run-body details')")
    dialog = one(page, "dialog")
    assert dialog.text.startswith("broken · cfg, seed 0")
    assert "grasp-bench run --method broken --task digits-lt" in dialog.text
    assert BREAKOUT in dialog.text
    one(page, "#run-close").click()
    assert not dialog.is_displayed()
    next(each for each in page.find_elements("css selector", ".open") if each.text == "grasp").click()
    until(page, "document.querySelector('#run-body details')")
    record = json.loads(page.execute_script("return document.querySelector('#run-body details pre').textContent"))
    assert record["label"] in dialog.text
    assert str(record["scores"][0]["value"]) in dialog.text
    assert "–: no interval. Distances and diversity have one over seeds alone" in dialog.text  # noqa: RUF001
    assert [each.text for each in dialog.find_elements("css selector", ".buttons button")] == [
        "record.json",
        "train.jsonl",
        "classes.csv",
    ]


def test_a_download_is_the_file(page, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    one(page, ".runs summary").click()
    until(page, "document.querySelector('.open')")
    page.find_elements("css selector", ".runs button.open")[1].click()
    until(page, "document.querySelector('#run-body details')")
    one(page, "#run-body .buttons button").click()
    whole = page.execute_script("return document.querySelector('#run-body details pre').textContent")
    assert downloaded(tmp_path / "record.json") == whole.encode()


def downloaded(path):
    for _ in range(100):
        if path.exists():
            break
        time.sleep(0.05)
    return path.read_bytes()


def open_run(page, label):
    unfold(page)
    until(page, "document.querySelector('.open')")
    page.execute_script(
        "[...document.querySelectorAll('.open')].find(each => each.textContent === arguments[0]).click()", label
    )


def test_a_log_that_cannot_be_read_is_said_to_be_and_downloaded_to_the_byte(page, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    open_run(page, "broken")
    until(page, "document.querySelector('#run-body details')")
    assert "It cannot be read; the download is the file, unchanged." in one(page, "dialog").text
    one(page, "#run-body .buttons button:nth-child(2)").click()
    assert downloaded(tmp_path / "train.jsonl") == CUT_OFF


def test_a_run_that_is_opened_twice_is_shown_once(page):
    unfold(page)
    until(page, "document.querySelector('.open')")
    page.execute_script(
        "const button = document.querySelector('.open'); button.click(); button.click();"
        "document.querySelector('dialog').close(); button.click()"
    )
    until(page, "document.querySelector('#run-body details')")
    time.sleep(0.2)  # for the others to come
    assert len(page.find_elements("css selector", "#run-body .buttons")) == 1
    assert len(page.find_elements("css selector", "#run-body details")) == 1


def test_settings_of_a_guidance_are_text(page):
    open_run(page, HOSTILE)
    until(page, "document.querySelector('#run-body details')")
    assert f"cfg (version 1) schedule={HOSTILE}" in one(page, "dialog .facts").text
    assert page.find_elements("css selector", "dialog img") == []


def test_files_that_cannot_be_unpacked_are_said_to_lie_elsewhere(driver, tmp_path):
    site = make_page(make_results(tmp_path / "results", {"grasp": 90.0}, seeds=1), tmp_path / "site")
    source = site.read_text()
    held = source.partition('<script type="application/gzip" id="data">')[2].partition("</script>")[0]
    data = gzip.decompress(b64decode(held)).decode()
    assert data.count('"train.jsonl":"') == 2
    broken = gzip.compress(data.replace('"train.jsonl":"', '"train.jsonl":"AAAA').encode())
    site.write_text(source.replace(held, b64encode(broken).decode()))
    with opened(driver, site.as_uri()) as page:
        open_run(page, "grasp")
        until(page, "document.querySelector('#run-body .quiet')")
        assert one(page, "dialog").text.endswith(
            "The record and log of this run cannot be unpacked here; they lie in the results folder."
        )


def test_a_record_that_only_python_reads_is_said_to_be_and_shown_as_it_is(driver, tmp_path):
    save(tmp_path, record("grasp", 0, [metric("recall", "tail", 0.5)], diagnostics=[{"share": 0.25}]))
    path = tmp_path / "digits-lt" / "grasp" / "seed-0" / "record.json"
    path.write_text(path.read_text().replace("0.25", "NaN"))  # which is no JSON
    with opened(driver, make_page(tmp_path, tmp_path / "site").as_uri()) as page:
        open_run(page, "grasp")
        until(page, "document.querySelector('#run-body details')")
        assert "It cannot be read; the download is the file, unchanged." in one(page, "dialog").text
        shown = page.execute_script("return document.querySelector('#run-body details pre').textContent")
        assert shown == path.read_text()


def test_the_theme_follows_the_system_until_it_is_chosen(page):
    def background():
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = background()
    assert one(page, "#theme").text == "Switch to dark colours"
    prefer(page, "dark")
    dark = background()
    assert light != dark
    until(page, "document.querySelector('#theme').textContent === 'Switch to light colours'")
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
    page.execute_script("document.querySelector('.scores th.method button').focus()")
    press(Keys.ENTER)
    assert methods(page) == sorted(methods(page), key=str.lower)
    assert focused() == "Method ▲" or focused().startswith("Method")  # the header that was pressed
    page.execute_script("document.querySelector('.radio input:checked').focus()")
    press(Keys.ARROW_RIGHT)
    assert page.execute_script("return document.activeElement.value") == "all"
    assert "in all classes" in one(page, ".answer").text
    page.execute_script("document.querySelector('.runs summary').focus()")
    press(Keys.ENTER)
    until(page, "document.querySelector('.open')")
    press(Keys.TAB, Keys.TAB, Keys.ENTER)  # the list that scrolls, its first run
    until(page, "document.querySelector('dialog').open")
    press(Keys.ESCAPE)
    assert not one(page, "dialog").is_displayed()
    assert focused() == "open"  # back where it was


def test_charts_follow_the_metric_and_the_chosen_colours(page):
    assert one(page, '.charts[data-metric="fd"]').is_displayed()
    choose(page, 'select[name="chart"]', "recall")
    assert not one(page, '.charts[data-metric="fd"]').is_displayed()
    until(page, "document.querySelector('.charts[data-metric=recall] svg')")
    assert one(page, '.charts[data-metric="recall"] svg').is_displayed()
    key = one(page, '.key[data-method="lora"]')
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    until(page, "document.querySelectorAll('.charts[data-metric=recall] svg [fill=\"var(--muted)\"]').length")
    key.click()
    until(page, "!document.querySelectorAll('.charts[data-metric=recall] svg [fill=\"var(--muted)\"]').length")


def test_a_tooltip_has_the_whole_name_as_text(page):
    until(page, "document.querySelector('.forest svg path[aria-roledescription=\"point\"]')")
    from selenium.webdriver import ActionChains

    mark = page.find_elements("css selector", '.forest svg path[aria-roledescription="point"]')[-1]
    ActionChains(page).move_to_element(mark).perform()
    until(page, "document.querySelector('#vg-tooltip-element.visible')")
    assert HOSTILE in one(page, "#vg-tooltip-element").text
    assert page.find_elements("css selector", "#vg-tooltip-element img") == []


def images(page, what="src"):
    return [each.get_attribute(what) for each in page.find_elements("css selector", ".strips img")]


def test_images_follow_the_class_and_the_seed(page):
    first = images(page)
    assert len(first) == 5  # four methods below real images
    assert one(page, '.samples select[name="class"]').get_attribute("value") == "quince"  # the rarest
    for name in ("apple", PEAR):
        choose(page, '.samples select[name="class"]', name)
        assert all(a != b for a, b in zip(first, images(page), strict=True))
        assert f"Images of class {name} by lora, seed 0" in images(page, "alt")
    choose(page, '.samples select[name="class"]', "quince")
    assert images(page) == first
    choose(page, '.samples select[name="seed"]', "1")
    other = images(page)
    assert other[0] == first[0]  # real ones have no seed
    assert all(a != b for a, b in zip(first[1:], other[1:], strict=True))


def test_what_a_browser_puts_back_is_what_is_shown(page):
    choose(page, '.samples select[name="class"]', "apple")
    choose(page, '.samples select[name="seed"]', "1")
    choose(page, 'select[name="metric"]', "recall")
    choose(page, 'select[name="chart"]', "recall")
    shown = images(page)
    page.get("about:blank")
    page.back()
    until(page, "document.readyState === 'complete' && document.querySelector('[name=seed]').value === '1'")
    until(page, "document.querySelector('.strips figure:last-child img').alt.endsWith('seed 1')")
    assert images(page) == shown
    assert header(page, "tail").get_attribute("aria-sort") == "descending"
    assert one(page, '.charts[data-metric="recall"]').is_displayed()
    assert not one(page, '.charts[data-metric="fd"]').is_displayed()


@pytest.mark.parametrize("width", [360, 768])
def test_no_page_is_wider_than_its_window(page, width):
    resize(page, width, 800)
    unfold(page)
    choose(page, 'select[name="guidance"]', "*")
    until(page, "document.querySelector('.open')")
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
    assert "Fréchet distance" in one(page, "#glossary").get_attribute("textContent")  # folded
    assert text.count("The numbers") >= 7  # tables that open without script
    assert "105.5 ± 2.5" in text

"""Rows of the open division on the page, in a browser: their column, their chip, and hostile words that stay words."""

import time

import pytest
from helpers.records import found_runs, metric, opened, record, save

from grasp_bench.results.site import write_site
from results.site.browser import chromium, console_messages, requested, resize
from results.site.results import BREAKOUT, HOSTILE

pytestmark = pytest.mark.slow
BASES = {"vanilla-ft": 300.0, "lora": 250.0, "grasp": 120.0}
CHOOSE = """
const chip = document.querySelector('select[name=division]');
chip.value = 'open';
chip.dispatchEvent(new Event('input', {bubbles: true}));
"""


def scores(base: float, seed: int) -> list:
    return [
        metric("fd", "tail", base + (seed * 7 + int(base)) ** 2 % 11, lower=True, floor=50.0),
        metric("coverage", "tail", 0.9 - base / 1000 + 0.001 * seed),
    ]


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)], ids=["laptop", "phone"])
def test_open_rows_have_a_column_and_a_chip_and_are_not_in_the_sentence(size, tmp_path):
    closed = [record(name, seed, scores(base, seed)) for name, base in BASES.items() for seed in range(5)]
    entry = opened(record(HOSTILE, 0, scores(30.0, 0), label="mine"), trainer=BREAKOUT, trainable_parameters=650_000)
    save(tmp_path / "results", *closed, entry)
    page = write_site(found_runs(tmp_path / "results"), tmp_path / "site")
    with chromium() as driver:
        resize(driver, *size)
        driver.get(page.as_uri())
        for _ in range(200):
            if rows := driver.find_elements("css selector", ".scores tbody tr"):
                break
            time.sleep(0.05)
        assert driver.find_element("css selector", ".answer").text.startswith("grasp has the lowest mean")
        assert len(rows) == 4
        first = rows[0].text
        assert HOSTILE in first
        if size[0] > 1000:
            assert "open" in first
            assert "650,000 declared" in first
        chip = driver.find_element("css selector", "select[name=division]")
        assert chip.is_displayed()
        driver.execute_script(CHOOSE)
        assert [row.text.startswith(HOSTILE) for row in driver.find_elements("css selector", ".scores tbody tr")] == [
            True
        ]
        assert driver.execute_script("return document.documentElement.scrollWidth") == size[0]
        assert driver.title != "owned"
        assert console_messages(driver) == []
        assert {each for each in requested(driver) if not each.startswith(page.parent.as_uri())} == set()

"""The page of several tasks in a browser: chips that show one of them, by mouse, by keys and by the address."""

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from results.site.browser import chromium, console_messages, requested, resize
from results.site.results import make_page, make_results

pytestmark = pytest.mark.slow

SHOWN = """
return [...document.querySelectorAll('.board')].filter((each) => each.checkVisibility()).map((each) => each.id);
"""
CHOSEN = "return [...document.querySelectorAll('nav .chip[aria-current=\"true\"]')].map((each) => each.hash)"


def become(driver, boards):
    """Wait until these boards alone are shown: the browser tells the page of a new address in its own time."""
    WebDriverWait(driver, 10).until(lambda there: there.execute_script(SHOWN) == boards)


def test_a_chip_shows_one_task_and_another_all(tmp_path) -> None:
    for task in ("digits-lt", "birds"):
        make_results(tmp_path / "results", {"grasp": 90.5, "lora": 120.25}, task=task)
    page = make_page(tmp_path / "results", tmp_path / "site")
    with chromium() as driver:
        for width, height in ((1440, 900), (390, 844)):
            resize(driver, width, height)
            driver.get(page.as_uri())
            chips = driver.find_elements("css selector", "nav .chip")
            assert [each.text.split(" <")[0] for each in chips] == ["all tasks", "birds", "digits-lt"]
            become(driver, ["board-1", "board-2"])
            assert driver.execute_script(CHOSEN) == ["#top"]
            chips[2].click()
            become(driver, ["board-2"])
            assert driver.execute_script(CHOSEN) == ["#board-2"]
            assert "has the lowest mean" in driver.find_element("css selector", "#board-2 .answer").text
            assert driver.execute_script("return document.documentElement.scrollWidth") == width
        chips[1].send_keys("\n")  # by keyboard
        become(driver, ["board-1"])
        driver.back()
        become(driver, ["board-2"])
        driver.execute_script("location.hash = 'rules'")  # within the page
        become(driver, ["board-2"])
        chips[0].click()
        become(driver, ["board-1", "board-2"])
        driver.get(f"{page.as_uri()}#board-1")
        driver.refresh()
        become(driver, ["board-1"])
        assert console_messages(driver) == []
        assert all(each.startswith(page.as_uri()) for each in requested(driver))

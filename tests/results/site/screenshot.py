"""Pictures for the documentation: the first screen of the committed results' page, at two sizes, light and dark.

PYTHONPATH=tests python -m results.site.screenshot
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from helpers.records import found_runs

from grasp_bench.io import write_bytes
from grasp_bench.results.site import write_site
from results.site.browser import chromium, prefer, resize

ROOT = Path(__file__).parents[3]
SIZES = {"": (1440, 900), "-phone": (390, 844)}
SCHEMES = {"": "light", "-dark": "dark"}
DRAWN = "return document.querySelectorAll('.charts:not([hidden]) .chart svg').length > 2"


def main() -> None:
    """Write the page and the pictures of it."""
    with tempfile.TemporaryDirectory() as folder:
        pictures(write_site(found_runs(ROOT / "results"), Path(folder) / "site"), ROOT / "docs" / "images")


def pictures(page: Path, folder: Path) -> None:
    """Write the pictures of a page into a folder."""
    from selenium.webdriver.support.ui import WebDriverWait

    with chromium() as driver:
        for size, (width, height) in SIZES.items():
            for dark, scheme in SCHEMES.items():
                resize(driver, width, height)
                prefer(driver, scheme)
                driver.get(page.as_uri())
                WebDriverWait(driver, 30).until(lambda there: there.execute_script(DRAWN))
                write_bytes(folder / f"leaderboard{size}{dark}.png", driver.get_screenshot_as_png())


if __name__ == "__main__":
    main()

"""Pictures for the documentation: the leaderboard of the committed results, as a browser shows it.

PYTHONPATH=tests python -m results.site.screenshot [--out docs/images/leaderboard.png] [--scheme dark] [--width 390]
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from helpers.records import found_runs

from grasp_bench.io import write_bytes
from grasp_bench.results.site import write_site
from results.site.browser import chromium, prefer, resize

ROOT = Path(__file__).parents[3]
MOST_BYTES = 100_000
DRAWN = "return document.querySelectorAll('.charts:not([hidden]) .chart svg').length > 2"


def main() -> None:
    """Write the picture, with fewer colours where it takes that to stay below :data:`MOST_BYTES`."""
    from PIL import Image
    from selenium.webdriver.support.ui import WebDriverWait

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "leaderboard.png")
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--at", default="", help="CSS selector of what to scroll to")
    parser.add_argument("--click", default="", help="CSS selector of what to click first")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium() as driver:
        page = write_site(found_runs(arguments.results), Path(folder) / "site")
        resize(driver, arguments.width, arguments.height)
        prefer(driver, arguments.scheme)
        driver.get(page.as_uri())
        WebDriverWait(driver, 30).until(lambda there: there.execute_script(DRAWN))
        if arguments.at:
            driver.execute_script("document.querySelector(arguments[0]).scrollIntoView()", arguments.at)
        if arguments.click:
            driver.execute_script("document.querySelector(arguments[0]).click()", arguments.click)
        picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    for colours in (None, 256, 128, 64):
        buffer = io.BytesIO()
        fewer = picture.quantize(colours, dither=Image.Dither.NONE) if colours else picture
        fewer.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    write_bytes(arguments.out, buffer.getvalue())
    print(f"{arguments.out}: {buffer.tell():,} bytes")


if __name__ == "__main__":
    main()

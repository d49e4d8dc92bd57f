"""Makes the pictures of pages that README shows: `python docs/pictures.py PAGE[#ADDRESS] PNG`."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(page: str, picture: str) -> None:
    """Open a page in the system's Chromium and take its picture."""
    file, _, address = page.partition("#")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        opened = browser.new_page(viewport={"width": 1200, "height": 900})
        opened.goto(f"{Path(file).resolve().as_uri()}#{address}")
        opened.wait_for_selector("body[data-ready]")
        opened.wait_for_timeout(800)
        opened.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

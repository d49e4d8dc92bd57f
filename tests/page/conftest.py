"""A real browser from the system, which may reach nothing but the page's own file."""

import shutil
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

sys.path.append(str(Path(__file__).parents[1] / "judge"))  # sides with faults planted

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail(f"no {NAMES[0]} here; next: apt-get install {NAMES[0]}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Give a function that opens a page; behind the test, nothing was complained of or fetched."""
    complaints, contexts = [], []

    def open_page(file, address="", **looks):
        context = browser.new_context(viewport={"width": 1400, "height": 900}, **looks)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda asked: asked_for(asked.url, file))
        page.goto(f"{file.as_uri()}{address}")
        page.wait_for_selector("body[data-ready]")
        return page

    def asked_for(url, file):
        if not url.startswith((file.as_uri(), "blob:", "data:")):
            complaints.append(f"a request for {url}")

    open_page.complaints = complaints
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []

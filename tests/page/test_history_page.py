"""The page of a history: its steps, a cell's curve, and names that are text."""

import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

sys.path.append(str(Path(__file__).parents[1] / "history"))
from nights import cells_of, page_data, ratios, write_night

from harness.page.writing import write_page

EVIL = "<img src=x onerror=alert(1)>"
STEPPED = "family1-v1.bridge.bfloat16"


@pytest.fixture
def file(tmp_path):
    """Write the page of forty nights, from the thirtieth on with another transformers."""
    runs = tmp_path / "runs"
    for day in range(40):
        values = ratios(6, seed=day)
        values[1] *= 80.0 if day >= 30 else 1.0
        version = f"5.10.0{EVIL}" if day >= 30 else "5.9.0"
        columns = cells_of(values, n_families=3)
        write_night(runs, day, columns, packages={"transformers": version})
    write_night(runs, 50, cells_of([1.0]), schema_version=1)
    write_page(page_data(runs), tmp_path / "history.html")
    return tmp_path / "history.html"


def test_it_shows_the_step_with_its_run_and_what_changed(file, opened):
    page = opened(file)
    assert page.locator("#steps").inner_text() == "steps (1 of 1)"
    step = page.locator("tr.step").inner_text()
    assert "night030" in step
    assert f"transformers 5.9.0 → 5.10.0{EVIL}" in step
    assert page.locator("tr.step svg path").count() == 1
    assert "left out: night050: " in page.locator(".alarm").inner_text()


def test_a_cell_has_its_curve_with_the_step_marked(file, opened):
    page = opened(file)
    page.locator(f"tr.step [data-cell='{STEPPED}']").click()
    page.wait_for_selector("#curve .scatterlayer")
    assert "night030: value" in page.locator("#cell-steps").inner_text()
    assert page.locator("#curve .shapelayer path").count() == 1
    page.keyboard.press("Escape")
    expect(page.locator("#overview")).to_be_visible()


def test_it_is_filtered_to_a_family(file, opened):
    page = opened(file, "#filter=family2")
    assert page.locator("#steps").inner_text() == "steps (0 of 1)"
    assert page.locator("#shown").inner_text() == "2 of 6 cells"

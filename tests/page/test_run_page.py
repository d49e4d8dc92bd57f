"""The page of a run, opened from disk in a real browser."""

import shutil

import pytest
from playwright.sync_api import expect

from harness.case import Case, Cell
from harness.measure.references import References
from harness.measure.run import Plan, measure_cell
from harness.measure.writing import open_run, write_result
from harness.page.writing import data_of, html, write_page
from harness.record import read_cells, read_positions

FAILING = "gpt2-default.bridge_compat.float32"
PLANTED = """document.body.append(
    Object.assign(document.createElement("script"), {textContent: "window.ran = 1"})
)"""
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Measure GPT-2 and Llama; what GPT-2's processing does is called a difference."""
    folder = tmp_path_factory.mktemp("runs") / "a-run"
    open_run(folder, selection={}, plan={"relation": "equal"})
    references = References()
    for family, mode, dtype in (
        ("gpt2", "bridge", "exact"),
        ("gpt2", "bridge_compat", "float32"),
        ("llama", "hf_sdpa", "float32"),
        ("llama", "hf_sdpa", "bfloat16"),
    ):
        cell = Cell(case=Case(family=family), loading_mode=mode, dtype=dtype)
        plan = Plan(relation="equal", shrink_seconds=2.0)
        write_result(folder, measure_cell(cell, run_id="a-run", references=references, plan=plan))
    probe = Cell(case=Case(family="gpt2"), loading_mode="hf_eager", dtype="exact", probe="batch")
    write_result(folder, measure_cell(probe, run_id="a-run", references=references, plan=Plan()))
    return folder


@pytest.fixture(scope="session")
def file(run, tmp_path_factory):
    file = tmp_path_factory.mktemp("pages") / "run.html"
    write_page(data_of(run), file)
    return file


def test_it_shows_every_cell_with_a_mark_beside_the_colour(file, opened):
    page = opened(file)
    assert page.locator("#headline").inner_text().startswith("5 cells: ✓ 4 pass · ✗ 1 fail")
    assert page.locator("[data-cell]").count() == 5
    assert page.locator(f"[data-cell='{FAILING}']").inner_text().startswith("✗")


def test_it_is_filtered_to_a_family_by_keyboard_and_back(file, opened):
    page = opened(file)
    page.keyboard.press("/")
    page.keyboard.type("llama")
    expect(page.locator("[data-cell]")).to_have_count(2)
    assert page.locator("#shown").inner_text() == "2 of 5 cells"
    page.keyboard.press("Escape")
    expect(page.locator("[data-cell]")).to_have_count(5)


def test_a_filter_that_nothing_matches_says_so(file, opened):
    page = opened(file, "#filter=nowhere")
    assert "No cell matches" in page.locator("#overview").inner_text()


def test_a_failing_cell_is_opened_and_names_its_first_divergence(run, file, opened):
    page = opened(file)
    page.keyboard.press("n")
    page.wait_for_selector("#cell-name")
    row = read_cells(run).set_index("cell_id").loc[FAILING]
    assert page.locator("#cell-name").inner_text() == FAILING
    assert page.locator("#first-site").inner_text() == f"first divergence: {row.first_site}"
    assert row.first_site in page.locator("#message").inner_text()
    assert "✗ first" in page.locator("#map").inner_text()  # marked in the heat map
    assert page.locator("#curve .scatterlayer .trace").count() == 2  # the port and the noise
    assert not page.locator("#overview").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview", state="visible")


def test_the_tokens_of_the_smallest_prompt_have_their_differences(run, file, opened):
    page = opened(file, f"#cell={FAILING}")
    positions = read_positions(run, cell=FAILING)
    assert page.locator("#tokens .token").count() == len(positions)
    assert page.locator("#tokens .worst").count() >= 1
    assert f"{positions.max_abs.max():.2g}" in page.locator("#tokens h2").inner_text()


def test_the_replay_command_is_copied(file, opened):
    page = opened(file, f"#cell={FAILING}")
    page.get_by_text("copy replay command").click()
    page.wait_for_selector("text=copied")
    assert page.evaluate("navigator.clipboard.readText()") == f"harness replay a-run {FAILING}"


def test_a_deep_link_opens_its_cell_and_a_wrong_one_says_so(file, opened):
    page = opened(file, "#cell=llama-default.hf_sdpa.bfloat16")
    assert page.locator("#cell-verdict").inner_text().startswith("✓ pass")
    assert "There is no cell llama-missing" in opened(file, "#cell=llama-missing").inner_text(
        "#cell"
    )


def test_arrows_move_and_enter_opens(file, opened):
    page = opened(file)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    wanted = page.evaluate("document.activeElement.dataset.cell")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cell-name")
    assert page.locator("#cell-name").inner_text() == wanted


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_and_dark(scheme, file, opened):
    ground = opened(file, color_scheme=scheme).evaluate(
        "getComputedStyle(document.body).backgroundColor"
    )
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_names_from_models_are_text_and_never_run(run, tmp_path, opened):
    data = data_of(run)
    data["title"] = EVIL
    data["alarms"] = [EVIL]
    data["messages"] = dict.fromkeys(data["messages"], EVIL)
    for column in ("cell_id", "group", "variant", "reason", "first_site"):
        names = data["cells"][column]["names"]
        data["cells"][column]["names"] = [f"{EVIL}{name}" for name in names]
    data["sites"]["site"]["names"] = [f"{name}{EVIL}" for name in data["sites"]["site"]["names"]]
    data["prompts"] = {f"{EVIL}{name}": prompt for name, prompt in data["prompts"].items()}
    for prompt in data["prompts"].values():
        prompt["tokens"] = [[EVIL, *row[1:]] for row in prompt["tokens"]]
    file = tmp_path / "evil.html"
    write_page(data, file)
    page = opened(file)
    assert page.locator("h1").inner_text() == EVIL
    page.keyboard.press("n")
    page.wait_for_selector("#cell-name")
    assert page.locator("#cell-name").inner_text().startswith(EVIL)
    assert page.locator("main script").count() == 0


def test_a_folder_of_markup_is_a_name(run, tmp_path, opened):
    folder = tmp_path / EVIL  # its slash makes two folders of it
    shutil.copytree(run, folder)
    file = folder / "run.html"
    write_page(data_of(folder), file)
    assert opened(file).locator("[data-cell]").count() == 5


def test_only_the_pages_own_scripts_may_run(file, opened):
    page = opened(file)
    page.evaluate(PLANTED)
    assert page.evaluate("window.ran") is None
    assert "Content Security Policy" in opened.complaints.pop()


def test_the_page_asks_for_nothing(file):
    text = file.read_text()
    assert "src=" not in text.partition('id="data"')[0]
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text


def test_the_same_run_is_the_same_page(run):
    assert html(data_of(run)) == html(data_of(run))

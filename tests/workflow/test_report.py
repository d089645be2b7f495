"""`snakemake --report`, opened in a browser and clicked through."""

from __future__ import annotations

import itertools
import shutil
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.workflow.running import Workflow

pytest.importorskip("pygments", reason="needs snakemake[reports]")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
WINDOWS = (1500, 900), (1280, 720)  # pixels
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXPECTED = {
    "Ablations": {"Table 2: CCTF and PMCA after step 2 (table)"},
    "Data": {"refs, expressions and masks (table)"},
    "Examples": {"Figure 5: step by step, refshapes (figure)", "by share of masks, refshapes (figure)"},
    "Failures": {"refshapes (figure)", "refshapes (table)"},
    "Pseudo masks": {"distribution of D (figure)", "kept and their true IoU (table)"},
    "Results": {
        "Table 1: mIoU and oIoU (table)", "boxes after step 1 (table)", "every score (table)",
        "mIoU by mask ratio (figure)", "the paper's claims (table)",
    },
    "Training": {"loss of every training (figure)"},
}  # fmt: skip


@pytest.fixture(scope="module")
def report(done, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(done.folder, folder / "run")
    workflow, config = Workflow(done.checkout, folder / "run"), {"report": {"table2": ["baseline", "ours"]}}
    workflow(config=config)
    workflow("--report", folder / "report.html", config=config)
    return folder / "report.html"


@pytest.fixture(scope="module")
def problems() -> list[str]:
    """Errors that the page logs."""
    return []


@pytest.fixture(scope="module")
def page(report, problems) -> Iterator[Any]:
    if not BROWSER:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(60_000)  # test machines are busy with other work
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(report.as_uri())
        yield page
        browser.close()


def test_the_report_says_what_the_figures_show_and_how_the_workflow_was_set(report):
    text = report.read_text()
    for words in ("kept and their true IoU", "projection dice loss", "learned from every box", "train_res"):
        assert words in text


def test_the_report_comes_as_a_folder_too(done):
    done("--report", done.folder.parent / "report.zip")
    names = zipfile.ZipFile(done.folder.parent / "report.zip").namelist()
    assert any(name.endswith("ratio_curve.png") for name in names) and any(name.endswith(".html") for name in names)


def test_the_menu_has_every_category(page):
    items = [text for text in page.locator("nav li a").all_inner_texts() if text]  # the first is an icon
    assert items == ["Workflow", "Statistics", "About", *EXPECTED]


def test_the_first_page_says_what_ran_for_how_long_and_with_which_scores(page, problems):
    lines = page.locator("#app li").all_inner_texts()
    starts = ("What ran, by share of masks: baseline at 10, 100 % (oracle); ours at 10 %",
              "Data: RefShapes: 36 training", "Code: commit ", "Time: ",
              "mIoU on RefShapes val with 10 % of the masks: Baseline ")  # fmt: skip
    assert [sum(line.startswith(start) for line in lines) for start in starts] == [1] * len(starts) and problems == []


@pytest.mark.parametrize("category", EXPECTED)
def test_every_entry_of_a_category_shows_when_it_is_clicked_and_is_not_cut_by_the_window(page, problems, category):
    page.reload()
    page.get_by_role("link", name=category, exact=True).click()
    rows = page.locator("nav tbody tr")
    rows.first.wait_for()
    assert set(rows.locator("td:first-child").all_inner_texts()) == EXPECTED[category]
    assert page.locator("nav fieldset").count() == 0  # no toggles: their other side may lack an entry
    for (width, height), row in itertools.product(WINDOWS, rows.all()):
        page.set_viewport_size({"width": width, "height": height})
        kind = row.locator("td").first.inner_text().rsplit("(", 1)[1][:-1]
        row.locator("a").first.click()
        if kind == "figure":
            page.wait_for_function("document.querySelector('#app .grow img')?.naturalWidth > 300")
            place = page.locator("#app .grow img").bounding_box()
            assert place["x"] >= 0 and place["x"] + place["width"] <= width
            assert place["y"] >= 0 and place["y"] + place["height"] <= height
        else:
            table = page.frame_locator("#app iframe").locator("table").first
            table.wait_for()
            assert len(table.inner_text()) > 50
            grids = page.frame_locator("#app iframe").locator(".wide")
            grids.first.wait_for()
            assert grids.evaluate_all("all => all.every(each => each.scrollWidth <= each.clientWidth)")
    rows.first.locator("a").nth(1).click()  # opens the first entry's description
    page.get_by_text("Snakemake rule").first.wait_for()
    assert problems == []


@pytest.mark.parametrize("entry", ["Workflow", "Statistics", "About"])
def test_the_general_entries_show(page, problems, entry):
    page.reload()
    page.get_by_role("link", name=entry, exact=True).click()
    page.wait_for_timeout(300)
    assert len(page.locator("#app").inner_text()) > 100 and problems == []

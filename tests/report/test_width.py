"""The widest table fits the narrowest window of the report that the project promises: 1280 x 720 pixels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from partialres.report import comparison, evaluations, intervals, render

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BESIDE_THE_MENU = 950  # pixels that the report leaves for a table in a window 1280 pixels wide


@pytest.mark.skipif(not BROWSER, reason="there is no chromium")
def test_table_1_of_three_splits_with_deviations_and_published_scores_needs_no_scrolling(
    scored: Callable[..., Path], tmp_path: Path
) -> None:
    runs = ("1/baseline/res", "1/ours/res", "1/ours/retrain", "100/baseline/res")
    paths = [
        scored(f"refcoco/seed{seed}/ratio{run}", split, mIoU=40 + 13 * place + seed, oIoU=39.0 + seed)
        for place, run in enumerate(runs)
        for seed in (0, 1)
        for split in ("val", "testA", "testB")
    ]
    table = comparison.table1(evaluations.collect(paths), intervals.read_scores(paths), "baseline")
    render.write(table, tmp_path / "table1.csv")
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": BESIDE_THE_MENU, "height": 720})
        page.goto((tmp_path / "table1.html").as_uri())
        widths = page.evaluate(
            "[...document.querySelectorAll('.wide')].map(each => [each.scrollWidth, each.clientWidth])"
        )
        browser.close()
    assert len(widths) == 2 and all(needed <= given for needed, given in widths), widths

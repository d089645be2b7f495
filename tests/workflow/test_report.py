"""`snakemake --report`, opened in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from html import unescape

import pytest

pytest.importorskip("pygments", reason="needs snakemake[reports]")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXPECTED = {
    "Ablations": {"results/figures/forest_refshapes.png"},
    "Data": {"results/tables/data.html"},
    "Examples": {f"results/figures/{name}_refshapes.png" for name in ("qualitative", "steps")},
    "Failures": {"results/figures/failures_refshapes.png", "results/tables/failures_refshapes.html"},
    "Pseudo masks": {"results/figures/pseudo.png", "results/tables/pseudo.html"},
    "Results": {
        f"results/{name}"
        for name in ("figures/ratio_curve.png", "tables/table1.html", "tables/details.html", "tables/rec.html")
    },
    "Training": {"results/figures/training.png"},
}
# Before everything: note errors. After everything: show every result as a click on it does, and measure it.
LISTEN = """<script>
window.problems = [];
window.onerror = (...error) => { problems.push(String(error[0])) };
console.error = (...words) => { problems.push(words.join(" ")) };
</script>"""
LOOK = """<script>
setTimeout(async () => {
  const sizes = {};
  for (const [path, result] of Object.entries(results)) {
    const image = path.endsWith(".png");
    app.setView({ content: image ? "img" : "html", contentPath: result.data_uri });
    await new Promise(done => setTimeout(done, 300));
    const shown = document.querySelector(image ? "#app .grow img" : "#app iframe");
    sizes[path] = shown && (image ? shown.naturalWidth : shown.clientWidth);
  }
  const groups = Object.fromEntries(Object.entries(categories).map(
    ([name, entries]) => [name, Object.values(entries).flat()]));
  const found = document.createElement("pre");
  found.id = "found";
  found.textContent = JSON.stringify({ sizes, groups, problems });
  document.body.append(found);
}, 1000);
</script>"""


@pytest.fixture(scope="module")
def page(done) -> str:
    done("--report", done.folder.parent / "report.html")
    return (done.folder.parent / "report.html").read_text()


def test_the_report_says_what_the_figures_show_and_how_the_workflow_was_set(page):
    for words in ("kept and their true IoU", "projection dice loss", "learned from every box", "train_res"):
        assert words in page


def test_the_report_comes_as_a_folder_too(done):
    done("--report", done.folder.parent / "report.zip")
    names = zipfile.ZipFile(done.folder.parent / "report.zip").namelist()
    assert any(name.endswith("ratio_curve.png") for name in names) and any(name.endswith(".html") for name in names)


@pytest.mark.skipif(not BROWSER, reason="there is no chromium")
def test_every_figure_and_table_shows_and_no_error_appears(page, tmp_path):
    head, rest = page.split("<head>", 1)
    body, end = rest.rsplit("</body>", 1)
    (tmp_path / "report.html").write_text(f"{head}<head>{LISTEN}{body}{LOOK}</body>{end}")
    answer = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    match = re.search(r'<pre id="found">(.*?)</pre>', answer.stdout, re.DOTALL)
    assert match, answer.stderr[-2000:]
    found = json.loads(unescape(match[1]))
    assert found["problems"] == []
    assert {name: set(paths) for name, paths in found["groups"].items()} == EXPECTED
    assert set(found["sizes"]) == set().union(*EXPECTED.values())
    assert all(width and width > 300 for width in found["sizes"].values()), found["sizes"]

"""The commands turn files into a table in three formats or a figure in two, with the same bytes every time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from partialres.cli.report import figures, tables
from partialres.geometry import contour

Write = Callable[..., Path]


def run(group: object, *arguments: object) -> Result:
    return CliRunner().invoke(group, [str(each) for each in arguments])  # type: ignore[arg-type]


@pytest.fixture
def folder(runs: list[Path], scored: Write, selected: Write, tmp_path: Path) -> Path:
    """Results with every kind of file that the commands read."""
    results = tmp_path / "results"
    square = np.zeros((30, 40), dtype=bool)
    square[5:25, 10:30] = True
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images/0.png")
    rows = [
        {
            "ref_id": ref_id, "image_id": 0, "file_name": "0.png", "height": 30, "width": 40, "split": "val",
            "bbox": [10.0, 5.0, 20.0, 20.0], "mask": contour.encode(square), "parts": [[0.0]], "expressions": ["x"],
        }
        for ref_id in range(100)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(results / "refshapes/refs.parquet")
    for path in results.rglob("predictions.parquet"):
        table = pd.read_parquet(path).assign(box_iou=0.6, mask=contour.encode(square))
        table.assign(points=[[[10.0, 5.0], [30.0, 5.0], [30.0, 25.0]]] * len(table)).to_parquet(path)
    scored("refshapes/seed0/rec/points")
    for seed in (0, 1):
        pseudo = selected(f"refshapes/seed{seed}/ratio1/ours").parent
        pd.DataFrame({"d": [0.05, 0.3]}).to_parquet(pseudo / "points.parquet")
        pd.DataFrame({"labelled": [True]}).to_parquet(pseudo.parents[1] / "split.parquet")
        pd.DataFrame({"step": [1, 10], "loss": [3, 2]}).to_csv(pseudo.parent / "res/metrics.csv")
    return results


def asked(folder: Path, name: str, turned: int = 1) -> list[object]:
    """A command's arguments, without --out."""
    every = sorted(folder.glob("*/seed*/ratio*/*/*/*/metrics.json"))[::turned]
    val = [path for path in every if path.parent.name == "val"]
    refs, oracle = folder / "refshapes/refs.parquet", ["--oracle", "baseline"]
    selections = sorted(folder.rglob("selection.json"))[::turned]
    predictions = sorted(folder.glob("*/seed0/ratio1/*/*/val/predictions.parquet"))
    arguments: dict[str, list[object]] = {
        "tables main": [*every, *oracle],
        "tables claims": every,
        "tables comparison": [
            *every, "--row", "ours", "res", "--row", "ours", "retrain", "--title", "T", *oracle,
            *(text for path in selections for text in ("--selection", path)),
        ],
        "tables failures": [refs, *val, *oracle, "--figure", folder / "failures.png"],
        "tables data": [refs, "--split", folder / "refshapes/seed0/ratio1/split.parquet"],
        "tables details": [*every, *oracle],
        "tables rec": list(folder.glob("*/seed*/rec/*/*/metrics.json")),
        "tables pseudo": selections,
        "figures ratio-curve": [*every, *oracle],
        "figures heads": [*val, "--head", "ours", *oracle],
        "figures training": sorted(folder.rglob("metrics.csv"))[::turned],
        "figures pseudo": [*sorted(folder.rglob("points.parquet"))[::turned], "--threshold", 0.1, "--threshold", 0.1],
        "figures qualitative": [
            refs, *predictions, *["--label", "a model"] * len(predictions), "--image-folder", folder.parent / "images"
        ],
    }  # fmt: skip
    return arguments[name]


TABLES = ["main", "claims", "comparison", "failures", "data", "details", "rec", "pseudo"]
FIGURES = ["ratio-curve", "heads", "training", "pseudo", "qualitative"]


def test_every_command_is_tested() -> None:
    assert (sorted(tables.commands), sorted(figures.commands)) == (sorted(TABLES), sorted(FIGURES))


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_the_same_csv_markdown_and_html_whatever_the_order_of_files(folder: Path, name: str) -> None:
    written = []
    for place, turned in enumerate((1, -1)):
        out = folder.parent / f"{place}.csv"
        answer = run(tables, name, *asked(folder, f"tables {name}", turned), "--out", out)
        assert answer.exit_code == 0, answer.output
        written.append([out.with_suffix(f".{kind}").read_bytes() for kind in ("csv", "md", "html")])
    assert written[0] == written[1] and all(written[0])


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_the_same_png_and_pdf_each_time_and_leave_no_style_behind(folder: Path, name: str) -> None:
    before, written = dict(matplotlib.rcParams), []
    for place, turned in enumerate((1, -1)):
        out = folder.parent / f"{place}.png"
        answer = run(figures, name, *asked(folder, f"figures {name}", turned), "--out", out)
        assert answer.exit_code == 0, answer.output
        written.append([out.read_bytes(), out.with_suffix(".pdf").read_bytes()])
    assert written[0] == written[1]
    assert written[0][0].startswith(b"\x89PNG") and written[0][1].startswith(b"%PDF")
    assert not any(b"CreationDate" in content or b"Matplotlib" in content for content in written[0])
    assert dict(matplotlib.rcParams) == before
    width, height = Image.open(folder.parent / "0.png").size
    assert width > height


def test_what_is_asked_wrongly_ends_in_a_message(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    answer = run(tables, "comparison", *asked(folder, "tables comparison"), "--row", "ours", "pseudo", "--out", out)
    assert answer.exit_code == 2 and "'pseudo' is not one of 'res', 'retrain'" in answer.output
    answer = run(figures, "qualitative", *asked(folder, "figures qualitative"), "--label", "more", "--out", out)
    assert answer.exit_code == 2 and "one --label per file" in answer.output
    assert not out.exists()


@pytest.mark.parametrize("command", [*tables.commands.values(), *figures.commands.values()], ids=lambda each: each.name)
def test_a_report_of_no_files_is_refused(command: object, tmp_path: Path) -> None:
    answer = run(command, "--out", tmp_path / "out")
    assert answer.exit_code == 2 and re.search(r"Missing argument '(FILES|REFS)", answer.output)


def test_importing_the_commands_loads_no_plotting_library() -> None:
    code = (
        "import sys, partialres.cli.report; print([m for m in ('matplotlib', 'scipy', 'seaborn') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

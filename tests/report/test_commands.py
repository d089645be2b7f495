"""The commands of comparisons: from files to a table in three forms or a figure in two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from partialres.cli import main
from partialres.comparisons import Compared, to_json

Write = Callable[..., Path]
ROWS = {
    "ablation": [
        Compared("refshapes", 1, "baseline", "res", {"model.cctf": False, "model.pmca": False}, True),
        Compared("refshapes", 1, "cctf", "res", {"model.cctf": True, "model.pmca": False}),
    ],
    "rpp": [
        Compared("refshapes", 1, "ours", "res", {}, True),
        Compared("refshapes", 1, "no_rpp", "retrain", {"pseudo.resample": False}),
    ],
    "thresholds": [
        Compared("refshapes", 1, "ours", "res", {}, True),
        Compared("refshapes", 1, "strict", "retrain", {"pseudo.threshold": 0.05}),
    ],
    "extensions": [
        Compared("refshapes", 1, "ours", "retrain", {}, True),
        Compared("refshapes", 1, "box_guided", "retrain", {}),
    ],
}


@pytest.mark.parametrize("name", ROWS)
def test_a_comparison_is_written_as_csv_markdown_and_html(
    scored: Write, selected: Write, tmp_path: Path, name: str
) -> None:
    rows = ROWS[name]
    files = [
        scored(f"refshapes/seed{seed}/ratio1/{row.experiment}/{row.step}", mIoU=50.0 + 3 * place)
        for place, row in enumerate(rows)
        for seed in (0, 1)
    ]
    asked = ["tables", name, *map(str, files), "--runs", to_json(rows), "--out", str(tmp_path / "table.csv")]
    if name in ("thresholds", "extensions"):
        asked += ["--selection", str(selected(f"refshapes/seed0/ratio1/{rows[1].experiment}"))]
    answer = CliRunner().invoke(main, asked)
    assert answer.exit_code == 0, answer.output
    for kind in ("csv", "md", "html"):
        assert "+3.00 [" in (tmp_path / f"table.{kind}").read_text() or kind == "csv"
    assert "gain_low" in (tmp_path / "table.csv").read_text()


def test_figures_of_comparisons_are_written_as_png_and_pdf(scored: Write, tmp_path: Path) -> None:
    files = [scored(f"refshapes/seed0/ratio1/{name}/res") for name in ("baseline", "ours", "mask_head")]
    for name, options in (("forest", []), ("peer", ["--peer", "mask_head"])):
        out = tmp_path / f"{name}.png"
        answer = CliRunner().invoke(main, ["figures", name, *map(str, files), *options, "--out", str(out)])
        assert answer.exit_code == 0, answer.output
        assert out.read_bytes().startswith(b"\x89PNG") and out.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_rows_that_are_no_json_end_in_a_message(scored: Write, tmp_path: Path) -> None:
    file, out = scored("refshapes/seed0/ratio1/ours/res"), tmp_path / "table.csv"
    answer = CliRunner().invoke(main, ["tables", "ablation", str(file), "--runs", "{", "--out", str(out)])
    assert answer.exit_code == 1 and "compared runs are not JSON" in answer.output
    assert not out.exists()

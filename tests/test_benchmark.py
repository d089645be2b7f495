"""In every case that is measured, the package and the plain code give the same result."""

import json

import pytest
import torch
from click.testing import CliRunner

from tests.tiny import SIDE, TINY
from tools.benchmark.__main__ import benchmark
from tools.benchmark.cases import CASES, Sizes, exponents
from tools.benchmark.measure import Timing
from tools.benchmark.variants import EAGER, variants

MODEL = TINY.replace(dropout=0.0)
SMALL = Sizes(
    MODEL, image_size=SIDE, points=5, images=3, trained_images=2, predictions=40, plain_predictions=40, pairs=30,
    plain_pairs=30,
)  # fmt: skip
ALLOWED = {"evaluation": 0, "decoding": 1e-5, "training": 1e-5, "selection": 1e-9, "metrics": 1e-9}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_the_fast_way_and_the_plain_way_give_the_same(make):
    case = make(SMALL)
    assert case.difference() <= ALLOWED[case.name]
    row = case.measured(repeats=1)
    assert row["seconds"] > 0 and row["ratio"] == pytest.approx(row["plain_seconds"] / row["seconds"])


def test_bfloat16_gives_about_the_same_as_float32():
    rows = variants(SMALL, EAGER, 1)
    assert [(row["case"], row["numbers"]) for row in rows] == [
        (case, numbers) for case in ("evaluation", "training") for numbers in ("float32", "bfloat16")
    ]
    assert all(row["difference"] == 0 for row in rows[::2]) and all(0 < row["difference"] < 0.1 for row in rows[1::2])
    assert all(row["seconds"] > 0 and row["share_of_peak"] > 0 for row in rows)


def test_compiled_and_eager_code_give_the_same(compiler):
    rows = variants(SMALL, ((torch.float32, False), (torch.float32, True)), 1)
    assert [row["compiled"] for row in rows] == [False, True] * 2
    assert all(row["difference"] < 1e-4 for row in rows)


def test_the_median_and_the_spread_are_of_all_runs():
    timing = Timing((3.0, 1.0, 2.0))
    assert timing.median == 2 and timing.spread == 1


def test_a_line_s_exponent_is_its_power_of_the_work():
    rows = [{"along": "side", "value": each, "seconds": 3e-4 * each**2} for each in (32, 48, 64)]
    assert exponents(rows) == {"side": pytest.approx(2)}


def test_the_command_writes_figures_table_and_picture(tmp_path):
    small = ["--image-size", SIDE, "--points", 5, "--predictions", 20, "--pairs", 20, "--repeats", 1, "--threads", 1]
    options = [str(item) for item in ["--model", MODEL.model_dump_json(), *small, "--out", tmp_path]]
    answer = CliRunner().invoke(benchmark, options)
    assert answer.exit_code == 0, answer.output
    record = json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["case"] for row in record["cases"]] == list(ALLOWED)
    assert {"processor", "cores", "torch", "matmul_gflops"} <= record["machine"].keys()
    assert all(part["seconds"] > 0 and part["flops"] > 0 for part in record["stages"])
    assert len(record["variants"]) >= 4
    assert record["exponents"].keys() == {"images", "expressions", "points", "side", "refs"}
    for name in ("benchmark.csv", "benchmark.md", "benchmark.html", "growth.png", "growth.pdf"):
        assert (tmp_path / name).stat().st_size > 100

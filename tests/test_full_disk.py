"""A disk that is really full: a small file system, of memory, in a name space of the test's own."""

import shutil
import subprocess
import sys

import pytest

from tests.commands import sources
from tests.tiny import SHORT, TINY

# Mounts a file system of SIZE bytes at FOLDER, runs a command and lists what it has left there.
INSIDE = 'folder=$1; mount -t tmpfs -o size="$2" tmpfs "$1"; shift 2; "$@"; code=$?; find "$folder" -type f; exit $code'
ALONE = ["unshare", "--map-root-user", "--mount", "sh", "-c", INSIDE, "sh"]


@pytest.fixture
def full(tmp_path):
    """(size, command and options ...) -> the exit code, the error and the files left, of a command on a small disk."""
    if not shutil.which("unshare") or subprocess.run([*ALONE, tmp_path, "64k", "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")

    def run(size, *arguments):
        command = [*ALONE, tmp_path, size, sys.executable, "-m", "partialres", *arguments, "--out", tmp_path / "out"]
        answer = subprocess.run([*map(str, command)], capture_output=True, text=True)
        return answer.returncode, answer.stderr, [line.rsplit("/", 1)[1] for line in answer.stdout.splitlines()]

    return run


def is_one_line(error):
    (line,) = [line for line in error.splitlines() if line.startswith("Error: ")]
    return "Traceback" not in error and any(cure in line for cure in ("disk has room", "disk is full", "make room"))


def test_a_training_that_meets_a_full_disk_ends_in_a_line_and_leaves_no_model(data, full):
    training = SHORT.replace(epochs=1, warmup_epochs=0).model_dump_json()
    sections = ["--model", TINY.model_dump_json(), "--training", training]
    code, error, left = full("32k", "train-rec", data.folder / "refs.parquet", *sections, *sources(data))
    assert code == 1 and is_one_line(error), error
    assert set(left) == {"metrics.csv", "provenance.json"}  # both whole; the model comes last


def test_a_preparation_that_meets_a_full_disk_ends_in_a_line_and_leaves_nothing(data, full):
    raw = ["prepare", data.raw, "--split-by", "unc", "--image-folder", data.pictures]
    for command in (raw, ["cache-images", data.folder / "refs.parquet", "--image-folder", data.pictures]):
        code, error, left = full("8k", *command)
        assert code == 1 and is_one_line(error) and left == [], (error, left)

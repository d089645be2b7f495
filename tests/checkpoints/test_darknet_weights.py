"""Reading and writing DarkNet's .weights files: round trips, detectors' additional layers, and every kind of damage."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from partialres.checkpoints import darknet
from partialres.checkpoints.darknet import is_darknet, read_weights
from partialres.files import DataError
from partialres.model.darknet import ConvBlock, DarkNet, darknet53
from tests.tiny import write_weights

HEADER = 20


def small(seed: int = 0) -> DarkNet:
    """Make eleven convolutions and a detection block of four more, all without their initial values."""
    torch.manual_seed(seed)
    backbone = DarkNet(4, [(8, 1), (8, 1), (8, 1), (8, 0)], pairs=2)
    for unit in backbone.convolutions():
        for tensor in (unit.bn.weight, unit.bn.bias, unit.bn.running_mean):
            torch.nn.init.normal_(tensor)
        torch.nn.init.uniform_(unit.bn.running_var, 0.5, 2)
    return backbone


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "network.weights"


def equal(first: DarkNet, second: DarkNet, number: int | None = None) -> list[bool]:
    """Say for each convolution whether it has the same values in both networks."""
    names = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    units = zip(first.convolutions()[:number], second.convolutions()[:number], strict=True)
    return [all(torch.equal(a.state_dict()[name], b.state_dict()[name]) for name in names) for a, b in units]


def rewrite(path: Path, values: np.ndarray, header: bytes | None = None) -> None:
    path.write_bytes((path.read_bytes()[:HEADER] if header is None else header) + values.astype("<f4").tobytes())


def values(path: Path) -> np.ndarray:
    return np.fromfile(path, dtype="<f4", offset=HEADER).copy()


def length(unit: ConvBlock) -> int:
    """Count a convolution's values."""
    return sum(tensor.numel() for tensor in darknet._tensors(unit))


def test_what_is_written_comes_back_to_the_bit(path):
    written, read = small(0), small(1)
    write_weights(written, path)
    assert not any(equal(written, read))
    assert read_weights(path, read) == 15
    assert all(equal(written, read))
    assert np.fromfile(path, dtype="<i4", count=5).tolist() == [0, 2, 0, 0, 0]


def test_a_convolution_has_bias_weight_mean_and_variance_before_its_kernel(path):
    backbone = small()
    write_weights(backbone, path)
    stem = backbone.stem
    expected = [stem.bn.bias, stem.bn.weight, stem.bn.running_mean, stem.bn.running_var, stem.conv.weight]
    first = np.concatenate([tensor.detach().numpy().reshape(-1) for tensor in expected])
    assert (values(path)[: len(first)] == first).all()


@pytest.mark.parametrize(
    ("version", "seen"), [((0, 2, 0), "<i8"), ((0, 1, 0), "<i4"), ((0, 2, 5), "<i8"), ((1, 0, 0), "<i8")]
)
def test_the_header_is_a_word_shorter_before_version_0_2(path, version, seen):
    written, read = small(0), small(1)
    write_weights(written, path)
    header = np.array(version, dtype="<i4").tobytes() + np.array([32013312], dtype=seen).tobytes()
    rewrite(path, values(path), header)
    read_weights(path, read)
    assert all(equal(written, read))


@pytest.mark.parametrize("classifier", [0, 9 * 1000])
def test_a_file_of_the_imagenet_network_leaves_the_detection_block_as_it_is(path, classifier):
    written, read, before = small(0), small(1), small(1)
    write_weights(written, path, convolutions=11)
    rewrite(path, np.append(values(path), np.zeros(classifier)))
    assert read_weights(path, read) == 11
    assert all(equal(written, read, 11)) and all(equal(before, read)[11:])


def test_the_imagenet_networks_file_is_as_long_as_the_published_one():
    with torch.device("meta"):
        lengths = [length(unit) for unit in darknet53().convolutions()]
    assert HEADER + 4 * sum(lengths[:52]) == 162_482_580  # darknet53.conv.74


def test_what_a_detector_has_behind_the_backbone_does_not_matter(path):
    written, read = small(0), small(1)
    write_weights(written, path)
    rewrite(path, np.append(values(path), np.full(50, np.nan)))
    assert read_weights(path, read) == 15
    assert all(equal(written, read))


@pytest.mark.parametrize("kept", [0, 1, 500, 4000])
def test_a_truncated_file_is_refused_with_the_layer_it_ends_in(path, kept):
    backbone = small()
    write_weights(backbone, path)
    whole = values(path)
    ends = np.cumsum([length(unit) for unit in backbone.convolutions()])
    rewrite(path, whole[:kept])
    layer = int((ends <= kept).sum()) + 1
    message = rf"{re.escape(str(path))}: ends in convolution {layer} of 15, {ends[layer - 1] - kept} values before"
    with pytest.raises(DataError, match=message):
        read_weights(path, small(1))


@pytest.mark.parametrize("size", [0, 5, 11, 19, 4 * 300 + 1])
def test_a_file_cut_within_its_header_or_a_number_is_refused(path, size):
    write_weights(small(), path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=f"{size} bytes|ends in convolution 1"):
        read_weights(path, small(1))


def test_another_networks_file_is_refused_where_its_variances_would_be_negative(path):
    write_weights(DarkNet(8, [(16, 1), (16, 2), (16, 1), (16, 0)], pairs=2), path)
    with pytest.raises(DataError, match=r"convolution \d+ of 15: has negative variances.*DarkNet-53"):
        read_weights(path, small(1))


def test_values_that_are_not_finite_are_refused_with_their_convolution(path):
    backbone = small()
    write_weights(backbone, path)
    broken = values(path)
    broken[length(backbone.stem) + 3] = np.inf
    rewrite(path, broken)
    with pytest.raises(DataError, match="convolution 2 of 15: not every value is finite"):
        read_weights(path, small(1))


def test_a_web_page_in_the_files_place_is_refused(path):
    path.write_text("<!DOCTYPE html><html>The file is not available without login</html>")
    with pytest.raises(DataError, match="no DarkNet weights file; a web page"):
        read_weights(path, small(1))


@pytest.mark.parametrize(
    ("name", "expected"), [("yolov3.weights", True), ("darknet53.conv.74", True), ("visual.safetensors", False)]
)
def test_darknets_files_are_told_by_their_names(name, expected):
    assert is_darknet(Path(name)) is expected

"""A small model in which every part affects the output, and inputs for it."""

import pytest
import torch

from partialres.config import ModelConfig
from partialres.data.batch import Batch
from partialres.model.build import Model, build_model
from partialres.model.pointer import PointModel
from tests import tiny

PAPER = ModelConfig(
    backbone="tiny", frozen="all", fusion=32, language=16, word=8, width=32, heads=4, encoder_layers=2,
    decoder_layers=2, feedforward=48, bins=50,
)  # fmt: skip
RELEASED = PAPER.replace(upstream=tiny.RELEASED)
PLAIN = PAPER.replace(cctf=False, pmca=False)
CONFIGS = {"paper": PAPER, "released": RELEASED, "plain": PLAIN}
WORDS, POINTS, CELLS = 20, 4, (3, 5)


def make_model(config: ModelConfig, points: int = POINTS) -> Model:
    """Make a model in evaluation mode, without parameters initialised to zeros and ones: they would hide mistakes."""
    torch.manual_seed(0)
    model = build_model(config, WORDS, points)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.unique().numel() == 1:
                parameter += torch.randn_like(parameter) / 3
        if isinstance(model, PointModel) and config.upstream.start == "zero":
            model.start.zero_()
    return model.eval()


def make_batch(config: ModelConfig) -> Batch:
    """Make a batch of four expressions of 1 to 5 words about two images, one of them padded, with cached features."""
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(2, WORDS, (4, 5), generator=generator)
    for row, length in enumerate((5, 1, 3, 4)):
        words[row, length:] = 0
    valid = torch.ones(2, *CELLS, dtype=torch.bool)
    valid[1, 2:] = False
    tokens = torch.randint(0, config.bins, (4, 2 * POINTS + 1), generator=generator)
    tokens[:, -1] = config.bins
    return Batch(
        images=torch.rand(2, config.fusion, *CELLS, generator=generator) * 2 - 1,
        valid=valid, image_index=torch.tensor([0, 1, 1, 0]), words=words, tokens=tokens,
    )  # fmt: skip


@pytest.fixture(params=CONFIGS)
def model(request):
    """The small model in each setting."""
    return make_model(CONFIGS[request.param])


@pytest.fixture
def paper_model():
    return make_model(PAPER)


@pytest.fixture
def released_model():
    return make_model(RELEASED)


@pytest.fixture
def batch_for():
    """model -> its batch."""
    return lambda model: make_batch(model.config)


@pytest.fixture
def model_with():
    """Settings to change -> the paper's small model with these changes."""
    return lambda **changes: make_model(tiny.changed(PAPER, **changes))

"""Models on disk, and which weights the next step starts from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from partialres.checkpoints.model_file import load_model, load_weights, read_header, read_words, save_model
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError
from tests.tiny import TINY, equal_states


def words_of(model):
    number = model.language.embedding.num_embeddings
    return Vocabulary(("<pad>", "<unk>", *map(str, range(number - 2))), (0,) * number, max_words=9)


def save(model, path):
    save_model(model, path, words=words_of(model), size=64, provenance={"seed": 3})
    return path


def test_a_model_comes_back_with_its_weights_config_and_points(tiny_model, tmp_path):
    model = tiny_model(points=5, pmca=False)
    back = load_model(save(model, tmp_path / "model.safetensors"), words_of(model).digest())
    assert equal_states(model, back) and back.points == 5 and back.config == model.config
    assert not back.training
    header = read_header(tmp_path / "model.safetensors")
    assert header["image_size"] == 64 and header["provenance"] == {"seed": 3} and header["model"]["bins"] == TINY.bins
    assert read_words(tmp_path / "model.safetensors") == words_of(model)


def test_a_model_is_the_same_bytes_in_every_process(tiny_model, tmp_path):
    here = save(tiny_model(), tmp_path / "here.safetensors")
    code = (
        "import sys; from pathlib import Path; from partialres.checkpoints import model_file as files;"
        "path, out = map(Path, sys.argv[1:]); model, words = files.load_model(path), files.read_words(path);"
        "files.save_model(model, out, words=words, size=64, provenance={'seed': 3})"
    )
    other = tmp_path / "other.safetensors"
    subprocess.run([sys.executable, "-c", code, here, other], check=True, cwd=Path(__file__).parents[2])
    assert other.read_bytes() == here.read_bytes()


def test_a_model_of_another_vocabulary_is_refused(tiny_model, tmp_path):
    path = save(tiny_model(), tmp_path / "model.safetensors")
    for load in (lambda: load_model(path, "others"), lambda: load_weights(tiny_model(), path, "others")):
        with pytest.raises(DataError, match=r"model\.safetensors: trained with another vocabulary \(\w+, not others"):
            load()


def test_what_is_not_one_of_our_models_is_named(tmp_path):
    (tmp_path / "text.safetensors").write_text("no model")
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name in ("text", "other", "absent"):
        with pytest.raises(DataError, match=rf"{name}\.safetensors"):
            read_header(tmp_path / f"{name}.safetensors")


def test_a_model_of_an_older_version_is_refused_with_the_cure(tmp_path):
    header = json.dumps({"format": "partialres 2"})
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "old.safetensors", {"partialres": header})
    with pytest.raises(DataError, match=r"old\.safetensors: is of version 'partialres 2'.*make it again"):
        read_header(tmp_path / "old.safetensors")


def test_a_model_cut_short_is_refused(tiny_model, tmp_path):
    path = save(tiny_model(), tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be read"):
        load_model(path)


def test_step_2_starts_from_all_of_step_1_but_the_position_table_and_pmca(tiny_model, tmp_path):
    box = tiny_model(points=2, seed=1, cctf=False, pmca=False)
    path = save(box, tmp_path / "rec.safetensors")
    model = tiny_model(points=6, seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fresh = load_weights(model, path, words_of(model).digest())
    assert "positions.weight" in fresh and all(name.startswith(("positions.", "decoder.0.prior.")) for name in fresh)
    given = box.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in fresh else given[name]), name


def test_a_position_table_of_the_same_length_is_kept(tiny_model, tmp_path):
    path = save(tiny_model(points=6, seed=1), tmp_path / "res.safetensors")
    model = tiny_model(points=6, seed=2)
    assert load_weights(model, path, words_of(model).digest()) == []
    assert equal_states(model, load_model(path))


def test_an_extended_position_table_knows_which_places_are_x_and_which_are_y(tiny_model, tmp_path):
    box = tiny_model(points=2, seed=1)
    path = save(box, tmp_path / "rec.safetensors")
    model = tiny_model(points=4, seed=2)
    initial, short = model.positions.weight.detach().clone(), box.positions.weight.detach()
    assert "positions.weight" not in load_weights(model, path, words_of(model).digest(), "extend")
    expected = torch.cat([short[:2], *[initial[place : place + 2] + short[2:4] for place in (2, 4, 6)], short[4:]])
    assert torch.equal(model.positions.weight.detach(), expected)


def test_a_model_without_pmca_starts_from_one_with_it(tiny_model, tmp_path):
    path, model = save(tiny_model(seed=1), tmp_path / "ours.safetensors"), tiny_model(seed=2, pmca=False)
    assert load_weights(model, path, words_of(model).digest()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"bins": 40}, "coordinates.weight"),
        ({"width": 32}, "coordinates.weight"),
        ({"width": 32, "pmca": False}, "coordinates.weight"),
        ({"encoder_layers": 2}, "encoder.1"),
        ({"decoder_layers": 2}, "decoder.1"),
        ({"feedforward": 24}, "feedforward"),
        ({"word": 12}, "language"),
    ],
)
def test_a_model_of_other_sizes_is_refused_by_the_names_that_do_not_fit(tiny_model, tmp_path, changes, named):
    path = save(tiny_model(), tmp_path / "rec.safetensors")
    for model, source in ((tiny_model(**changes), path), (tiny_model(), save(tiny_model(**changes), tmp_path / "b"))):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(DataError, match="does not fit the model") as caught:
            load_weights(model, source, words_of(model).digest())
        assert named in str(caught.value)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

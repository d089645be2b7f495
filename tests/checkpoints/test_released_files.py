"""Released checkpoints imported and exported. PARTIALRES_SHARED names the folder that holds golden/."""

import os
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from partialres.checkpoints import released_files as files
from partialres.checkpoints.model_file import load_model, read_config, save_model
from partialres.checkpoints.released import WORDS, released_config, released_model, to_released
from partialres.config import ModelConfig
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError, read_json, write_json
from partialres.model.pointer import PointModel
from tests.commands import done, run
from tests.tiny import RELEASED, TINY, equal_states, equal_tensors
from tools import golden

SHARED = Path(os.environ["PARTIALRES_SHARED"]) if os.environ.get("PARTIALRES_SHARED") else None
GOLDEN = sorted((SHARED / "golden").glob("*.parameters.tsv")) if SHARED else []
TABLES = {path.read_text(): path for path in GOLDEN}.values()  # several recordings may share a model
NUMBER = 60  # words
TOKENS = {"PAD": 0, "UNK": 1, "CLS": 2} | {f"word{index}": index for index in range(3, NUMBER)}


@pytest.fixture
def place():
    """A folder that is removed when the test ends: pytest keeps its tmp_path, and these files are large."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def write(place, content, tokens=TOKENS):
    torch.save(content, place / "checkpoint.pth")
    (place / "token_to_ix.pkl").write_bytes(pickle.dumps(tokens, protocol=pickle.HIGHEST_PROTOCOL))
    return place / "checkpoint.pth"


@pytest.fixture(scope="module")
def state():
    """Make a released SeqTR detection state dict in which each tensor repeats one number."""
    config = ModelConfig(upstream=RELEASED).step_1()
    with torch.device("meta"):
        shapes = to_released(PointModel(config, NUMBER, 2))
    return {
        name: torch.full(value.shape, float(index)) if value.is_floating_point() else torch.tensor(index)
        for index, (name, value) in enumerate(shapes.items())
    }


@pytest.mark.skipif(SHARED is None, reason="PARTIALRES_SHARED is not set: no recordings to compare with")
@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.name.split(".")[0])
def test_a_released_checkpoint_becomes_a_model_and_comes_back_key_by_key(place, table):
    state = {key: golden.weight(key, shape) for key, shape in golden.read_shapes(table).items()}
    parallel = {f"module.{key}": value for key, value in state.items()}
    path = write(place, {"state_dict": parallel, "epoch": 3, "lr": 5e-4, "miou": 60.5})
    np.savez_compressed(place / "word_emb.npz", word_emb=state[WORDS].numpy())
    done("import-weights", path, place / "ours")
    words = Vocabulary.from_json(read_json(place / "ours/vocabulary.json"))
    assert words.words == ("<pad>", "<unk>", *list(TOKENS)[2:])
    assert all(words.index[word] == index for word, index in TOKENS.items() if index > 1)
    model = load_model(place / "ours/model.safetensors", words.digest())
    assert model.config == released_config(state) and equal_states(model, released_model(state))
    done("export-weights", place / "ours/model.safetensors", place / "back/checkpoint.pth")
    content = torch.load(place / "back/checkpoint.pth", weights_only=True)
    for key in ("state_dict", "ema_state_dict"):
        assert equal_tensors(content[key], state)
    assert pickle.loads((place / "back/token_to_ix.pkl").read_bytes()) == TOKENS
    assert pickle.loads((place / "back/ix_to_token.pkl").read_bytes()) == {i: word for word, i in TOKENS.items()}
    assert (np.load(place / "back/word_emb.npz")["word_emb"] == state[WORDS].numpy()).all()


def test_the_moving_average_is_taken_where_there_is_one_or_as_asked(place):
    state, average = {"a.weight": torch.zeros(2)}, {"module.a.weight": torch.ones(2)}
    path = write(place, {"state_dict": state, "ema_state_dict": average})
    for ema, value in ((None, 1), (True, 1), (False, 0)):
        assert files.read_checkpoint(path, ema)["a.weight"].tolist() == [value] * 2
    path = write(place, {"state_dict": state, "lr": 1.0})
    assert files.read_checkpoint(path)["a.weight"].tolist() == [0, 0]
    with pytest.raises(DataError, match="has no ema_state_dict; it holds state_dict, lr"):
        files.read_checkpoint(path, True)
    path = write(place, {"ema_state_dict": average})
    assert files.read_checkpoint(path)["a.weight"].tolist() == [1, 1]
    with pytest.raises(DataError, match="has no state_dict; it holds ema_state_dict"):
        files.read_checkpoint(path, False)


def test_batch_statistics_that_the_average_lacks_are_those_beside_it_and_nothing_else_is(place):
    names = ("bn.running_mean", "bn.running_var", "bn.num_batches_tracked", "bn.weight", "bn.bias")
    state = {f"module.{name}": torch.zeros(2) for name in names}
    average = {"bn.weight": torch.ones(2), "bn.running_var": torch.ones(2)}
    read = files.read_checkpoint(write(place, {"state_dict": state, "ema_state_dict": average}))
    assert {name: value[0].item() for name, value in read.items()} == {
        "bn.weight": 1, "bn.running_var": 1, "bn.running_mean": 0, "bn.num_batches_tracked": 0,
    }  # fmt: skip


class Trap:
    """An object that a checkpoint's pickle must not contain."""

    def __reduce__(self):
        return (os.system, ("true",))


@pytest.mark.parametrize("content", [{"state_dict": {}, "hook": Trap()}, Trap()])
def test_a_checkpoint_that_could_run_code_is_refused(place, content):
    with pytest.raises(DataError, match=r"checkpoint\.pth: not loaded.*could run code"):
        files.read_checkpoint(write(place, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "has no state_dict; it holds list"),
        ({"model": {}}, "has no state_dict; it holds model"),
        ({"state_dict": {"a": 3}}, "state_dict is no dict of tensors"),
        ({"state_dict": {"a": torch.zeros(1)}, "ema_state_dict": None}, "ema_state_dict is no dict of tensors"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(place, content, message):
    with pytest.raises(DataError, match=rf"checkpoint\.pth: {message}"):
        files.read_checkpoint(write(place, content))


def test_a_damaged_checkpoint_is_named(place):
    path = write(place, {"state_dict": {"a": torch.zeros(100)}})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"checkpoint\.pth: cannot be read"):
        files.read_checkpoint(path)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["PAD", "UNK"], "not a vocabulary"),
        ({"PAD": 0, "UNK": "1"}, "not a vocabulary"),
        ({"PAD": 0, "UNK": 1, "cat": 3}, "its indices are not 0 to 2"),
        ({"PAD": 0, "UNK": 1, "cat": 2, "dog": 2}, "its indices are not 0 to 3"),
        ({"UNK": 0, "PAD": 1}, "0 and 1 are"),
        ({"PAD": 0, "UNK": 1, "<unk>": 2}, "holds no word twice"),
        (Trap(), "system.*could run code"),
        ({"PAD": np.int64(0), "UNK": 1}, "numpy.*could run code"),
    ],
)
def test_a_vocabulary_that_is_none_or_could_run_code_is_refused(place, tokens, message):
    write(place, {}, tokens)
    with pytest.raises(DataError, match=message):
        files.read_vocabulary(place / "token_to_ix.pkl", 15)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 3), dtype=int), np.array([[None]])])
def test_word_vectors_that_are_none_are_refused(place, array):
    np.savez(place / "word_emb.npz", word_emb=array)
    with pytest.raises(DataError, match=r"word_emb\.npz"):
        files.read_vectors(place / "word_emb.npz")


def test_every_key_that_is_missing_or_left_over_is_listed(place, state):
    changed = dict(state)
    del changed["fusion.top_project.0.conv.weight"]
    changed["head.task_embedding.weight"] = torch.zeros(2, 256)
    answer = run("import-weights", write(place, {"state_dict": changed}), place / "out")
    assert answer.exit_code == 1 and not (place / "out").exists()
    assert "checkpoint.pth: the released weights do not fit" in answer.output
    assert "missing: fusion.top_project.0.conv.weight; left over: head.task_embedding.weight" in answer.output


def test_the_word_table_comes_from_the_vectors_where_the_checkpoint_has_none(place, state):
    table = np.random.default_rng(0).random((NUMBER, 300), dtype=np.float32)
    np.savez(place / "vectors.npz", word_emb=table)
    bare = {name: value for name, value in state.items() if name != WORDS}
    path = write(place, {"state_dict": bare})
    assert "has no lan_enc.embedding.weight" in run("import-weights", path, place / "out").output
    options = ["--vectors", place / "vectors.npz", "--max-words", 20]
    done("import-weights", path, place / "out", *options)
    model = load_model(place / "out/model.safetensors")
    assert (model.language.embedding.weight.detach().numpy() == table).all()
    assert model.config.upstream.padded_words == 20 and model.points == 2
    assert read_json(place / "out/vocabulary.json")["max_words"] == 20


def test_a_vocabulary_or_vectors_of_another_number_of_words_are_refused(place, state):
    path = write(place, {"state_dict": state}, dict(list(TOKENS.items())[:-1]))
    answer = run("import-weights", path, place / "out")
    assert answer.exit_code == 1 and "token_to_ix.pkl: 59 words" in answer.output
    np.savez(place / "word_emb.npz", word_emb=np.zeros((59, 300), dtype=np.float32))
    answer = run("import-weights", path, place / "out")
    assert answer.exit_code == 1 and "word_emb.npz: [59, 300] word vectors" in answer.output
    (place / "token_to_ix.pkl").unlink()
    answer = run("import-weights", path, place / "out")
    assert answer.exit_code == 2 and "there is no token_to_ix.pkl beside" in answer.output


def test_a_model_that_the_released_code_would_run_differently_is_not_exported(place):
    words = Vocabulary(("<pad>", "<unk>", "cat"), (0, 0, 0), 15)
    torch.manual_seed(0)
    model = PointModel(TINY, 3, 2)
    save_model(model, place / "model.safetensors", words=words, size=640, provenance={})
    answer = run("export-weights", place / "model.safetensors", place / "out.pth")
    assert answer.exit_code == 2 and "there is no vocabulary.json beside" in answer.output
    write_json(words.to_json(), place / "vocabulary.json")
    answer = run("export-weights", place / "model.safetensors", place / "out.pth")
    assert answer.exit_code == 1 and "no such model" in answer.output and not (place / "out.pth").exists()
    write_json(replace(words, max_words=7).to_json(), place / "vocabulary.json")
    answer = run("export-weights", place / "model.safetensors", place / "out.pth")
    assert answer.exit_code == 1 and "another vocabulary" in answer.output


def test_an_imported_model_can_be_trained_on_by_step_2(place, state):
    done("import-weights", write(place, {"state_dict": state}), place / "out")
    ModelConfig(upstream=RELEASED).check_init(read_config(place / "out/model.safetensors"))

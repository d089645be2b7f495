"""With an imported step 1, the workflow trains none and uses the model's vocabulary. Dry runs only."""

import json
import re
import subprocess

import pytest

from tests.workflow.running import Workflow


@pytest.fixture
def plan(checkout, tmp_path):
    """(more experiments, keys of the data set) -> the output of a dry run."""
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "vocabulary.json").write_text(json.dumps({}))

    def run(experiments=None, **keys):
        config = {"datasets": {"refshapes": keys}, "experiments": experiments or {}}
        return Workflow(checkout, tmp_path)("-n", "-p", config=config, env={"IMPORTED": str(tmp_path)})

    return run


def jobs(plan):
    """Rule -> number of jobs, from the table at the end of a dry run."""
    rows = [line.split() for line in plan.splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def commands(plan, name):
    return [line for line in plan.splitlines() if re.search(rf"(partialres|on_gpus \d+) {name} ", line)]


def test_without_a_file_step_1_is_trained(plan):
    done = jobs(plan())
    assert done["train_rec"] == 1 and done["train_res"] + done["train_res_full"] == 3 and done["retrain_res"] == 1


def test_with_a_file_step_1_is_not_trained_and_every_later_step_starts_from_the_file(plan, tmp_path):
    text = plan(rec="$IMPORTED/model.safetensors", vocabulary="$IMPORTED/vocabulary.json")
    done = jobs(text)
    assert not {"train_rec", "pretrain_backbone"} & done.keys(), text
    assert done["train_res"] + done["train_res_full"] == 3 and done["retrain_res"] == 1 and done["evaluate_rec"] == 1
    model = tmp_path / "model.safetensors"
    trainings = commands(text, "train-res")
    assert len(trainings) == 4 and all(f"--init {model} " in line for line in trainings)
    evaluations = [line for line in commands(text, "evaluate") if "/rec/" in line]
    assert len(evaluations) == 1 and all(f"--model {model} " in line for line in evaluations)
    assert [f"cache-features {model} " in line for line in commands(text, "cache-features")] == [True]
    (prepare,) = commands(text, "prepare")
    assert f"--vocabulary {tmp_path / 'vocabulary.json'}" in prepare and "--max-words" not in prepare


def test_a_mask_heads_step_1_is_trained_on_the_imported_models_features(plan, tmp_path):
    peer = {"steps": [2], "ratios": "partial", "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}}
    imported = {"rec": "$IMPORTED/model.safetensors", "vocabulary": "$IMPORTED/vocabulary.json"}
    text = plan(experiments={"peer": peer}, **imported)
    done = jobs(text)
    assert done["train_rec"] == 1 and done["evaluate_rec"] == 2, text
    (training,) = commands(text, "train-rec")
    assert f"--init-backbone {tmp_path / 'model.safetensors'} " in training and '"head":"mask"' in training
    trainings = commands(text, "train-res")
    own = [line for line in trainings if "/peer/res" in line]
    assert len(own) == 1 and all("--init results/refshapes/seed0/rec/mask/model.safetensors " in line for line in own)
    assert all(f"--init {tmp_path / 'model.safetensors'} " in line for line in trainings if line not in own)


def test_a_folder_that_is_not_set_is_named(plan):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        plan(rec="$NO_SUCH_FOLDER/model.safetensors", vocabulary="$IMPORTED/vocabulary.json")
    assert "datasets.refshapes.rec" in caught.value.output


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"rec": "gone/model.safetensors", "vocabulary": "$IMPORTED/vocabulary.json"}, "datasets.refshapes.rec"),
        ({"rec": "$IMPORTED/model.safetensors", "vocabulary": "gone.json"}, "datasets.refshapes.vocabulary"),
        ({"settings": {"init_backbone": "gone.safetensors"}}, "settings.init_backbone"),
        ({"settings": {"text": {"vectors": "gone.txt"}}}, "settings.text.vectors"),
        ({"generate": None, "raw": "gone", "images": "$IMPORTED"}, "datasets.refshapes.raw"),
        ({"generate": None, "raw": "$IMPORTED", "images": "gone"}, "datasets.refshapes.images"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_exist_is_named(plan, keys, named):
    """Snakemake would not miss it where there are results: it would take them for those of this file."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        plan(**keys)
    assert re.search(rf"{re.escape(named)}: gone\S* does not exist", caught.value.output)

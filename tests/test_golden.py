"""Our model against outputs of the released ones. PARTIALRES_SHARED names the folder that holds golden/."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from partialres.data.refer import read_refs
from partialres.data.vocabulary import clean
from partialres.evaluation import Prediction, ReleasedScore, score_masks
from partialres.geometry import contour
from partialres.geometry.projection import projection_dice_loss
from tools import golden

SHARED = Path(os.environ["PARTIALRES_SHARED"]) if os.environ.get("PARTIALRES_SHARED") else None
pytestmark = pytest.mark.skipif(SHARED is None, reason="PARTIALRES_SHARED is not set: no recordings to compare with")


def test_ours_computes_what_the_released_models_did(capsys):
    failed = golden.main(SHARED / "golden")
    lines = capsys.readouterr().out.splitlines()
    assert failed == 0 and len(lines) == 4, "\n".join(lines)


def test_a_wrong_recording_is_noticed(tmp_path):
    source = SHARED / "golden" / "seqtr_rec.npz"
    recording = dict(np.load(source))
    recording["logits"][1, 2, 3] += 2e-4 * recording["logits"].std()
    np.savez(tmp_path / "wrong.npz", **recording)
    (tmp_path / "wrong.parameters.tsv").write_text(source.with_name("seqtr_rec.parameters.tsv").read_text())
    assert golden.main(tmp_path) == 1
    run = subprocess.run([sys.executable, "-m", "tools.golden", tmp_path / "empty"], capture_output=True, check=False)
    assert run.returncode == 1


@pytest.mark.parametrize(("dataset", "split_by"), [("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")])
def test_words_contours_and_scores_are_those_of_the_released_data_code(dataset, split_by):
    sample = SHARED / "refcoco-sample"
    refs, _ = read_refs(sample / dataset, sample / "images" / "train2014", split_by, on_problem="report")
    recorded = json.loads((SHARED / "golden" / "refcoco_sample_upstream.json").read_text())
    recorded = {item["ref_id"]: item for item in recorded if item["dataset"] == dataset}
    assert set(refs["ref_id"]) == recorded.keys()
    truth = [recorded[ref_id] for ref_id in refs["ref_id"]]
    for ref, item in zip(refs.itertuples(), truth, strict=True):
        assert [clean(expression) for expression in ref.expressions] == [text.split() for text in item["clean"]]
    for number in (12, 18):
        masks = [contour.decode(ref.mask, ref.height, ref.width) for ref in refs.itertuples()]
        points = [contour.trace_released(mask, number) for mask in masks]
        for traced, item in zip(points, truth, strict=True):
            assert traced[np.isfinite(traced[:, 0])].tolist() == item[f"vertices{number}"]
        predictions = [Prediction(place, "", traced, np.ones(1)) for place, traced in enumerate(points)]
        scores = score_masks(refs, predictions, size=640, multiple=32)
        np.testing.assert_allclose(scores["iou"], [item[f"iou{number}"] for item in truth], atol=1e-4)
        # The recording is at the images' own size, so it checks frames of 640 pixels only for images that large.
        released = np.array([item[f"iou{number}_upstream"] for item in truth])
        same = (refs[["height", "width"]].max(axis=1) == 640).to_numpy()
        np.testing.assert_allclose(scores["iou_upstream"][same], released[same], atol=1e-4)
        own = [
            ReleasedScore.of(mask, item["parts"], max(mask.shape), 32).score(prediction, *mask.shape)
            for mask, prediction, item in zip(masks, predictions, truth, strict=True)
        ]
        np.testing.assert_allclose(own, released, atol=1e-4)
        assert [len(parts) for parts in refs["parts"]] == [item["parts"] for item in truth]
        for ref, traced, item in zip(refs.itertuples(), points, truth, strict=True):
            mask = contour.fill(traced, ref.height, ref.width)
            loss = projection_dice_loss(mask, np.asarray(ref.bbox), "truncate")
            assert loss == pytest.approx(item[f"projection_dice_loss{number}"], abs=1e-4)

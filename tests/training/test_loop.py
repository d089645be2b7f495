"""Training: what it depends on, how it stops and how it resumes."""

import math
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partialres import evaluation
from partialres.config import ConfigError, TrainConfig
from partialres.data.batches import epoch_batches
from partialres.files import DataError, TrainingError, progress
from partialres.training import loop
from partialres.training.distributed import pick_device
from partialres.training.ema import Ema
from partialres.training.loop import make_optimiser, rate_factor, train
from partialres.training.resume import Resume
from partialres.training.watch import sample_score
from tests.tiny import SHORT, SIDE, equal_states

POINTS = 4


@pytest.fixture(scope="module")
def fit(data, tiny_model):
    """Train: (settings ...) -> a tiny model and its history."""
    samples = data.contours(POINTS)

    def run(config=SHORT, seed=0, resume=None, after_epoch=None, workers=0, model_seed=0, score=None, **changes):
        model = tiny_model(POINTS, model_seed, **changes)
        history = train(
            model, samples, data.inputs, config, seed=seed, device=torch.device("cpu"),
            resume=Resume(resume, {}), label="test", workers=workers, score=score,
            after_epoch=after_epoch or (lambda history: None),
        )  # fmt: skip
        return model, history

    return run


class Killed(Exception):
    """Raised to interrupt a training."""


def kill(after):
    def at(history):
        if history[-1]["epoch"] == after:
            raise Killed

    return at


def noting(epochs):
    return lambda history: epochs.append(history[-1]["epoch"])


@pytest.mark.parametrize("deaths", [[0], [2], [0, 1, 2]])
def test_a_training_that_was_stopped_ends_with_the_weights_of_one_that_was_not(fit, tmp_path, deaths):
    whole, history = fit()
    for epoch in deaths:
        with pytest.raises(Killed):
            fit(resume=tmp_path, after_epoch=kill(epoch))
    epochs = []
    resumed, its_history = fit(resume=tmp_path, after_epoch=noting(epochs))
    assert epochs == list(range(deaths[-1] + 1, SHORT.epochs))
    assert equal_states(whole, resumed)
    times = ["seconds", "waiting"]
    assert its_history.drop(columns=times).equals(history.drop(columns=times))


def test_it_goes_on_from_the_last_epoch_whose_state_was_written(fit, tmp_path):
    config = SHORT.replace(epochs=5, checkpoint_epochs=2)
    whole, _ = fit(config)
    with pytest.raises(Killed):
        fit(config, resume=tmp_path, after_epoch=kill(2))
    epochs = []
    resumed, _ = fit(config, resume=tmp_path, after_epoch=noting(epochs))
    assert epochs == [2, 3, 4] and equal_states(whole, resumed)


def test_a_damaged_state_starts_anew_to_the_same_end(fit, tmp_path):
    with pytest.raises(Killed):
        fit(resume=tmp_path, after_epoch=kill(1))
    (state,) = tmp_path.iterdir()
    state.write_bytes(state.read_bytes()[:-1])
    epochs = []
    resumed, _ = fit(resume=tmp_path, after_epoch=noting(epochs))
    assert epochs == [0, 1, 2, 3] and equal_states(fit()[0], resumed)


def test_a_score_every_few_epochs_changes_no_weight(fit):
    config, seen = SHORT.replace(score_epochs=2), []
    whole, plain = fit()
    scored, history = fit(config, score=lambda: seen.append(1) or {"val_mIoU": len(seen)})
    assert equal_states(whole, scored)
    assert history["val_mIoU"].isna().tolist() == [True, False, True, False] and "val_mIoU" not in plain


def test_the_averaged_weights_stand_in_for_a_while(tiny_model):
    model = tiny_model(POINTS)
    ema, bias = Ema(model, 0.5), model.predictor[0].bias
    before = bias.detach().clone()
    with torch.no_grad():
        bias.add_(1)
    with ema.applied():
        assert torch.equal(bias, before)
    assert torch.equal(bias, before + 1)


@pytest.mark.parametrize("points", [2, POINTS])
def test_the_score_is_the_mean_iou_that_evaluation_gives_those_expressions(data, tiny_model, points):
    model = tiny_model(points, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # so that answers differ
    score = sample_score(model, data.refs, data.inputs, data.vocabulary, torch.device("cpu"))()
    val = evaluation.select_split(data.refs, "val")
    val = val.assign(expressions=[texts[:1] for texts in val["expressions"]])
    answers = evaluation.predictions(model, val, data.inputs, data.vocabulary, batch=64, label="val")
    predicted = [answer for batch in answers for answer in batch]
    if points == 2:
        ious = evaluation.score_boxes(val, predicted)["box_iou"]
    else:
        ious = evaluation.score_masks(val, predicted, SIDE, 16)["iou"]
    assert score == {"val_mIoU": pytest.approx(100 * ious.mean())} and ious.mean() > 0


def test_a_sample_without_refs_or_masks_is_refused(data, tiny_model):
    for refs in (data.train, data.refs.assign(mask=None)):
        with pytest.raises(DataError, match="split val has no refs, or some without masks"):
            sample_score(tiny_model(POINTS), refs, data.inputs, data.vocabulary, torch.device("cpu"))


def test_the_log_has_loss_rate_and_the_time_left(fit, capsys, monkeypatch):
    monkeypatch.setattr(loop, "progress", partial(progress, seconds=0))
    fit()
    assert re.search(r"test: 3 of 4, loss \d\S*, rate \d\S* \(\d+ s, \d+ s left\)", capsys.readouterr().err)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(fit):
    first, _ = fit()
    torch.manual_seed(99)
    torch.rand(5)
    assert equal_states(first, fit()[0])
    assert not equal_states(first, fit(seed=1)[0])


def test_loader_workers_change_nothing(fit):
    config = SHORT.replace(epochs=1)
    assert equal_states(fit(config)[0], fit(config, workers=1)[0])


def test_the_loss_falls_and_every_epoch_has_a_row(fit, data):
    config = SHORT.replace(epochs=12, warmup_epochs=2)
    _, history = fit(config)
    steps = -(-len(data.contours(POINTS).rows) // config.batch)
    numbers = ["epoch", "step", "loss", "learning_rate", "gradient_norm", "seconds", "waiting"]
    assert list(history.columns) == numbers and history["waiting"].between(0, 1).all()
    assert history["epoch"].tolist() == list(range(12))
    assert history["step"].tolist() == [steps * (epoch + 1) for epoch in range(12)]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["learning_rate"].iloc[1] == pytest.approx(config.learning_rate * 2 / 3)


def test_a_handful_of_refs_is_learnt_by_heart(data, tiny_model):
    samples = data.contours(POINTS, number=6)
    samples = replace(samples, words=[words[:1] for words in samples.words])
    model = tiny_model(POINTS, dropout=0.0, fusion=32, language=16, word=16, width=32, feedforward=32)
    config = TrainConfig(epochs=120, batch=6, learning_rate=1e-2, warmup_epochs=1, clip=1.0, ema=0.9, smoothing=0.0)
    history = train(
        model, samples, data.inputs, config, seed=0, device=torch.device("cpu"), resume=Resume(None, {}), label="test"
    )  # fmt: skip
    assert history["loss"].iloc[-1] < 0.1 * history["loss"].iloc[0]
    (batch,) = epoch_batches(samples, data.inputs, 6, seed=0, epoch=0)
    tokens, _ = model.decode(model.encode(batch))
    assert (tokens == batch.tokens[:, :-1]).float().mean() > 0.8


def test_only_what_trains_changes_and_the_model_ends_ready_for_use(fit, tiny_model):
    model, _ = fit(freeze_words=True)
    fresh = tiny_model(POINTS, freeze_words=True)
    before = fresh.state_dict()
    moves = {name for name, parameter in fresh.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("visual.", "language.embedding")) for name in moves)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in moves), name
    assert not model.training


def test_the_weights_at_the_end_are_the_averaged_ones(fit):
    config = SHORT.replace(epochs=2, ema=0.0)
    last, _ = fit(config)
    averaged, _ = fit(config.replace(ema=0.999))
    assert not equal_states(last, averaged)


def test_a_loss_that_is_not_finite_stops_training_with_the_step_and_a_cure(fit, tmp_path):
    with pytest.raises(TrainingError, match=r"test: loss .* at epoch \d+, step \d+; lower the learning rate"):
        fit(SHORT.replace(learning_rate=1e30, warmup_epochs=0, epsilon=1e-30, clip=1e30), resume=tmp_path)


def test_a_model_that_is_broken_from_the_start_stops_in_the_first_step(data, tiny_model):
    model = tiny_model(POINTS)
    with torch.no_grad():
        model.predictor[0].weight[0, 0] = math.nan
    with pytest.raises(TrainingError, match="epoch 0, step 0"):
        train(
            model, data.contours(POINTS), data.inputs, SHORT, seed=0, device=torch.device("cpu"),
            resume=Resume(None, {}), label="test",
        )  # fmt: skip


def test_the_released_schedule_warms_up_in_six_parts_and_falls_to_a_tenth_at_epoch_75():
    config = TrainConfig()
    assert [rate_factor(config, epoch) for epoch in range(6)] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert rate_factor(config, 0.99) == pytest.approx(1 / 6) and rate_factor(config, 4.5) == pytest.approx(5 / 6)
    assert [rate_factor(config, epoch) for epoch in (6, 74, 74.99, 75, 89.9)] == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_the_cosine_schedule_goes_from_one_after_warm_up_to_nothing():
    config = TrainConfig(epochs=12, warmup_epochs=2, schedule="cosine")
    assert [rate_factor(config, epoch) for epoch in (0, 1, 2, 7, 12)] == pytest.approx([1 / 3, 2 / 3, 1, 0.5, 0])
    assert rate_factor(TrainConfig(epochs=4, warmup_epochs=0, schedule="cosine"), 0) == 1


@given(st.integers(1, 40), st.integers(0, 10), st.sampled_from(["step", "cosine"]), st.floats(0, 0.999))
def test_the_rate_is_never_above_its_value_nor_nothing_before_the_end(epochs, warmup, schedule, share):
    config = TrainConfig(epochs=epochs, warmup_epochs=warmup, schedule=schedule)
    assert 0 < rate_factor(config, share * epochs) <= 1


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_the_optimiser_has_its_settings_and_the_parameters_that_train(tiny_model, kind):
    config = TrainConfig(optimiser=kind, weight_decay=0.03, betas=(0.8, 0.9))
    model = tiny_model(POINTS)
    optimiser = make_optimiser(model, config)
    (group,) = optimiser.param_groups
    assert type(optimiser).__name__.lower() == kind and group["amsgrad"]
    assert (group["weight_decay"], group["betas"], group["eps"]) == (0.03, (0.8, 0.9), 1e-9)
    assert sum(p.numel() for p in group["params"]) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_auto_is_cuda_where_there_is_one_and_else_the_cpu():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ConfigError, match=f"device '{name}' cannot be used"):
        pick_device(name)

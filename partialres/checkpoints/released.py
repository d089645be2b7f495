"""The released SeqTR and Partial-RES models: their architecture as a config, their parameters by their names.

A released state dict holds every parameter under another name and some in another layout: query, key and value
projections stacked in one matrix, and PMCA's last layer with all centres before all scales instead of head by head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from partialres.config import OF_TRAINING, ModelConfig, UpstreamConfig, flat
from partialres.files import DataError
from partialres.model.pointer import PointModel

HEAD = "head.transformer."
POSITIONS = HEAD + "seq_positional_encoding.embedding.weight"
TASK = HEAD + "task_prompt.weight"
WORDS = "lan_enc.embedding.weight"

# Ours -> released: each name is rewritten by the first pattern that matches from its start.
_RULES: list[tuple[str, str]] = [
    (r"visual\.backbone\.stem", "vis_enc.darknet.0"),
    (r"visual\.neck\.to_middle", "fusion.down_bot2mid.1"),
    (r"visual\.neck\.to_coarse", "fusion.down_mid2top.1"),
    (r"visual\.neck\.mix", "fusion.top_project.0"),
    (r"visual\.neck\.project", "fusion.top_project.1"),
    (r"language\.embedding", "lan_enc.embedding"),
    (r"language\.gru", "lan_enc.lstm"),
    (r"gate\.conv", HEAD + "input_proj.conv"),
    (r"gate\.norm", HEAD + "input_proj.gn"),
    (r"(encoder|decoder)\.(\d+)\.(?:self_)?attention", HEAD + r"\1.layers.\2.self_attn"),
    (r"decoder\.(\d+)\.cross_attention", HEAD + r"decoder.layers.\1.multihead_attn"),
    (r"decoder\.(\d+)\.prior\.locate", HEAD + r"decoder.layers.\1.point"),
    (r"(encoder|decoder)\.(\d+)\.feedforward\.inner", HEAD + r"\1.layers.\2.linear1"),
    (r"(encoder|decoder)\.(\d+)\.feedforward\.outer", HEAD + r"\1.layers.\2.linear2"),
    (r"(encoder|decoder)\.(\d+)\.norm", HEAD + r"\1.layers.\2.norm"),
    (r"decoder_norm", HEAD + "decoder.norm"),
    (r"coordinates", HEAD + "query_embedding"),
    (r"positions", HEAD + "seq_positional_encoding.embedding"),
    (r"start", TASK),
    (r"predictor\.0", "head.predictor.0.fc"),
    (r"predictor\.2", "head.predictor.1.fc"),
    (r"predictor\.4", "head.predictor.2.fc"),
]
_PROJECTION = re.compile(r"(.*attention)\.(query|key|value)\.(weight|bias)")
_LAST_OF_PRIOR = re.compile(r".*\.prior\.locate\.4\.(weight|bias)")


def released_config(state: Mapping[str, Tensor], padded_words: int = 15) -> ModelConfig:
    """Tell the released architecture of a released state dict.

    padded_words: what the released data pipeline pads every expression to, 15, or 20 for RefCOCOg.
    Raises DataError if the state dict lacks the parameters that tell.
    """
    for key in (POSITIONS, WORDS):
        if key not in state:
            raise DataError(f"not a released SeqTR or Partial-RES state dict: it has no {key}")
    contour = state[POSITIONS].shape[0] > 5
    seqtr = UpstreamConfig(
        padded_words=padded_words, rounding="truncate", span="image", end_token="anywhere" if contour else "last"
    )
    modulated = any(".point." in key for key in state)
    partial_res = seqtr.replace(
        language_token=True, cctf_axes="transposed", cctf_cells="spread", cctf_means="frame", pmca_scale="multiply",
        start="learned" if contour else "zero",
    )  # fmt: skip
    return ModelConfig(
        word=state[WORDS].shape[1], cctf=modulated, pmca=modulated, upstream=partial_res if modulated else seqtr
    )


def released_model(state: Mapping[str, Tensor], padded_words: int = 15) -> PointModel:
    """Build the model of a released state dict, in evaluation mode, with its weights.

    Raises DataError that lists every key that is missing, left over or of another shape.
    """
    config = released_config(state, padded_words)
    words, points = state[WORDS].shape[0], (state[POSITIONS].shape[0] - 1) // 2
    with torch.device("meta"):
        model = PointModel(config, words, points)
    model.to_empty(device="cpu").load_state_dict(from_released(state, model))
    return model.eval()


def from_released(state: Mapping[str, Tensor], model: PointModel) -> dict[str, Tensor]:
    """Make our state dict for `model` from a released one, every key of either accounted for.

    A model that starts decoding from zeros does not use the task vector that Partial-RES always stores.
    Raises DataError that lists every key that is missing, left over or of another shape.
    """
    wanted = _export({name: value.to("meta") for name, value in model.state_dict().items()}, model.config)
    unused = set() if TASK in wanted else {TASK}
    problems = {
        "missing": sorted(wanted.keys() - state.keys()),
        "left over": sorted(state.keys() - wanted.keys() - unused),
        "of another shape": [
            f"{key} ({list(state[key].shape)}, not {list(value.shape)})"
            for key, value in wanted.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys)
        raise DataError(f"the released weights do not fit the model; {listed}")
    return {name: _import(name, state, model.config) for name in model.state_dict()}


def to_released(model: PointModel) -> dict[str, Tensor]:
    """Make the released state dict of a model, for the released code to load.

    Raises DataError if the model is not of a released architecture: the released code would compute something else.
    """
    state = _export(model.state_dict(), model.config)
    own, expected = (
        flat(config.model_dump())
        for config in (model.config, released_config(state, model.config.upstream.padded_words or 15))
    )
    different = [
        f"{name} is {own[name]!r}, not {expected[name]!r}"
        for name in own
        if name not in OF_TRAINING and own[name] != expected[name]
    ]
    if different:
        raise DataError(f"the released code has no such model: {'; '.join(different)}")
    return state


def _export(own: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Rename our state dict and change its layouts to the released ones."""
    state: dict[str, Tensor] = {}
    parts: dict[str, list[Tensor]] = {}
    for name, value in own.items():
        key = released_name(name)
        if _PROJECTION.fullmatch(name):  # query, key, value are registered in the order they are stacked in
            parts.setdefault(key, []).append(value)
        elif name == "start":
            if config.upstream.start == "learned":
                state[key] = value[None]
        else:
            state[key] = _prior_rows(value, (config.heads, 2)) if _LAST_OF_PRIOR.fullmatch(name) else value
    return state | {key: torch.cat(values) for key, values in parts.items()}


def _import(name: str, state: Mapping[str, Tensor], config: ModelConfig) -> Tensor:
    """Take one of our parameters or buffers from a released state dict that has all keys."""
    if name == "start":
        return state[TASK][0] if config.upstream.start == "learned" else torch.zeros(config.width)
    value = state[released_name(name)]
    projection = _PROJECTION.fullmatch(name)
    if projection:
        return value.chunk(3)[("query", "key", "value").index(projection[2])]
    return _prior_rows(value, (2, config.heads)) if _LAST_OF_PRIOR.fullmatch(name) else value


def _prior_rows(value: Tensor, outer: tuple[int, int]) -> Tensor:
    """Reorder rows [a * b * 2, ...] of [a, b] pairs to [b, a]: centres and scales by head, or heads by kind."""
    return value.unflatten(0, (*outer, 2)).transpose(0, 1).flatten(0, 2)


def released_name(name: str) -> str:
    """Return the released name of one of our parameters or buffers, or of the matrix it is stacked into."""
    backbone = re.fullmatch(r"visual\.backbone\.(stages\.\d+|tail)\.(\d+)\.(.*)", name)
    if backbone:
        return _backbone_name(*backbone.groups())
    projection = _PROJECTION.fullmatch(name)
    if projection:
        name = f"{projection[1]}.in_proj_{projection[3]}"
    for pattern, replacement in _RULES:
        rewritten, count = re.subn("^" + pattern, replacement, name)
        if count:
            return rewritten.replace("self_attn.out.", "self_attn.out_proj.").replace(
                "multihead_attn.out.", "multihead_attn.out_proj."
            )
    raise KeyError(name)


def _backbone_name(part: str, index: str, rest: str) -> str:
    """DarkNet-53's stages are modules 1 to 10, a convolution and residuals each; YOLOv3's block is 11 to 13."""
    place = int(index)
    if part == "tail":
        pair, side = divmod(place, 2)
        module = f"11.module_list.{pair}.{side}" if pair < 2 else str(12 + side)
        return f"vis_enc.darknet.{module}.{rest}"
    convolution = 1 + 2 * int(part.split(".")[1])
    if place == 0:
        return f"vis_enc.darknet.{convolution}.{rest}"
    unit, rest = rest.removeprefix("conv").split(".", 1)
    return f"vis_enc.darknet.{convolution + 1}.module_list.{place - 1}.{int(unit) - 1}.{rest}"

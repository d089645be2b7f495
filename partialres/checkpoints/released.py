"""Convert the released SeqTR and Partial-RES models to ours and back: their config, parameter names and layouts.

A released state dict uses other parameter names and, for some, another layout: query, key and value projections are
stacked in one matrix, and PMCA's last layer has all centres before all scales instead of grouping them by head.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from partialres.config import ModelConfig, UpstreamConfig
from partialres.files import DataError
from partialres.model.pointer import PointModel

HEAD = "head.transformer."
POSITIONS = HEAD + "seq_positional_encoding.embedding.weight"
TASK = HEAD + "task_prompt.weight"
WORDS = "lan_enc.embedding.weight"
LAST_OF_PRIOR = ".point.4."  # part of the names of its weight and bias


def _residual(ours: re.Match[str]) -> str:
    """Return a residual convolution's released name; modules 1 to 10 are, by stage, a convolution and its residuals."""
    stage, unit, side = map(int, ours.groups())
    return f"vis_enc.darknet.{2 * stage + 2}.module_list.{unit - 1}.{side - 1}"


# Our names -> released names: all patterns are applied to a name, in this order.
_RENAMED: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^visual\.backbone\.stem", "vis_enc.darknet.0"),
    (r"^visual\.backbone\.stages\.(\d)\.0", lambda ours: f"vis_enc.darknet.{2 * int(ours[1]) + 1}"),
    (r"^visual\.backbone\.stages\.(\d)\.(\d)\.conv(\d)", _residual),
    (r"^visual\.backbone\.tail\.0", "vis_enc.darknet.11.module_list.0.0"),
    (r"^visual\.backbone\.tail\.1", "vis_enc.darknet.11.module_list.0.1"),
    (r"^visual\.backbone\.tail\.2", "vis_enc.darknet.11.module_list.1.0"),
    (r"^visual\.backbone\.tail\.3", "vis_enc.darknet.11.module_list.1.1"),
    (r"^visual\.backbone\.tail\.4", "vis_enc.darknet.12"),
    (r"^visual\.backbone\.tail\.5", "vis_enc.darknet.13"),
    (r"^visual\.neck\.to_middle", "fusion.down_bot2mid.1"),
    (r"^visual\.neck\.to_coarse", "fusion.down_mid2top.1"),
    (r"^visual\.neck\.mix", "fusion.top_project.0"),
    (r"^visual\.neck\.project", "fusion.top_project.1"),
    (r"^language\.embedding", "lan_enc.embedding"),
    (r"^language\.gru", "lan_enc.lstm"),
    (r"^gate\.conv", HEAD + "input_proj.conv"),
    (r"^gate\.norm", HEAD + "input_proj.gn"),
    (r"^(encoder|decoder)\.(\d+)", HEAD + r"\1.layers.\2"),
    (r"cross_attention", "multihead_attn"),
    (r"(self_)?attention", "self_attn"),
    (r"attn\.(query|key|value)\.", "attn.in_proj_"),
    (r"attn\.out\.", "attn.out_proj."),
    (r"prior\.locate", "point"),
    (r"feedforward\.inner", "linear1"),
    (r"feedforward\.outer", "linear2"),
    (r"^decoder_norm", HEAD + "decoder.norm"),
    (r"^coordinates", HEAD + "query_embedding"),
    (r"^positions", HEAD + "seq_positional_encoding.embedding"),
    (r"^start", TASK),
    (r"^predictor\.(\d)", lambda ours: f"head.predictor.{int(ours[1]) // 2}.fc"),
]


def released_config(state: Mapping[str, Tensor], padded_words: int = 15) -> ModelConfig:
    """Derive the config of the model that a released state dict belongs to.

    padded_words: length to which the released data code pads every expression, 15, or 20 for RefCOCOg.
    Raises DataError if the state dict lacks a parameter that this needs.
    """
    for key in (POSITIONS, WORDS):
        if key not in state:
            raise DataError(f"not a released SeqTR or Partial-RES state dict: it has no {key}")
    contour = state[POSITIONS].shape[0] > 5
    upstream = UpstreamConfig(
        padded_words=padded_words, rounding="truncate", span="image", padding="counts",
        end_token="anywhere" if contour else "last",
    )  # fmt: skip
    partial_res = any(".point." in key for key in state)
    if partial_res:
        upstream = upstream.replace(
            language_token=True, cctf_axes="transposed", cctf_cells="spread", cctf_means="frame", pmca_scale="raw",
            pmca_reads="query",
            start="learned" if contour else "zero",
        )  # fmt: skip
    return ModelConfig(word=state[WORDS].shape[1], cctf=partial_res, pmca=partial_res, upstream=upstream)


def released_model(state: Mapping[str, Tensor], padded_words: int = 15) -> PointModel:
    """Build the model of a released state dict, in evaluation mode, with its weights.

    Raises DataError as `released_config` and `from_released` do.
    """
    config = released_config(state, padded_words)
    with torch.device("meta"):
        model = PointModel(config, words=len(state[WORDS]), points=len(state[POSITIONS]) // 2)
    model.to_empty(device="cpu").load_state_dict(from_released(state, model))
    return model.eval()


def from_released(state: Mapping[str, Tensor], model: PointModel) -> dict[str, Tensor]:
    """Convert a released state dict to ours for `model`. Every key of both must match, with one exception:

    a model that starts decoding from zeros does not use the task vector that Partial-RES always stores.
    Raises DataError with the keys that are missing, left over or of another shape.
    """
    wanted = _export(model)
    problems = {
        "missing": sorted(wanted.keys() - state.keys()),
        "left over": sorted(state.keys() - wanted.keys() - {TASK}),
        "of another shape": [
            f"{key} ({list(value.shape)}, not {list(wanted[key].shape)})"
            for key, value in state.items()
            if key in wanted and value.shape != wanted[key].shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys)
        raise DataError(f"the released weights do not fit the model; {listed}")
    ours: dict[str, Tensor] = {}
    for name in model.state_dict():
        key = released_name(name)
        if "in_proj" in key:
            ours[name] = state[key].chunk(3)[("query", "key", "value").index(name.split(".")[-2])]
        elif LAST_OF_PRIOR in key:
            ours[name] = _regrouped(state[key], 2, model.config.heads)
        elif key == TASK:
            ours[name] = state[key][0] if key in wanted else torch.zeros(model.config.width)
        else:
            ours[name] = state[key]
    return ours


def to_released(model: PointModel) -> dict[str, Tensor]:
    """Convert a model to a state dict that the released code can load.

    Raises DataError if its architecture is not a released one, because the released code would compute something else.
    """
    state = _export(model)
    released = released_config(state, model.config.upstream.padded_words or 15)
    if different := model.config.differences(released):
        raise DataError(f"the released code has no such model: {'; '.join(different)}")
    return state


def _export(model: PointModel) -> dict[str, Tensor]:
    """Return our state dict with released names and layouts."""
    state: dict[str, Tensor] = {}
    stacked: dict[str, list[Tensor]] = {}
    for name, value in model.state_dict().items():
        key = released_name(name)
        if "in_proj" in key:  # query, key, value are registered in the order they are stacked in
            stacked.setdefault(key, []).append(value)
        elif LAST_OF_PRIOR in key:
            state[key] = _regrouped(value, model.config.heads, 2)
        elif key != TASK:
            state[key] = value
        elif model.config.upstream.start == "learned":
            state[key] = value[None]
    return state | {key: torch.cat(values) for key, values in stacked.items()}


def _regrouped(value: Tensor, outer: int, inner: int) -> Tensor:
    """Reorder rows from [outer, inner, 2] to [inner, outer, 2]: grouped by head to centres before scales, or back."""
    return value.unflatten(0, (outer, inner, 2)).transpose(0, 1).flatten(0, 2)


def released_name(name: str) -> str:
    """Return the released name of one of our parameters or buffers, or of the matrix in which it is stacked."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name

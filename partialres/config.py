"""The settings of each stage as frozen dataclasses, filled strictly: an unknown or ill-typed key is an error.

Defaults are the paper's (the released configuration where the paper is silent); config/ holds what data sets change.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Section = TypeVar("Section")


class ConfigError(ValueError):
    """A setting that does not exist, has the wrong type or lies outside its range."""


@dataclass(frozen=True)
class ModelConfig:
    """The point-sequence model (paper sec. 3), or with head "mask" its two-head peer (Figure 1), which has no sequence.

    The fields from padded_words on choose between the paper, the default, and what the released code does instead.
    """

    backbone: Literal["darknet53", "tiny"] = "darknet53"
    frozen: Literal["all", "but_last_two", "none"] = "but_last_two"  # which backbone convolutions do not train
    fusion: int = 1024  # channels of the gated map; twice `language`, for the gate is an element-wise product
    language: int = 512  # GRU units a direction
    word: int = 300  # width of a word vector
    freeze_words: bool = True
    width: int = 256
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 3
    feedforward: int = 1024
    dropout: float = 0.1
    bins: int = 1000
    cctf: bool = True  # coordinate tokens carry the features they point at (eq. 3-5)
    pmca: bool = True  # cross-attention with a Gaussian prior around the point (eq. 6-7)
    pmca_sigma: float = 8.0
    head: Literal["points", "mask"] = "points"  # mask: a box and a convolutional mask head, as MDETR has them
    prompt: Literal["none", "box"] = "none"  # box: a contour follows the two corners of its box
    view: Literal["image", "box"] = "image"  # box: of the image the surroundings of the known box, enlarged
    padded_words: int = 0  # released 15 (RefCOCOg 20): the GRU reads padding too, up to this many words; 0: never
    language_token: bool = False  # released: the expression joins the encoder's input as one more token
    cctf_axes: Literal["paper", "transposed"] = "paper"  # released: x looks up rows and y columns
    cctf_cells: Literal["containing", "spread"] = "containing"  # released: bin b means cell b (cells - 1) / bins
    cctf_means: Literal["image", "frame"] = "image"  # released: means of columns and rows count padding too
    pmca_scale: Literal["divide", "multiply"] = "divide"  # released: raw, squared, times distances in cells
    start: Literal["zero", "learned"] = "zero"  # released segmentation: a learned first input
    rounding: Literal["round", "truncate"] = "round"  # released: coordinates are truncated to bins
    span: Literal["frame", "image"] = "frame"  # released: an axis's bins span the image's own padded side
    end: Literal["last", "anywhere"] = "last"  # released segmentation: decoding may end before N points

    def __post_init__(self) -> None:
        _require(self.fusion == 2 * self.language, "fusion must be 2 x language: the gate multiplies the two")
        _require(self.heads >= 1 and self.width % self.heads == 0, "width must divide by heads")
        # sine positions come in fours, normalisation in min(32, width / 4) groups
        _require(self.width % (4 if self.width < 128 else 32) == 0, "width must divide by 4, from 128 on by 32")
        _require(0 <= self.dropout < 1, "dropout must be in [0, 1)")
        _require(self.bins >= 2, "bins must be at least 2")
        _require(self.padded_words >= 0, "padded_words must be at least 0")
        _require(
            self.head == "points" or (self.prompt, self.view) == ("none", "image"),
            "head: mask has neither a prompt nor a view of the box; set prompt: none and view: image",
        )
        _require(
            self.head == "points" or not (self.cctf or self.pmca),
            "head: mask has no sequence of points for CCTF and PMCA to work on; set cctf: false and pmca: false",
        )

    def step_1(self) -> ModelConfig:
        """The model of step 1, SeqTR's: without what step 2 brings in."""
        plain: dict[str, Any] = {each.name: each.default for each in dataclasses.fields(self) if each.name in OF_STEP_2}
        return dataclasses.replace(self, **plain | {"cctf": False, "pmca": False})

    def after(self, step_1: ModelConfig) -> ModelConfig:
        """This model, to go on from step 1's weights; raises ConfigError that names every field that forbids it."""
        shared = [field.name for field in dataclasses.fields(self) if field.name not in OF_STEP_2 + OF_TRAINING]
        different = [
            f"{name} is {getattr(step_1, name)!r}, not {getattr(self, name)!r}"
            for name in shared
            if getattr(step_1, name) != getattr(self, name)
        ]
        _require(not different, f"step 1's model is another: {'; '.join(different)}")
        return self


def check_contour(sampling: str, end: str) -> None:
    """Raises ConfigError if a model whose sequences end so cannot say the contours that masks are sampled to."""
    _require(
        sampling == "uniform" or end == "anywhere",
        "contour: released often gives fewer than N points, then an end token, which a model with end: last never "
        "says; set model.end: anywhere",
    )


def check_visual(visual: str, frozen: str) -> None:
    """Raises ConfigError if what the visual part starts from leaves a part of it random that never trains."""
    _require(
        frozen != "all" or visual == "pretrain" or visual.endswith(".safetensors"),
        f"visual: {visual} has no weights of the neck between backbone and encoder, which model.frozen: all would "
        "leave random; set model.frozen: but_last_two or none",
    )


def check_jitter(step: str, jitter: tuple[float, float] | None, frozen: str) -> None:
    """Raises ConfigError if a training is to see each ref at another scale but has only cached features of its images.

    step: the training's section, rec, res or retrain.
    """
    _require(
        jitter is None or frozen != "all",
        f"{step}.jitter needs the images themselves, of which model.frozen: all keeps cached features only; set "
        f"{step}.jitter: null or model.frozen: but_last_two",
    )


def check_view(view: str, jitter: tuple[float, float] | None, span: str) -> None:
    """Raises ConfigError if a model that sees the known box's surroundings is to see them otherwise too."""
    _require(
        view == "image" or jitter is None,
        "model.view: box draws its own windows around the box; set res.jitter: null for it",
    )
    _require(view == "image" or span == "frame", "model.view: box enlarges to the frame; set model.span: frame")


def check_boxes(boxes: bool, prompt: str) -> None:
    """Raises ConfigError if refs without a contour are to train a model that says no boxes."""
    _require(not boxes or prompt == "box", "boxes: true needs sequences that begin with a box; set model.prompt: box")


def check_head(head: str, retrain: bool, jitters: Mapping[str, tuple[float, float] | None]) -> None:
    """Raises ConfigError if a mask head is to do what only a head of points can.

    retrain: whether step 3 follows. jitters: of each training by its section's name.
    """
    if head == "points":
        return
    _require(not retrain, "model.head: mask predicts no points for step 3 to learn from; set retrain: false")
    for step, jitter in jitters.items():
        _require(jitter is None, f"{step}.jitter is for model.head: points alone; set {step}.jitter: null")


# What step 2 may have otherwise than step 1: the weights fit all the same.
OF_STEP_2 = ("prompt", "view", "cctf", "pmca", "pmca_sigma", "pmca_scale", "cctf_axes", "cctf_cells", "cctf_means",
             "language_token", "start", "end")  # fmt: skip
OF_TRAINING = ("frozen", "freeze_words", "dropout")  # what a model's outputs do not depend on


@dataclass(frozen=True)
class TrainConfig:
    """One training: step 1 on boxes, step 2 and 3 on contours."""

    epochs: int = 90
    batch: int = 128  # refs a step over all devices
    learning_rate: float = 5e-4
    warmup_epochs: int = 5  # epoch e of these has the rate times (e + 1) / (warmup_epochs + 1)
    schedule: Literal["step", "cosine"] = "step"
    decay_at: float = 75 / 90  # step: the share of the epochs after which the rate is a tenth
    optimiser: Literal["adam", "adamw"] = "adam"
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-9
    amsgrad: bool = True
    weight_decay: float = 0.0
    clip: float = 0.15  # largest gradient norm
    ema: float = 0.999
    smoothing: float = 0.1  # label smoothing: 1 - smoothing on the target, smoothing / classes on every other class
    end_weight: float = 0.1  # loss weight of the end token
    first_weight: float = 1.0  # loss weight of the sequence's first token (released REC: 1.5)
    group_images: bool = False  # refs of one image in one batch: their backbone pass is shared
    checkpoint_epochs: int = 1  # resume state is written after this many epochs
    boxes: bool = False  # refs without a contour train too, by their box alone (model.prompt: box)
    jitter: tuple[float, float] | None = None  # large-scale jitter: the range of the image's scale (released 0.3, 1.4)

    def __post_init__(self) -> None:
        _require(self.epochs >= 1 and self.batch >= 1, "epochs and batch must be at least 1")
        _require(self.learning_rate > 0 and self.clip > 0, "learning_rate and clip must be above 0")
        _require(0 <= self.smoothing < 1, "smoothing must be in [0, 1)")
        _require(0 < self.decay_at <= 1, "decay_at must be in (0, 1]")
        _require(0 <= self.ema < 1, "ema must be in [0, 1)")
        _require(self.warmup_epochs >= 0, "warmup_epochs must be at least 0")
        _require(self.checkpoint_epochs >= 1, "checkpoint_epochs must be at least 1")
        _require(
            self.jitter is None or 0.05 <= self.jitter[0] <= self.jitter[1] <= 10,
            "jitter must be null or the least and greatest scale, from 0.05 to 10",
        )


@dataclass(frozen=True)
class PretrainConfig:
    """Dense detection pre-training of the tiny backbone: the stand-in for YOLOv3's on COCO."""

    epochs: int = 16
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        _require(self.epochs >= 1 and self.batch >= 1, "epochs and batch must be at least 1")
        _require(self.learning_rate > 0, "learning_rate must be above 0")


@dataclass(frozen=True)
class PseudoConfig:
    """Pseudo points: which are kept and how they are spaced (paper sec. 3, eq. 8, RPP)."""

    threshold: float = 0.10  # a pseudo mask is kept where D is below this
    resample: bool = True  # RPP: points spaced evenly along the kept mask's outline
    weight: Literal["none", "probability"] = "none"  # probability: a kept mask weighs by how sure its tokens were

    def __post_init__(self) -> None:
        _require(0 < self.threshold <= 2.01, "threshold must be in (0, 2]: D is the sum of two dice losses")


@dataclass(frozen=True)
class PredictConfig:
    """Prediction of pseudo points. The paper knows the box and decodes one expression without it."""

    batch: int = 128  # about so many expressions at once
    guided: bool = False  # coordinates are restricted to the known box
    expressions: Literal["first", "all"] = "first"  # all: of a ref's contours the one with the lowest D

    def __post_init__(self) -> None:
        _require(self.batch >= 1, "batch must be at least 1")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def fill(kind: type[Section], values: Mapping[str, Any], where: str = "") -> Section:
    """A config section from a mapping (JSON or YAML). Missing keys take their defaults.

    kind: one of this module's dataclasses. where: how to name the section in messages.
    Raises ConfigError that names the key, what it holds and what it may hold.
    """
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    where = where or kind.__name__
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{key}'; known are {', '.join(sorted(known))}")
    converted = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return kind(**converted)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type; ints may stand for floats and lists for tuples, nothing else is coerced."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        if value in typing.get_args(hint):
            return value
        raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(repr, typing.get_args(hint)))}")
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(hint):
            return None
        return _convert(next(arg for arg in typing.get_args(hint) if arg is not type(None)), value, where)
    if origin is tuple:
        arguments = typing.get_args(hint)
        if not isinstance(value, (list, tuple)) or len(value) != len(arguments):
            raise ConfigError(f"{where}: {value!r} is not a list of {len(arguments)} numbers")
        return tuple(_convert(argument, item, where) for argument, item in zip(arguments, value, strict=True))
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 5e-4 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}: {value!r} is not of type {hint.__name__}")

"""Every setting, described once: its type, range, unit, default and source.

The workflow checks a config against these classes before anything runs; `python -m tools.reference` makes the JSON
schema and the tables of config/README.md from them. Defaults follow the paper or, where it is silent, the configuration
that its authors released; the latter are marked [released].
"""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictBool,
    StrictInt,
    ValidationError,
    model_validator,
)


def _from_text(value: Any) -> Any:
    """Turn text into a number if possible: YAML 1.1 reads 5e-4 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _of_six_digits(ratio: float) -> float:
    if float(f"{ratio:g}") != ratio:
        raise ValueError(f"has {ratio!r}; give at most six digits: the name of its folder has no more")
    return ratio


Number = Annotated[float, Strict(), BeforeValidator(_from_text)]
Ratio = Annotated[Number, Field(ge=0.0001, le=100), AfterValidator(_of_six_digits)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9+_-]+$")]
Text = Annotated[str, Field(min_length=1)]
Folder = Annotated[str, Field(pattern=r"^[^{}\x00-\x1f]*[^/{}\x00-\x1f]$")]
Positive = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
Natural = Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]
Size = Annotated[StrictInt, Field(ge=1, le=2**14)]
Head = Literal["points", "mask"]
PREFIX = "timm/"  # of the backbones that timm has


class ConfigError(ValueError):
    """A setting that does not exist, has the wrong type, lies outside its range or contradicts another."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def distinct(values: list[Any]) -> list[Any]:
    """Return the values unchanged; raises ValueError if two are equal."""
    if len(set(values)) < len(values):
        raise ValueError(f"has {next(value for value in values if values.count(value) > 1)!r} twice")
    return values


def _present(entries: Any) -> Any:
    """Leave out null entries: a config file that is laid over another removes an entry with `name: null`."""
    given = isinstance(entries, Mapping)
    return {name: entry for name, entry in entries.items() if entry is not None} if given else entries


Entry = TypeVar("Entry")
Entries = Annotated[dict[Name, Entry], Field(min_length=1), BeforeValidator(_present)]
Names = Annotated[list[Name], AfterValidator(distinct)]


class Section(BaseModel):
    """A group of settings; it cannot be changed, and undeclared keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @classmethod
    def parse(cls, values: Any, where: str = "") -> Self:
        """Check the values and build the section from them. Missing keys take their defaults.

        where: the section's name in messages. Raises ConfigError with one line per mistake, giving the key, its value
        and the values allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            mistakes = error.errors()
            keys = {item["loc"][:-1] for item in mistakes if item["loc"][-1:] == ("[key]",)}  # wrong, with any value
            told = [each for each in mistakes if each["loc"][-1:] == ("[key]",) or not _below(each["loc"], keys)]
            raise ConfigError("\n".join(_explain(cls, item, where) for item in told)) from None

    def replace(self, **changes: Any) -> Self:
        """Copy this section with some values changed; raises ConfigError as `parse` does."""
        return self.parse(self.model_dump() | changes, type(self).__name__)


def _below(place: tuple[Any, ...], places: set[tuple[Any, ...]]) -> bool:
    return any(place[:length] in places for length in range(len(place) + 1))


def _explain(section: type[Section], error: Any, where: str) -> str:
    """Describe one mistake in one line, such as: res.epochs: 'ten': input should be a valid integer."""
    path = ".".join(filter(None, [where, *map(str, error["loc"])]))
    if error["type"] == "extra_forbidden":
        inner: Any = section
        for part in error["loc"][:-1]:
            field = getattr(inner, "model_fields", {}).get(part)
            inner = field.annotation if field else None
        keys = ", ".join(sorted(inner.model_fields)) if hasattr(inner, "model_fields") else "its own"
        return f"{path}: unknown key; the keys are {keys}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "invalid_key":
        return f"{path}: a key is text; quote it, or write a decimal with a point, as in 0.2"
    if error["type"] == "missing":
        return f"{path}: is missing"
    if error["type"] == "value_error":  # the message of one of our own checks is complete
        return f"{path}: {message}" if path else message
    return f"{path}: {error['input']!r}: {message[0].lower()}{message[1:]}"


class UpstreamConfig(Section):
    """Where the released code differs from the paper; the defaults follow the paper (docs/fidelity.md)."""

    padded_words: Natural = 0
    """Pad expressions to this many words and let the GRU read the padding; 0: no padding. Released: 15, RefCOCOg 20."""
    rounding: Literal["round", "truncate"] = "round"
    """How a coordinate becomes a bin (eq. 2): rounded or truncated. Released: truncate."""
    span: Literal["frame", "image"] = "frame"
    """Length divided into bins: the square frame's side, or the image's own side with padding. Released: image."""
    padding: Literal["ignored", "counts"] = "ignored"
    """`ignored`: convolutions read zeros in the frame's padding, the fusion's norm leaves it out, and positions are in
    units of the frame, as bins are (of the image with `span: image`). `counts`: both see the padding, and positions are
    in units of the image. Released: counts."""
    language_token: StrictBool = False
    """Whether the encoder also receives the expression, as one additional token. Released: true."""
    cctf_axes: Literal["paper", "transposed"] = "paper"
    """CCTF looks up columns for x and rows for y, as in eq. 3-5, or the reverse. Released: transposed."""
    cctf_cells: Literal["containing", "spread"] = "containing"
    """The feature cell of a bin: the cell containing it, or floor(bin * (cells - 1) / bins). Released: spread."""
    cctf_means: Literal["image", "frame"] = "image"
    """The area over which CCTF averages columns and rows: the image, or the frame with padding. Released: frame."""
    pmca_scale: Literal["sigmoid", "raw"] = "sigmoid"
    """PMCA's scale: a sigmoid that divides distances (eq. 6-7), or the raw output, which multiplies them, in cells.
    Released: raw."""
    pmca_reads: Literal["content", "query"] = "content"
    """What PMCA's MLP reads: the co-content embeddings S (eq. 6), or each layer's queries. Released: query."""
    start: Literal["zero", "learned"] = "zero"
    """The decoder's first input: zeros or a learned vector. Released segmentation: learned."""
    end_token: Literal["last", "anywhere"] = "last"
    """Whether a sequence ends only after N points, or possibly earlier. Released segmentation: anywhere."""

    def step_1(self) -> UpstreamConfig:
        """Keep only the settings that affect step 1's weights; reset the others to their defaults."""
        kept = ("padded_words", "rounding", "span", "padding")
        return UpstreamConfig(**{name: getattr(self, name) for name in kept})

    @property
    def whole_frames(self) -> bool:
        """Whether the model must see images in the whole square frame, because its padding affects the outputs."""
        return self.padding == "counts" or self.cctf_means == "frame"


class ModelConfig(Section):
    """The point-sequence model (sec. 3) or, with `head: mask`, the two-head model that Figure 1 compares it with."""

    backbone: Annotated[str, Field(pattern=r"^(darknet53|tiny|timm/[A-Za-z0-9_.-]+)$")] = "darknet53"
    """Visual backbone: `darknet53` (sec. 3), `tiny`, for generated images of 100 to 200 pixels, or `timm/NAME`, a
    network of the timm library with maps at strides 8, 16 and 32 (`[backbones]`); NAME.TAG also names its weights."""
    frozen: Literal["all", "but_last_two", "but_last_stage", "none"] = "but_last_two"
    """What of the backbone is not trained: all but its last two convolutions (DarkNet) or its last stage (timm), or
    nothing; `all` freezes the neck too and caches features. [released: but_last_two]"""
    fusion: Size = 1024
    """Channels of the visual map; must be 2 x `language`, as eq. 1 multiplies it by the GRU's output. [released]"""
    language: Size = 512
    """GRU units per direction. [released]"""
    word: Size = 300
    """Length of a word vector. [released]"""
    freeze_words: StrictBool = True
    """Whether word vectors stay fixed in training. [released]"""
    width: Size = 256
    """Channels of the encoder and the decoder. [released]"""
    heads: Size = 8
    """Attention heads. [released]"""
    encoder_layers: Annotated[Size, Field(le=100)] = 6
    """Encoder layers (sec. 3)."""
    decoder_layers: Annotated[Size, Field(le=100)] = 3
    """Decoder layers (sec. 3)."""
    feedforward: Size = 1024
    """Hidden units of each layer's feed-forward network. [released]"""
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    """Fraction of activations dropped in training. [released]"""
    bins: Annotated[Size, Field(ge=2)] = 1000
    """Number M of bins into which each axis is divided (eq. 2). [released]"""
    cctf: StrictBool = True
    """CCTF: add to each coordinate token the image features at that coordinate (eq. 3-5). Steps 2 and 3 only."""
    pmca: StrictBool = True
    """PMCA: give cross-attention a Gaussian prior around the point (eq. 6-7). Steps 2 and 3 only."""
    pmca_sigma: Annotated[Number, Field(gt=0)] = 8.0
    """sigma in eq. 7; the paper gives no value. [released]"""
    head: Head = "points"
    """Output: a sequence of points, or a box and a convolutional mask (which needs cctf: false and pmca: false)."""
    view: Literal["image", "box"] = "image"
    """Input of step 2's model: the whole image, or an enlarged crop around the known box. With `box` the model only
    makes pseudo points and is never scored, because a score must not rest on the known box."""
    upstream: UpstreamConfig = UpstreamConfig()
    """Where the released code differs from the paper."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.fusion == 2 * self.language, "fusion must be 2 x language: eq. 1 multiplies the two")
        wrong, right = ("but_last_two", "but_last_stage")[:: 1 if self.backbone.startswith(PREFIX) else -1]
        _require(self.frozen != wrong, f"frozen: {self.backbone} has no {wrong}; set frozen: {right}, all or none")
        _require(self.width % self.heads == 0, "width must be a multiple of heads")
        # sine positions need a multiple of 4, the normalisation a multiple of its min(32, width / 4) groups
        _require(self.width % (4 if self.width < 128 else 32) == 0, "width must be a multiple of 4, or 32 from 128 on")
        if self.head == "mask":
            _require(
                not self.cctf and not self.pmca,
                "head: mask has no sequence of points for CCTF and PMCA; set cctf: false and pmca: false",
            )
            step = 8 if self.width < 64 else 32  # its convolutions are normalised in groups
            _require(self.width % step == 0, f"head: mask needs a width that divides by {step}")
            _require(self.view == "image", "head: mask predicts no pseudo points; set view: image")
        _require(self.view == "image" or self.upstream.span == "frame", "view: box needs upstream.span: frame")
        return self

    @property
    def cached(self) -> bool:
        """Whether the visual part's output is cached for each image: it is frozen, and padding is left out."""
        return self.frozen == "all" and not self.upstream.whole_frames

    def step_1(self) -> ModelConfig:
        """Return the config of step 1's model, which is SeqTR's: without the parts that step 2 adds."""
        plain = {name: ModelConfig.model_fields[name].default for name in STEP_2_FIELDS}
        return self.replace(**plain | {"cctf": False, "pmca": False, "upstream": self.upstream.step_1()})

    def check_init(self, step_1: ModelConfig) -> None:
        """Check that this model can start from step 1's weights; raises ConfigError naming each field that differs."""
        different = step_1.step_1().differences(self.step_1())
        _require(not different, f"step 1's model is different: {'; '.join(different)}")

    def differences(self, other: ModelConfig) -> list[str]:
        """List the fields, training's aside, whose values differ, such as: bins is 64, not 77 (the other's)."""
        own, others = (flat(each.model_dump()) for each in (self, other))
        return [
            f"{name} is {own[name]!r}, not {others[name]!r}"
            for name in own
            if name not in OF_TRAINING and own[name] != others[name]
        ]


STEP_2_FIELDS = ("cctf", "pmca", "pmca_sigma", "view")  # step 1's weights fit whatever their values
OF_TRAINING = ("frozen", "freeze_words", "dropout")  # these affect training, not the outputs of given weights


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested sections to one mapping with dotted keys."""
    pairs = ((key, flat(value) if isinstance(value, Mapping) else {"": value}) for key, value in values.items())
    return {f"{key}.{inner}".rstrip("."): leaf for key, part in pairs for inner, leaf in part.items()}


class TrainConfig(Section):
    """One training: step 1 on boxes (`rec`), step 2 on labelled masks (`res`), step 3 with pseudo masks (`retrain`)."""

    epochs: Positive = 90
    """Passes over the training refs, each with one of its expressions. [released]"""
    updates: Positive | None = None
    """Optimiser steps in all, however many refs there are: then `epochs` only divides the schedule. null: `epochs`."""
    batch: Positive = 128
    """Refs per optimiser step, over all devices (paper)."""
    learning_rate: Annotated[Number, Field(gt=0)] = 5e-4
    """Peak learning rate (paper)."""
    warmup_epochs: Natural = 5
    """Number of warm-up epochs; epoch e, from 0, uses (e + 1) / (warmup_epochs + 1) of the rate. [released]"""
    schedule: Literal["step", "cosine"] = "step"
    """Rate after the warm-up: constant with one drop to a tenth, or falling to 0 as half a cosine. [released: step]"""
    decay_at: Annotated[Number, Field(gt=0, le=1)] = 75 / 90
    """Fraction of all epochs after which the `step` schedule divides the rate by ten. [released]"""
    optimiser: Literal["adam", "adamw"] = "adam"
    """Optimiser. [released: adam; the paper: adamw]"""
    betas: tuple[Annotated[Number, Field(ge=0, lt=1)], Annotated[Number, Field(ge=0, lt=1)]] = (0.9, 0.98)
    """Decay rates of the optimiser's two moving averages. [released]"""
    epsilon: Annotated[Number, Field(gt=0)] = 1e-9
    """Added to the optimiser's denominator. [released]"""
    amsgrad: StrictBool = True
    """Whether the optimiser uses the maximum so far of its second average (AMSGrad). [released]"""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    """Weight decay. [released; the paper gives none]"""
    clip: Annotated[Number, Field(gt=0)] = 0.15
    """Largest norm of the gradient; longer ones are scaled down to it. [released]"""
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    """Decay of the moving average of the weights; the average is the model that is saved. [released]"""
    smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    """Label smoothing: the target gets 1 - smoothing, every other class smoothing / classes. [released]"""
    end_weight: Annotated[Number, Field(ge=0)] = 0.1
    """Loss weight of the end token. [released: 1 in detection]"""
    first_weight: Annotated[Number, Field(ge=0)] = 1.0
    """Loss weight of a sequence's first token. [released: 1.5 in detection]"""
    jitter: tuple[Annotated[Number, Field(ge=0.05)], Annotated[Number, Field(le=10)]] | None = None
    """Large-scale jitter: range of the scale at which an image is shown in an epoch; null: none. [released: 0.3, 1.4,
    for each ref]"""
    compile: StrictBool = False
    """Compile the model with torch.compile, which takes minutes at the start; for long trainings on GPUs."""
    checkpoint_epochs: Positive = 1
    """Number of epochs between saved states from which a stopped training can resume."""
    score_epochs: Positive | None = None
    """Score the averaged weights on a sample of split val every this many epochs, for metrics.csv; null: never."""
    tensorboard: StrictBool = False
    """Also write metrics.csv's columns as TensorBoard events, into tensorboard/ beside it (`[tensorboard]`)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.jitter is None or self.jitter[0] <= self.jitter[1], "jitter: the smaller scale comes first")
        return self


class PretrainConfig(Section):
    """Detection pre-training of the tiny backbone on the training images, in place of YOLOv3's on COCO."""

    epochs: Positive = 16
    """Passes over the training images."""
    batch: Positive = 64
    """Images per optimiser step."""
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-3
    """Peak learning rate of the one-cycle schedule."""
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-4
    """AdamW's weight decay."""


class PseudoConfig(Section):
    """Which pseudo masks are kept, and how their points are spaced (sec. 3.4)."""

    threshold: Annotated[Number, Field(gt=0, le=2.01)] = 0.10
    """T: a pseudo mask is kept if its projection dice loss D (eq. 8; 0 to 2) is below this."""
    resample: StrictBool = True
    """RPP (resampled pseudo points): replace the points of each kept mask by N evenly spaced along its outline."""


class BatchConfig(Section):
    """Prediction or evaluation."""

    batch: Positive = 128
    """Approximate number of expressions per batch; all of an image's stay together."""


class TextConfig(Section):
    """How expressions become words."""

    max_words: Annotated[Size, Field(le=1000)] = 15
    """Number of words after which an expression is cut (sec. 4: 15, RefCOCOg 20)."""
    vectors: Text | None = None
    """File of word vectors in GloVe's text format; null: random."""


class Settings(Section):
    """The settings of a run. Each data set and experiment may override them."""

    seeds: Annotated[Positive, Field(le=1000)] = 1
    """Number of runs, with seeds 0, 1, ...: each draws its own labelled refs. Tables show the mean over them."""
    rec_seed: Natural | None = None
    """Seed of the step 1 that every run starts from; null: each run starts from its own."""
    image_size: Annotated[Size, Field(ge=32)] = 640
    """Long side of the images in pixels; a multiple of the backbone's stride, 16 (tiny) or 32 (sec. 4: 640)."""
    points: Annotated[Size, Field(ge=3, le=1000)] = 18
    """Contour points N (sec. 4: 18, RefCOCOg 12)."""
    contour: Literal["uniform", "released"] = "uniform"
    """How N points are taken from a contour: evenly along it, or as in the released code every ceil(length / N)-th
    pixel, often fewer than N (needs model.upstream.end_token: anywhere)."""
    init_backbone: Annotated[str, Field(pattern=r"^(pretrain|pretrained|random)$|[./]")] = "random"
    """Initial weights of step 1's backbone: from detection on the training images (`pretrain`), those that timm has for
    it (`pretrained`), `random`, or from a file in our format, DarkNet's or timm's. A path has a . or / in it."""
    position_table: Literal["drop", "extend"] = "drop"
    """What steps 2 and 3 do with step 1's learned positions: drop them, as released, or extend them to 2N + 1."""
    text: TextConfig = TextConfig()
    """How expressions become words."""
    model: ModelConfig = ModelConfig()
    """The model."""
    pretraining: PretrainConfig = PretrainConfig()
    """Detection pre-training."""
    rec: TrainConfig = TrainConfig()
    """Step 1."""
    res: TrainConfig = TrainConfig()
    """Step 2."""
    predict: BatchConfig = BatchConfig()
    """Prediction of pseudo points."""
    pseudo: PseudoConfig = PseudoConfig()
    """Selection of pseudo points."""
    retrain: TrainConfig = TrainConfig()
    """Step 3."""
    evaluate: BatchConfig = BatchConfig()
    """Evaluation."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_contour(self.contour, self.model)
        stride = 16 if self.model.backbone == "tiny" else 32
        _require(self.image_size % stride == 0, f"image_size must divide by {stride}, {self.model.backbone}'s stride")
        _require(
            self.init_backbone != "pretrained" or self.model.backbone.startswith(PREFIX),
            f"init_backbone: pretrained is for timm's networks, not {self.model.backbone}; name a file, or set "
            "pretrain or random",
        )
        check_training(self.model.step_1(), self.rec, "rec")
        check_training(self.model_of("res"), self.res, "res")
        check_training(self.model_of("retrain"), self.retrain, "retrain")
        return self

    def model_of(self, step: Literal["res", "retrain"]) -> ModelConfig:
        """Return the model config of step 2 or 3: only step 2's model may see the known box."""
        return self.model if step == "res" else self.model.replace(view="image")


def check_contour(contour: str, model: ModelConfig) -> None:
    """Check that the model can predict sequences as short as this sampling gives; raises ConfigError."""
    _require(
        contour == "uniform" or model.upstream.end_token == "anywhere",
        "contour: released often gives fewer than N points, then an end token, which a model with end_token: last "
        "never predicts; set model.upstream.end_token: anywhere",
    )


def check_training(model: ModelConfig, training: TrainConfig, where: str = "training") -> None:
    """Check that the model allows this training; raises ConfigError. where: the training's section in messages."""
    _require(
        training.score_epochs is None or model.view == "image",
        f"{where}.score_epochs: model.view: box is never scored; set {where}.score_epochs: null",
    )
    if training.jitter is not None:
        _require(
            model.frozen != "all",
            f"{where}.jitter needs the images themselves, but model.frozen: all reads only cached features; set "
            f"{where}.jitter: null or model.frozen: none",
        )
        _require(model.head == "points", f"{where}.jitter works only with model.head: points; set {where}.jitter: null")
        _require(
            model.view == "image", f"{where}.jitter: model.view: box draws its own windows; set {where}.jitter: null"
        )


def check_init_backbone(settings: Settings) -> None:
    """Check that no layer both starts at random and stays frozen; raises ConfigError."""
    source = settings.init_backbone
    _require(
        settings.model.frozen != "all" or source == "pretrain" or source.endswith(".safetensors"),
        f"init_backbone: {source} gives no weights for the neck between backbone and encoder, and model.frozen: all "
        "would leave it random; set model.frozen: but_last_two or none",
    )


class GenerateConfig(Section):
    """A generated data set."""

    flavour: Literal["refcoco", "refcoco+", "refcocog"]
    """The data set whose expressions are imitated; refcoco+ has no words for places, refcocog has long sentences."""
    images: Annotated[StrictInt, Field(ge=30, le=999_999)]
    """Number of images; 90 % train."""
    seed: Natural
    """Seed of the generator; equal seeds give identical files."""
    side: Annotated[StrictInt, Field(ge=64)]
    """Longer side of an image in pixels."""


class DatasetConfig(Section):
    """A data set: generated, or read from files."""

    generate: GenerateConfig | None = None
    """How to generate the data set; for generated data only."""
    raw: Text | None = None
    """Folder of instances.json and refs(...).p, for data read from files; $VARIABLES are filled in."""
    images: Text | None = None
    """Folder to which the images' file names are relative; $VARIABLES are filled in."""
    split_by: Text | None
    """`unc`, `umd` or `google`: which refs(...).p is read; null: expressions.json, for your own data."""
    splits: Annotated[Names, Field(min_length=1)]
    """Splits that are evaluated; figures show the first."""
    ratios: Annotated[list[Ratio], Field(min_length=1), AfterValidator(distinct)] | None = None
    """Ratios for this data set; null: the config's `ratios`."""
    experiments: Annotated[Names, Field(min_length=1)] | None = None
    """The experiments that run on this data set; null: all of them."""
    on_problem: Literal["refuse", "report"] = "refuse"
    """What to do with broken records: stop, or leave them out and count them in vocabulary.json; and with damaged
    pictures: stop, or take them as they decode and name them in the log of cache_images."""
    vocabulary: Text | None = None
    """A vocabulary.json to use unchanged, for a model that comes with one; null: collect the training words."""
    rec: Text | None = None
    """A model.safetensors to use as step 1 without training; needs its `vocabulary` and the same `settings.model`."""
    models: dict[Name, Text] = {}
    """A model.safetensors by experiment: it is scored as the experiment's last step, and no step is trained for it."""
    settings: dict[str, Any] = {}
    """Values for this data set that override the base settings."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("generate", "raw", "images") if getattr(self, name) is not None]
        _require(given in (["generate"], ["raw", "images"]), "give either `generate`, or `raw` and `images`")
        imports = self.rec is not None or bool(self.models)
        _require(not imports or self.vocabulary is not None, "`rec` and `models` need the models' `vocabulary` too")
        return self


class ExperimentConfig(Section):
    """A named set of settings that differ from the data set's."""

    ratios: Literal["all", "partial", "full"] | Annotated[list[Ratio], AfterValidator(distinct)] = "all"
    """Ratios at which it runs: all, those below 100 (partial), 100 (full), or those listed."""
    steps: tuple[Literal[2]] | tuple[Literal[2], Literal[3]] = (2, 3)
    """Steps that it runs. At 100 % no ref is unlabelled, so every experiment stops after step 2."""
    from_: Annotated[Name | None, Field(alias="from")] = None
    """Reuse step 2 of this experiment, and its pseudo points, if it makes any, unless `predict` is overridden. Only
    `predict`, `pseudo` and `retrain` may then be overridden."""
    settings: dict[str, Any] = {}
    """Values that override the data set's settings, and those of the experiment named in `from`."""


class ReportConfig(Section):
    """The experiments that each table and figure shows. With an empty list the table or figure is not made."""

    oracle: Name | None = None
    """The experiment whose step 2 at ratio 100 is the oracle: tables give every mIoU as a share of the oracle's."""
    table1: Names = []
    """Table 1, the ratio curve, the example images and the failure tables: the baseline first, then ours."""
    table2: Names = []
    """Table 2: CCTF and PMCA, each experiment after step 2. Gains are over the first experiment."""
    table3: Names = []
    """Table 3: RPP, each experiment after its last step. Gains are over step 2 of the last experiment."""
    table4: Names = []
    """Table 4: the threshold T, each experiment after its last step. Gains are over step 2 of the last experiment."""
    beyond: Names = []
    """Extensions of the paper's method, each after step 3. Gains are over the first experiment."""
    figure1: Names = []
    """Figure 1: experiments with a mask head, drawn beside those of `table1`."""


class DownloadConfig(Section):
    """Where public files are downloaded to and listed (docs/real-data.md)."""

    folder: Folder = "data"
    """Folder for downloads: if the config names a path in it, the workflow downloads and unpacks the files needed."""
    table: Text | None = None
    """Tab-separated table of names, addresses, sizes and SHA-256; null: workflow/resources/downloads.tsv."""
    images: Literal["needed", "all"] = "needed"
    """Download only the images that refs name, one by one, or all of them in one zip of 13.5 GB."""
    revision: Text = "main"
    """Commit of timm's weights on the hub, for `init_backbone: pretrained`; a branch stands for its newest commit."""


class ResourceConfig(Section):
    """Resources that one kind of job requests. Changing them makes nothing run again, except `parts`."""

    mem_mb: Positive
    """Memory in MB; the n-th attempt requests n times as much."""
    runtime: Positive
    """Run time in minutes; the n-th attempt requests n times as much."""
    gpu: Natural = 0
    """Number of GPUs; with two or more, one process per GPU does its share of the work."""
    loaders: Natural = 0
    """Number of processes that prepare a training's batches in advance."""
    parts: Positive = 1
    """Number of jobs that share each prediction of pseudo points; changing it makes step 3 again."""


Kind = Literal["prepare", "images", "pretraining", "features", "rec", "res", "predict", "evaluate", "report"]
Threaded = Literal["images", "pretraining", "features", "rec", "res", "predict", "evaluate"]


class Config(Section):
    """A whole config: config/config.yaml with the --configfile files laid over it."""

    results: Folder
    """Folder for everything that the workflow makes, including logs and benchmarks."""
    downloads: DownloadConfig
    """Public files to download."""
    ratios: Annotated[list[Ratio], Field(min_length=1), AfterValidator(distinct)]
    """Percentages of the training masks that are kept; each experiment says at which of them it runs."""
    datasets: Entries[DatasetConfig]
    """Data sets by name. `name: null` removes one."""
    experiments: Entries[ExperimentConfig]
    """Experiments by name. `name: null` removes one."""
    report: ReportConfig
    """Which experiments each table and figure shows."""
    resources: dict[Kind, ResourceConfig]
    """Resources that each kind of job requests from a scheduler."""
    threads: dict[Threaded, Positive]
    """CPU threads of each kind of job; their number can change a result's last digits."""
    settings: dict[str, Any]
    """The settings of a run (`settings` below)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, kinds in (("resources", Kind), ("threads", Threaded)):
            lacking = [kind for kind in get_args(kinds) if kind not in getattr(self, key)]
            _require(not lacking, f"{key}: {', '.join(lacking)} must be given too")
        for kind, each in self.resources.items():
            _require(
                kind == "predict" or each.parts == 1,
                f"resources.{kind}.parts: only predict can be shared; leave it out",
            )
        return self


def expand_path(path: str, key: str) -> str:
    """Fill in a path's $VARIABLES and ~; raises ConfigError that names the config key if a variable is not set."""
    try:
        return os.path.expanduser(string.Template(path).substitute(os.environ))
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{key}: {path!r}: set this environment variable, or correct the $: {error}") from None

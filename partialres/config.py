"""Every setting, described once: its type, range, unit, default and source.

The workflow checks a config against these classes before anything runs; `python -m tools.reference` makes the JSON
schema and the tables of config/README.md from them. Defaults are the paper's, or the released configuration's where the
paper is silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

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
    """Read a number that YAML 1.1 takes for text: 5e-4."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _of_six_digits(ratio: float) -> float:
    if float(f"{ratio:g}") != ratio:
        raise ValueError(f"has {ratio!r}; give at most six digits, which its folder's name has")
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


class ConfigError(ValueError):
    """A setting that does not exist, has the wrong type, lies outside its range or contradicts another."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def distinct(values: list[Any]) -> list[Any]:
    """Return the values; raises ValueError if two are equal."""
    if len(set(values)) < len(values):
        raise ValueError(f"has {next(value for value in values if values.count(value) > 1)!r} twice")
    return values


Names = Annotated[list[Name], AfterValidator(distinct)]


class Section(BaseModel):
    """A group of settings: frozen, and with no key that is not declared here."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @classmethod
    def parse(cls, values: Any, where: str = "") -> Self:
        """Check the values of a section. Missing keys take their defaults.

        where: the section's name in messages. Raises ConfigError with one line per mistake: the key, what it holds and
        what it may hold.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError("\n".join(_explain(cls, item, where) for item in error.errors())) from None

    def replace(self, **changes: Any) -> Self:
        """Copy this section with some values changed; raises ConfigError as `parse` does."""
        return self.parse(self.model_dump() | changes, type(self).__name__)


def _explain(section: type[Section], error: Any, where: str) -> str:
    """Say one mistake in a line, as in: res.epochs: 'ten': input should be a valid integer."""
    path = ".".join(filter(None, [where, *map(str, error["loc"])]))
    if error["type"] == "extra_forbidden":
        inner: Any = section
        for part in error["loc"][:-1]:
            field = getattr(inner, "model_fields", {}).get(part)
            inner = field.annotation if field else None
        keys = ", ".join(sorted(inner.model_fields)) if hasattr(inner, "model_fields") else "its own"
        return f"{path}: unknown key; the keys are {keys}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{path}: is missing"
    if error["type"] == "value_error":  # our own checks say what is wrong and what to do
        return f"{path}: {message}" if path else message
    return f"{path}: {error['input']!r}: {message[0].lower()}{message[1:]}"


class UpstreamConfig(Section):
    """What the released code does otherwise than the paper; the defaults are the paper's (docs/fidelity.md)."""

    padded_words: Natural = 0
    """Pad expressions to this many words and let the GRU read the padding; 0: do not. Released: 15, RefCOCOg 20."""
    rounding: Literal["round", "truncate"] = "round"
    """How coordinates become bins (eq. 2). Released: truncate."""
    span: Literal["frame", "image"] = "frame"
    """The length that an axis's bins divide: the frame's side, or the image's own padded side. Released: image."""
    language_token: StrictBool = False
    """The expression joins the encoder's input as one more token. Released: true."""
    cctf_axes: Literal["paper", "transposed"] = "paper"
    """Whether x looks up columns and y rows, as in eq. 3-5. Released: transposed."""
    cctf_cells: Literal["containing", "spread"] = "containing"
    """Which cell a bin means: the one that contains it, or floor(bin (cells - 1) / bins). Released: spread."""
    cctf_means: Literal["image", "frame"] = "image"
    """What the means of columns and rows are taken over: the image, or the frame with its padding. Released: frame."""
    pmca_scale: Literal["sigmoid", "raw"] = "sigmoid"
    """PMCA's scale (eq. 6-7). Released: raw, squared, it multiplies distances in cells instead of dividing them."""
    pmca_reads: Literal["content", "query"] = "content"
    """What PMCA's MLP reads: the co-content embeddings S (eq. 6), or each layer's queries. Released: query."""
    start: Literal["zero", "learned"] = "zero"
    """The decoder's first input. Released segmentation: a learned vector."""
    end_token: Literal["last", "anywhere"] = "last"
    """Where decoding may end: after N points, or before. Released segmentation: anywhere."""

    def step_1(self) -> UpstreamConfig:
        """Keep only what decides the meaning of step 1's weights."""
        return UpstreamConfig(padded_words=self.padded_words, rounding=self.rounding, span=self.span)


class ModelConfig(Section):
    """The point-sequence model (sec. 3), or with `head: mask` its two-head peer of Figure 1."""

    backbone: Literal["darknet53", "tiny"] = "darknet53"
    """Visual backbone: DarkNet-53 (sec. 3), or a small one for generated images of about 100 pixels."""
    frozen: Literal["all", "but_last_two", "none"] = "but_last_two"
    """Which of the backbone's convolutions do not train; `all` freezes the neck too and caches features. [released]"""
    fusion: Size = 1024
    """Channels of the fused map; twice `language`, since eq. 1 multiplies the two element by element. [released]"""
    language: Size = 512
    """GRU units per direction. [released]"""
    word: Size = 300
    """Width of a word vector. [released]"""
    freeze_words: StrictBool = True
    """Whether word vectors do not train. [released]"""
    width: Size = 256
    """Width of encoder and decoder. [released]"""
    heads: Size = 8
    """Attention heads. [released]"""
    encoder_layers: Annotated[Size, Field(le=100)] = 6
    """Encoder layers (sec. 3)."""
    decoder_layers: Annotated[Size, Field(le=100)] = 3
    """Decoder layers (sec. 3)."""
    feedforward: Size = 1024
    """Hidden units of each feed-forward part. [released]"""
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    """Share of activations dropped in training. [released]"""
    bins: Annotated[Size, Field(ge=2)] = 1000
    """Bins M of a coordinate (eq. 2). [released]"""
    cctf: StrictBool = True
    """Coordinate tokens carry the features they point at (eq. 3-5). Steps 2 and 3 only."""
    pmca: StrictBool = True
    """Cross-attention has a Gaussian prior around the point (eq. 6-7). Steps 2 and 3 only."""
    pmca_sigma: Annotated[Number, Field(gt=0)] = 8.0
    """sigma of eq. 7, which the paper leaves open. [released]"""
    head: Head = "points"
    """What answers: a sequence of points, or a box head and a convolutional mask head (needs cctf and pmca false)."""
    view: Literal["image", "box"] = "image"
    """What the model of step 2 sees: the whole image, or an enlarged crop around the known box. With `box` the model is
    never scored, because a score must not give the box away."""
    upstream: UpstreamConfig = UpstreamConfig()
    """What the released code does otherwise than the paper."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.fusion == 2 * self.language, "fusion must be 2 x language: eq. 1 multiplies the two")
        _require(self.width % self.heads == 0, "width must divide by heads")
        # sine positions come in fours, normalisation in min(32, width / 4) groups
        _require(self.width % (4 if self.width < 128 else 32) == 0, "width must divide by 4, from 128 on by 32")
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

    def step_1(self) -> ModelConfig:
        """Return step 1's model, SeqTR's: without what step 2 brings in."""
        plain = {name: ModelConfig.model_fields[name].default for name in STEP_2_FIELDS}
        return self.replace(**plain | {"cctf": False, "pmca": False, "upstream": self.upstream.step_1()})

    def check_init(self, step_1: ModelConfig) -> None:
        """Check that this model can start from step 1's weights; raises ConfigError naming each wrong field."""
        own, given = (flat(each.step_1().model_dump()) for each in (self, step_1))
        different = [
            f"{name} is {given[name]!r}, not {own[name]!r}"
            for name in own
            if name not in OF_TRAINING and own[name] != given[name]
        ]
        _require(not different, f"step 1's model is another: {'; '.join(different)}")


STEP_2_FIELDS = ("cctf", "pmca", "pmca_sigma", "view")  # step 1's weights fit, whatever these are
OF_TRAINING = ("frozen", "freeze_words", "dropout")  # what a model's outputs do not depend on


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested sections as dotted keys."""
    pairs = ((key, flat(value) if isinstance(value, Mapping) else {"": value}) for key, value in values.items())
    return {f"{key}.{inner}".rstrip("."): leaf for key, part in pairs for inner, leaf in part.items()}


class TrainConfig(Section):
    """One training: step 1 on boxes (`rec`), step 2 on labelled masks (`res`), step 3 with pseudo masks (`retrain`)."""

    epochs: Positive = 90
    """Passes over the training refs, each with one of its expressions. [released]"""
    updates: Positive | None = None
    """Optimiser steps in all, however many refs there are: then `epochs` only divides the schedule. null: `epochs`."""
    batch: Positive = 128
    """Refs per step, over all devices (paper)."""
    learning_rate: Annotated[Number, Field(gt=0)] = 5e-4
    """Peak learning rate (paper)."""
    warmup_epochs: Natural = 5
    """Epoch e of these has the rate times (e + 1) / (warmup_epochs + 1). [released]"""
    schedule: Literal["step", "cosine"] = "step"
    """After the warm-up: constant and a tenth at the end, or half a cosine to 0. [released: step]"""
    decay_at: Annotated[Number, Field(gt=0, le=1)] = 75 / 90
    """Share of the epochs after which `step` divides the rate by ten. [released]"""
    optimiser: Literal["adam", "adamw"] = "adam"
    """Optimiser. [released: adam; the paper: adamw]"""
    betas: tuple[Annotated[Number, Field(ge=0, lt=1)], Annotated[Number, Field(ge=0, lt=1)]] = (0.9, 0.98)
    """Decay of the optimiser's two averages. [released]"""
    epsilon: Annotated[Number, Field(gt=0)] = 1e-9
    """Added to the optimiser's denominator. [released]"""
    amsgrad: StrictBool = True
    """Whether the optimiser keeps the maximum of its second average. [released]"""
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    """Weight decay. [released; the paper gives none]"""
    clip: Annotated[Number, Field(gt=0)] = 0.15
    """Largest norm of the gradient. [released]"""
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights, which are the result. [released]"""
    smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    """Label smoothing: 1 - smoothing on the target, smoothing / classes on every other class. [released]"""
    end_weight: Annotated[Number, Field(ge=0)] = 0.1
    """Loss weight of the end token. [released: 1 in detection]"""
    first_weight: Annotated[Number, Field(ge=0)] = 1.0
    """Loss weight of a sequence's first token. [released: 1.5 in detection]"""
    group_images: StrictBool = False
    """Put refs of one image into one batch, which runs the backbone once for all of them."""
    jitter: tuple[Annotated[Number, Field(ge=0.05)], Annotated[Number, Field(le=10)]] | None = None
    """Large-scale jitter: the range of each ref's scale, drawn anew in every epoch; null: none. [released: 0.3, 1.4]"""
    checkpoint_epochs: Positive = 1
    """Save a state to resume from every this many epochs."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.jitter is None or self.jitter[0] <= self.jitter[1], "jitter: the least scale comes first")
        return self


class PretrainConfig(Section):
    """Detection pre-training of the tiny backbone on training images, the stand-in for YOLOv3's on COCO."""

    epochs: Positive = 16
    """Passes over the training images."""
    batch: Positive = 64
    """Images a step."""
    learning_rate: Annotated[Number, Field(gt=0)] = 2e-3
    """Peak of the one-cycle schedule."""
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-4
    """AdamW's weight decay."""


class PseudoConfig(Section):
    """Which pseudo masks are kept, and how their points are spaced (sec. 3.4)."""

    threshold: Annotated[Number, Field(gt=0, le=2.01)] = 0.10
    """T: a pseudo mask is kept where D (eq. 8; 0 to 2) is below this."""
    resample: StrictBool = True
    """RPP: space N points evenly along each kept mask's outline."""


class BatchConfig(Section):
    """Prediction or evaluation."""

    batch: Positive = 128
    """Expressions per batch, about."""


class TextConfig(Section):
    """Expressions as words."""

    max_words: Annotated[Size, Field(le=1000)] = 15
    """Longer expressions are cut (sec. 4: 15, RefCOCOg 20)."""
    vectors: Text | None = None
    """File of word vectors in GloVe's text format; null: random."""


class Settings(Section):
    """The settings of a run. Data sets and experiments override them."""

    seeds: Annotated[Positive, Field(le=1000)] = 1
    """Number of runs, with seeds 0, 1, ...: each draws its own labelled refs. Tables show the mean over them."""
    rec_seed: Natural | None = None
    """Seed of the step 1 that every run starts from; null: each run starts from its own."""
    image_size: Annotated[Size, Field(ge=32)] = 640
    """Long side of the images, pixels; a multiple of the backbone's stride, 16 (tiny) or 32 (sec. 4: 640)."""
    points: Annotated[Size, Field(ge=3, le=1000)] = 18
    """Contour points N (sec. 4: 18, RefCOCOg 12)."""
    contour: Literal["uniform", "released"] = "uniform"
    """How N points are taken from a contour: evenly along it, or as released every so many pixels, often fewer than N
    (needs model.upstream.end_token: anywhere)."""
    init_backbone: Annotated[str, Field(pattern=r"^(pretrain|random)$|[./]")] = "random"
    """What step 1's backbone starts from: `pretrain`, detection on the training images; `random`; or a file of weights,
    ours or DarkNet's, whose path has a . or a / in it."""
    position_table: Literal["drop", "extend"] = "drop"
    """Step 1's position table in steps 2 and 3: dropped, as released, or extended to the longer sequence."""
    text: TextConfig = TextConfig()
    """Expressions as words."""
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
        check_training(self.model.step_1(), self.rec, "rec")
        check_training(self.model_of("res"), self.res, "res")
        check_training(self.model_of("retrain"), self.retrain, "retrain")
        return self

    def model_of(self, step: Literal["res", "retrain"]) -> ModelConfig:
        """Return the model of step 2 or 3: only step 2's may see the known box."""
        return self.model if step == "res" else self.model.replace(view="image")


def check_contour(contour: str, model: ModelConfig) -> None:
    """Check that a model can end its sequences where contours sampled so may end; raises ConfigError."""
    _require(
        contour == "uniform" or model.upstream.end_token == "anywhere",
        "contour: released often gives fewer than N points, then an end token, which a model with end_token: last "
        "never predicts; set model.upstream.end_token: anywhere",
    )


def check_training(model: ModelConfig, training: TrainConfig, where: str = "training") -> None:
    """Check that a model can be trained so; raises ConfigError. where: the training's section."""
    if training.jitter is not None:
        _require(
            model.frozen != "all",
            f"{where}.jitter needs the images themselves, of which model.frozen: all keeps only cached features; set "
            f"{where}.jitter: null or model.frozen: but_last_two",
        )
        _require(model.head == "points", f"{where}.jitter is for model.head: points alone; set {where}.jitter: null")
        _require(
            model.view == "image", f"{where}.jitter: model.view: box draws its own windows; set {where}.jitter: null"
        )


def check_init_backbone(settings: Settings) -> None:
    """Check that nothing stays random that never trains; raises ConfigError."""
    source = settings.init_backbone
    _require(
        settings.model.frozen != "all" or source == "pretrain" or source.endswith(".safetensors"),
        f"init_backbone: {source} has no weights of the neck between backbone and encoder, which model.frozen: all "
        "would leave random; set model.frozen: but_last_two or none",
    )


class GenerateConfig(Section):
    """A generated data set."""

    flavour: Literal["refcoco", "refcoco+", "refcocog"]
    """Whose expressions are imitated; refcoco+ has no words of place, refcocog long sentences."""
    images: Annotated[StrictInt, Field(ge=30)]
    """Number of images; 90 % train."""
    seed: Natural
    """Equal seeds give equal bytes."""
    side: Annotated[StrictInt, Field(ge=64)]
    """Longer side of an image, pixels."""


class DatasetConfig(Section):
    """A data set: generated, or read from files."""

    generate: GenerateConfig | None = None
    """How to generate the data set, if it is generated."""
    raw: Text | None = None
    """If it is read: the folder of instances.json and refs(...).p; $VARIABLES are filled in."""
    images: Text | None = None
    """The folder that the images' file names are relative to; $VARIABLES are filled in."""
    split_by: Text | None
    """`unc`, `umd`, `google`: which refs(...).p is read; null: own data, expressions.json."""
    splits: Annotated[Names, Field(min_length=1)]
    """Evaluated splits; figures show the first."""
    ratios: Annotated[list[Ratio], Field(min_length=1), AfterValidator(distinct)] | None = None
    """Instead of the config's ratios."""
    experiments: Annotated[Names, Field(min_length=1)] | None = None
    """The experiments that run on this data set; without it all of them."""
    on_problem: Literal["refuse", "report"] = "refuse"
    """Broken records: stop, or leave them out and count them in vocabulary.json."""
    vocabulary: Text | None = None
    """A vocabulary.json to use as it is, for a model that comes with one; null: count the words."""
    rec: Text | None = None
    """Step 1 is this model.safetensors, not trained; needs its `vocabulary` and a `settings.model` that agrees."""
    settings: dict[str, Any] = {}
    """Laid over the base settings for this data set."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("generate", "raw", "images") if getattr(self, name) is not None]
        _require(given in (["generate"], ["raw", "images"]), "give either `generate`, or `raw` and `images`")
        _require(self.rec is None or self.vocabulary is not None, "`rec` needs the model's `vocabulary` too")
        return self


class ExperimentConfig(Section):
    """A named set of overrides."""

    ratios: Literal["all", "partial", "full"] | Annotated[list[Ratio], AfterValidator(distinct)] = "all"
    """Where it runs: at all ratios, those below 100 (partial), 100 (full), or those listed."""
    steps: tuple[Literal[2]] | tuple[Literal[2], Literal[3]] = (2, 3)
    """How far it goes. At 100 % no ref is unlabelled, so every experiment stops after step 2."""
    from_: Annotated[Name | None, Field(alias="from")] = None
    """Take step 2 from this experiment. Then only `predict`, `pseudo` and `retrain` may be overridden; the pseudo
    points are that experiment's too unless `predict` is."""
    settings: dict[str, Any] = {}
    """Laid over the data set's settings, and over those of the experiment named in `from`."""


class ReportConfig(Section):
    """Which experiments each table and figure shows. An empty list leaves it out."""

    oracle: Name | None = None
    """The experiment whose step 2, trained on every mask, counts as 100 % in "share of the oracle"."""
    table1: Names = []
    """Table 1, the ratio curve, the examples and the failures: the baseline first, then ours."""
    table2: Names = []
    """Table 2: CCTF and PMCA after step 2. Gains are over the first."""
    table3: Names = []
    """Table 3: RPP. Gains are over step 2 of the last; the others show their step 3."""
    table4: Names = []
    """Table 4: the threshold of D. Gains are over step 2 of the last; the others show their step 3."""
    beyond: Names = []
    """What goes beyond the paper: step 3, with gains over the first."""
    figure1: Names = []
    """Figure 1: experiments with a mask head, set beside those of Table 1."""


class DownloadConfig(Section):
    """Public files (docs/real-data.md)."""

    folder: Folder = "data"
    """Where the config names a path below this folder, the workflow downloads and unpacks what belongs there."""
    table: Text | None = None
    """Tab-separated names, addresses, sizes and SHA-256; null: workflow/resources/downloads.tsv."""


class ResourceConfig(Section):
    """What a kind of job asks a scheduler for. Nothing runs again when it changes."""

    mem_mb: Positive
    """Memory in MB; the n-th attempt asks for n times as much."""
    runtime: Positive
    """Minutes; the n-th attempt asks for n times as much."""
    gpu: Natural = 0
    """Devices; with two or more, as many processes share each batch."""
    loaders: Natural = 0
    """Processes that prepare a training's batches ahead."""


Kind = Literal["prepare", "images", "pretraining", "features", "rec", "res", "predict", "evaluate", "report"]
Threaded = Literal["images", "pretraining", "features", "rec", "res", "predict", "evaluate"]


class Config(Section):
    """A whole config: config/config.yaml with the --configfile files laid over it."""

    results: Folder
    """Folder for everything that the workflow makes, logs and benchmarks included."""
    downloads: DownloadConfig
    """Public files."""
    ratios: Annotated[list[Ratio], Field(min_length=1), AfterValidator(distinct)]
    """Per cent of the training refs that keep their masks."""
    datasets: Annotated[dict[Name, DatasetConfig], Field(min_length=1)]
    """Data sets by name. `name: null` takes one out."""
    experiments: Annotated[dict[Name, ExperimentConfig], Field(min_length=1)]
    """Experiments by name. `name: null` takes one out."""
    report: ReportConfig
    """Tables and figures."""
    resources: dict[Kind, ResourceConfig]
    """What each kind of job asks a scheduler for."""
    threads: dict[Threaded, Positive]
    """CPU threads of each kind of job; part of a result's last digits."""
    settings: dict[str, Any]
    """The settings of a run (below)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, kinds in (("resources", Kind), ("threads", Threaded)):
            lacking = [kind for kind in get_args(kinds) if kind not in getattr(self, key)]
            _require(not lacking, f"{key}: {', '.join(lacking)} must be given too")
        return self

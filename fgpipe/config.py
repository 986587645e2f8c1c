"""``params.yaml`` as typed models: everything that can change a number.

A stage is given its own section; below the stage, functions take plain keywords. An
unknown key, a wrong type and an impossible value are refused with the key's path.
"""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from fgpipe.errors import ConfigError
from fgpipe.records import (
    SPLITS,
    ColorSpace,
    HeadName,
    PretrainingMethod,
    Protocol,
    Severity,
    Split,
    TestTimeViews,
)


def _no_bool(value: object) -> object:
    """``true`` is a number to pydantic, but not to whoever wrote it."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reports a ValueError
    return value


Number = BeforeValidator(_no_bool)
Fraction = Annotated[float, Field(ge=0, le=1), Number]
Positive = Annotated[float, Field(gt=0), Number]
Rate = Annotated[float, Field(gt=0, le=100), Number]
"""At 100 no optimiser learns, and steps do not overflow yet."""
Count = Annotated[int, Field(ge=1), Number]
Threads = Annotated[int, Field(ge=1, le=1024), Number]
Seed = Annotated[int, Field(ge=0, lt=2**32), Number]

VIEWS_SHOWN: dict[str, tuple[TestTimeViews, ...]] = {
    "none": ("one",),
    "flips": ("one", "mirror", "flips"),
    "square": ("one", "mirror", "flips", "square"),
    "light": ("one", "mirror"),
    "trivial": ("one",),
    "textures": ("one", "mirror", "flips", "square"),
}
"""Names that ``train.augment`` knows, each with the ``evaluate.views`` it shows in training."""

AUGMENTATIONS = tuple(VIEWS_SHOWN)


class Section(BaseModel):
    """A part of ``params.yaml``."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class ManifestConfig(Section):
    """How images are split."""

    protocol: Protocol
    """``stable``: by group, and an image never changes split. ``given``: as ``labels.csv``
    says, what it leaves open by group. ``random``: ignores groups;
    for comparison with published figures only. ``fold``: by group, ``fold`` of
    ``n_folds`` as the test split; for cross-validation only."""
    fractions: dict[Split, Fraction]
    """Share of the images each split gets; they sum to 1. Under ``fold`` the test split's
    is ``1 / n_folds`` and the others keep their proportions."""
    seed: Seed
    """Key of the order in which groups (or images) are dealt out."""
    n_folds: Annotated[int, Field(ge=2), Number]
    """Number of folds under ``fold``."""
    fold: Annotated[int, Field(ge=0), Number]
    """Which fold is the test split under ``fold``, from 0."""
    max_quarantined_fraction: Fraction
    """If more of the images that came in are quarantined, the stage refuses."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        missing = [split for split in SPLITS if self.fractions.get(split, 0) <= 0]
        if missing:
            message = (
                f"fractions must be above 0 for each of {', '.join(SPLITS)}; {missing[0]} is not"
            )
            raise ValueError(message)
        total = sum(self.fractions.values())
        if abs(total - 1) > 1e-6:
            message = f"fractions must sum to 1; they sum to {total:g}"
            raise ValueError(message)
        if self.fold >= self.n_folds:
            message = f"fold ({self.fold}) must be below n_folds ({self.n_folds})"
            raise ValueError(message)
        return self


class ValidateConfig(Section):
    """How strictly ``data/expectations.yaml`` is taken; what is expected stands there."""

    refuse_on: Severity
    """``refuse``: data are refused by expectations of that severity, others warn.
    ``warn``: by any that is not met."""
    drift_sample: Annotated[int, Field(ge=0, le=5000), Number]
    """Most images that the drift of embeddings looks at; 0 leaves it out."""
    seed: Seed
    """Of that sample and of the folds it is cross-validated in."""


class PreprocessConfig(Section):
    """From a decoded image to the array that training and serving see."""

    image_size_px: Annotated[int, Field(ge=32, le=2048), Number]
    """Height and width."""
    color_space: ColorSpace
    """What the network makes of RGB images first (:mod:`fgpipe.nn.pixel_input`); the array
    stays RGB."""
    resize: Literal["letterbox", "shortest_side", "squash", "box"]
    """``letterbox`` fits the longest side and pads; ``shortest_side`` fits the shortest
    and keeps the centre; ``squash`` stretches both; ``box`` cuts out each image's box of
    ``labels.csv``, then does as ``letterbox``."""
    box_margin: Annotated[float, Field(ge=0, le=2), Number]
    """Kept around the box under ``box``, as a fraction of its sides, on each of them."""
    contrast: Literal["none", "clahe"]
    """``clahe``: contrast-limited adaptive histogram equalisation of the lightness."""
    clahe_clip_limit: Annotated[float, Field(ge=1, le=100), Number]
    """Under ``clahe``: how far it may go; 1 is hardly seen, 4 is a lot."""
    clahe_grid: Annotated[int, Field(ge=1), Number]
    """Under ``clahe``: tiles along each side."""

    def of_the_array(self) -> dict[str, Any]:
        """What the array is made by: all but the colour space, which is the network's."""
        return self.model_dump(exclude={"color_space"})

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.contrast == "clahe" and 8 * self.clahe_grid > self.image_size_px:
            message = (
                f"clahe_grid ({self.clahe_grid}) must be at most {self.image_size_px // 8} for "
                f"tiles of 8 px or more in image_size_px ({self.image_size_px})"
            )
            raise ValueError(message)
        return self


class PretrainConfig(Section):
    """Learning from images without their labels, before training."""

    method: PretrainingMethod
    """``none``, ``simsiam``, ``byol`` or ``dino``; docs/methods.md says how they learn."""
    backbone: Annotated[str, Field(min_length=1)]
    """The same as ``train.backbone``, unless the method is ``none``."""
    weights: Annotated[str, Field(min_length=1)]
    """Those to start from, and to be no worse than: the same as ``train.weights``."""
    unlabelled: bool
    """Whether images below ``data/unlabelled`` are learnt from too."""
    image_size_px: Annotated[int, Field(ge=32, le=2048), Number]
    """Height and width of the views."""
    min_scale: Annotated[float, Field(gt=0, le=1), Number]
    """Smallest share of an image's area that a view shows."""
    jitter: Fraction
    """How far brightness and contrast of a view change, saturation by half of it, hue by a
    tenth; 0 where they tell classes apart."""
    blur: Fraction
    """Share of the views that are blurred; 0 where texture tells classes apart."""
    epochs: Count
    """Passes over all images."""
    batch_size: Annotated[int, Field(ge=2), Number]
    """Images a step, each in two views."""
    learning_rate: Rate
    """Peak rate of AdamW, for backbone and heads."""
    weight_decay: Annotated[float, Field(ge=0), Number]
    """Not applied to biases and norms."""
    momentum: Annotated[float, Field(ge=0, lt=1), Number]
    """Under ``byol`` and ``dino``: what a step keeps of the teacher, at first; it rises to
    1. Of a thousand steps or more 0.996."""
    seed: Seed
    """Of the heads, order and views."""
    device: Literal["auto", "cpu", "cuda"]
    """``auto``: CUDA where there is a GPU."""
    precision: Literal["auto", "fp32", "bf16"]
    """``auto``: bf16 where the hardware computes in it, else fp32."""
    threads: Literal["auto"] | Threads
    """Threads of a torch operation on the CPU; ``auto``: one a core."""


class TrainConfig(Section):
    """Backbone, head and how they are trained."""

    backbone: Annotated[str, Field(min_length=1)]
    """A timm model name, with or without the tag of its weights, or ``seed_cnn``."""
    weights: Annotated[str, Field(min_length=1)]
    """``packaged`` (from an installed package), ``timm`` (downloaded; needs
    ``FGPIPE_ONLINE=1``), ``scratch``, or the path of a .safetensors or .pth file."""
    mid_level: bool
    """Whether heads also read the backbone's feature map before its last halving, where small
    parts are still to be seen."""
    head: HeadName
    """``linear``, ``mlp``, ``gru``, ``lstm``, ``isqrt``, ``bilinear``, ``cal`` or ``cosine``:
    how the feature map becomes logits; docs/methods.md says what each is for."""
    pooling: Literal["average", "gem"]
    """Under ``linear``, ``mlp`` and ``cosine``: the mean over space, or a generalised mean
    whose exponent is learnt."""
    batch_norm: bool
    """Under ``linear``, ``mlp`` and ``cosine``: whether pooled features are normalised."""
    scan: Literal["rows", "shuffled"]
    """Under ``gru`` and ``lstm``: the order in which cells are read; ``shuffled`` is the
    control that tells whether the order counts."""
    n_attentions: Annotated[int, Field(ge=1, le=1024), Number]
    """Under ``cal``: how many attention maps."""
    margin: Literal["arcface", "cosface"]
    """Under ``cosine``: added to the angle, or taken from the cosine."""
    margin_size: Annotated[float, Field(ge=0, lt=1), Number]
    """Under ``cosine``: how large it is; 0 for none."""
    n_centres: Annotated[int, Field(ge=1, le=100), Number]
    """Under ``cosine``: centres of each class, of which the nearest counts."""
    dropout: Annotated[float, Field(ge=0, lt=1), Number]
    """Share of the embedding dropped in training."""
    augment: Annotated[str, Field(min_length=1)]
    """``none``, ``flips``, ``square``, ``light``, ``trivial``, ``textures``, or the path of a
    .json file of albumentations' own form. ``flips``: both axes. ``square``: all eight
    symmetries of the square and a little shift, scale and brightness. ``light``: left to right
    and a little of all that. ``trivial``: TrivialAugment. ``textures``: for surfaces. DVC sees
    a file's name alone: give an edited one another."""
    erasing: Fraction
    """Share of the images in which a random rectangle is replaced by noise."""
    mix: Literal["none", "mixup", "cutmix", "snapmix"]
    """How pairs of images, and their labels, are mixed."""
    mix_fraction: Fraction
    """Share of the batches that are mixed."""
    mix_alpha: Positive
    """Of the Beta distribution that the shares are drawn from: 1 draws all alike, less
    draws extremes."""
    sampling: Literal["uniform", "balanced"]
    """``balanced``: every class is drawn as often as any other."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1), Number]
    """Probability mass spread over all classes."""
    logit_adjustment: Annotated[float, Field(ge=0), Number]
    """Weight of the logarithms of the classes' shares, added to the logits in training: 1
    makes rare classes count as much as common ones; 0 for none."""
    parent_weight: Fraction
    """Share of the loss that is taken over the parent labels, if the data name any."""
    head_epochs: Annotated[int, Field(ge=0), Number]
    """Epochs of the head alone before all others, on feature maps computed once."""
    epochs: Count
    """Passes over the training split."""
    low_size_px: Annotated[int, Field(ge=0), Number]
    """Side of the images in all but the last ``finish_epochs``; 0: as preprocessed."""
    finish_epochs: Annotated[int, Field(ge=0), Number]
    """Under ``low_size_px``: last epochs at the full size."""
    batch_size: Annotated[int, Field(ge=2), Number]
    """Images a step."""
    batch_parts: Count
    """Parts that each process computes its share of a batch in: more take less memory, and batch
    norm sees one at a time."""
    optimiser: Literal["adamw", "nadam", "radam", "sgd"]
    """One of torch's; weights are decayed apart from the gradient but for ``sgd``."""
    learning_rate: Rate
    """Peak rate of the head."""
    backbone_rate: Annotated[float, Field(ge=0, le=1), Number]
    """The backbone's rate as a fraction of ``learning_rate``; 0 freezes it."""
    layer_decay: Annotated[float, Field(gt=0, le=1), Number]
    """What each of the backbone's layers' rates is multiplied with for the layer below."""
    frozen_stages: Annotated[int, Field(ge=0), Number]
    """How many of the backbone's first stages, the stem included, stay as they are."""
    weight_decay: Annotated[float, Field(ge=0), Number]
    """Not applied to biases and norms."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1), Number]
    """Share of all steps over which the rate rises from 0; a cosine to 0 follows."""
    clip_norm: Annotated[float, Field(ge=0), Number]
    """Longest gradient over all weights; 0 for any."""
    averaging: Literal["none", "ema", "soup"]
    """``ema``: validated and kept is a moving average of the weights. ``soup``: the mean of
    as many of the best epochs as make validation better."""
    ema_decay: Annotated[float, Field(ge=0, lt=1), Number]
    """Under ``ema``: what a step keeps of the average."""
    patience: Count
    """Epochs without a better validation loss after which training stops; the last
    ``finish_epochs`` have a patience of their own."""
    seed: Seed
    """Of initial weights, order, augmentation, mixing and dropout."""
    device: Literal["auto", "cpu", "cuda"]
    """``auto``: CUDA where there is a GPU."""
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    """``auto``: bf16 where the hardware computes in it, else fp32. ``fp16`` is for GPUs
    of a compute capability below 8.0."""
    threads: Literal["auto"] | Threads
    """Threads of a torch operation on the CPU, shared out among processes; ``auto``: one a core."""
    processes: Literal["auto"] | Count
    """Processes of this machine that share each batch; ``auto``: one a GPU, or one."""
    deterministic: bool
    """Whether a GPU gives the same bytes again, as far as torch can (it warns where not), or
    nearly the same, faster; a CPU always does."""
    compile: bool
    """Has torch compile forward and backward pass: half a minute or more before the first step."""
    checkpoint_activations: bool
    """Computes activations again in the backward pass instead of keeping them: less memory,
    35 to 60 % more time."""

    @field_validator("augment")
    @classmethod
    def _is_a_policy(cls, value: str) -> str:
        path = PurePosixPath(value)
        # A file elsewhere is not versioned with the project.
        is_file = path.suffix == ".json" and not path.is_absolute() and ".." not in path.parts
        if value not in AUGMENTATIONS and not is_file:
            names = ", ".join(AUGMENTATIONS)
            message = f"must be one of {names}, or the path of a .json file in the project's folder"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.low_size_px and self.finish_epochs >= self.epochs:
            message = (
                f"finish_epochs ({self.finish_epochs}) must be below epochs ({self.epochs}) "
                f"under low_size_px ({self.low_size_px})"
            )
            raise ValueError(message)
        if self.sampling == "balanced" and self.logit_adjustment:
            message = (
                f"logit_adjustment ({self.logit_adjustment:g}) must be 0 under sampling "
                "(balanced): rare classes would be made up for twice"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _does_for_every_part(self) -> Self:
        if message := self.fault_of_batch(1 if self.processes == "auto" else self.processes):
            raise ValueError(message)
        return self

    def fault_of_batch(self, n_processes: int) -> str:
        """What is wrong with ``batch_size`` for so many processes; empty if nothing is.

        Of a part of one image there are no batch statistics.
        """
        least = 2 * self.batch_parts * n_processes
        if self.batch_size >= least:
            return ""
        return (
            f"batch_size ({self.batch_size}) must be at least {least}: two images for each of "
            f"batch_parts ({self.batch_parts}) in each of processes ({n_processes})"
        )

    @model_validator(mode="after")
    def _fits_seed_cnn(self) -> Self:
        if self.backbone != "seed_cnn":
            return self
        if self.mid_level:
            message = (
                "mid_level (true) must be false under backbone (seed_cnn): its map is one cell"
            )
            raise ValueError(message)
        if self.low_size_px:
            message = (
                f"low_size_px ({self.low_size_px}) must be 0 under backbone (seed_cnn), whose "
                "dense layer has weights for one size of images"
            )
            raise ValueError(message)
        if self.weights in {"packaged", "timm"}:
            message = (
                f"weights ({self.weights}) must be scratch or a file under backbone (seed_cnn), of "
                "which none are published"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _freezes_what_was_learnt(self) -> Self:
        if self.weights == "scratch" and self.frozen_stages:
            message = (
                f"frozen_stages ({self.frozen_stages}) must be 0 under weights (scratch): they "
                "would stay as they were drawn"
            )
            raise ValueError(message)
        if self.weights == "scratch" and not self.backbone_rate:
            message = (
                f"backbone_rate ({self.backbone_rate:g}) must be above 0 under weights (scratch): "
                "the backbone would stay as it was drawn"
            )
            raise ValueError(message)
        return self


class EvaluateConfig(Section):
    """How figures are computed."""

    precision: Literal["auto", "f32", "bf16"]
    """Precision the exported graph runs at, here and when serving. ``auto``: bf16 where
    the CPU computes in it, else f32."""
    views: TestTimeViews
    """Test-time augmentation, here and when serving: the mean of the logits of an image as it
    is (``one``), and mirrored (``mirror``), flipped along both axes (``flips``: 4 times the
    cost), in all symmetries of the square (``square``: 8 times)."""
    n_bootstrap: Annotated[int, Field(ge=100), Number]
    """Resamples of the test groups behind each interval."""
    confidence_level: Annotated[float, Field(gt=0.5, lt=1), Number]
    """Share of resamples inside an interval."""
    n_bins: Annotated[int, Field(ge=2, le=1000), Number]
    """Bins of the calibration error and the reliability curve."""
    seed: Seed
    """Of the resampling."""


class GateConfig(Section):
    """What a candidate must reach on the test split."""

    min_top1: Fraction
    """Floor of top-1."""
    min_macro_recall: Fraction
    """Floor of macro recall."""
    min_coarse_accuracy: Fraction
    """Floor of the coarse score; unused where the data name no parents."""
    max_calibration_error: Fraction
    """Ceiling of the calibration error."""
    max_drop: Fraction
    """How far below the champion's the candidate's top-1, macro recall and coarse score
    may be. A candidate whose interval of the difference lies wholly below 0 is rejected
    whatever this allows."""


class PackageConfig(Section):
    """What the bundle says about itself."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    """Name of the model, lower case."""
    description: str
    """What it is for, for the model card."""
    license: str
    """Licence of the model, for the model card; the training data may dictate it."""
    profile_sample: Annotated[int, Field(ge=0, le=5000), Number]
    """Images whose embeddings the bundle keeps, for later data to be compared with; 0 keeps
    none. 500 make it 0.6 MB larger."""


class Params(Section):
    """The whole of ``params.yaml``."""

    manifest: ManifestConfig
    validate_: ValidateConfig = Field(alias="validate")
    preprocess: PreprocessConfig
    pretrain: PretrainConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    gate: GateConfig
    package: PackageConfig

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        full_px, low_px = self.preprocess.image_size_px, self.train.low_size_px
        if low_px >= full_px:
            message = (
                f"train.low_size_px ({low_px}) must be below preprocess.image_size_px ({full_px}), "
                "or 0 for that size throughout"
            )
            raise ValueError(message)
        if self.pretrain.method != "none":
            self._pretraining_fits()
        return self

    def _pretraining_fits(self) -> None:
        """A stage sees its own section alone, so what two of them share stands in both."""
        for key in ("backbone", "weights"):
            here, there = getattr(self.pretrain, key), getattr(self.train, key)
            if here != there:
                message = (
                    f"pretrain.{key} ({here}) must be train.{key} ({there}): training goes on "
                    "from what is pretrained; or set pretrain.method to none"
                )
                raise ValueError(message)
        own_px, views_px = self.preprocess.image_size_px, self.pretrain.image_size_px
        if self.pretrain.backbone == "seed_cnn" and own_px != views_px:
            message = (
                f"pretrain.image_size_px ({views_px}) must be preprocess.image_size_px ({own_px}) "
                "under pretrain.backbone (seed_cnn), whose dense layer has weights for one size"
            )
            raise ValueError(message)

    def section(self, stage: str) -> Section:
        """The section of the stage of that name."""
        section: Section = getattr(self, "validate_" if stage == "validate" else stage)
        return section

    def doubts(self, stage: str) -> tuple[str, ...]:
        """What whoever runs a stage is warned of: it can be meant, and seldom is."""
        views, augment = self.evaluate.views, self.train.augment
        # What a file of one's own shows is not known.
        if stage != "evaluate" or views in VIEWS_SHOWN.get(augment, (views,)):
            return ()
        shown = VIEWS_SHOWN[augment]
        others = [name for name, known in VIEWS_SHOWN.items() if views in known]
        doubt = (
            f"evaluate.views ({views}) looks at images in ways that train.augment ({augment}) "
            f"never showed the network; set views to {' or '.join(shown)}, or augment to "
            f"{' or '.join(others)}"
        )
        return (doubt,)


def load_params(path: Path) -> Params:
    """Read and check ``params.yaml``.

    Raises:
        ConfigError: If the file is missing, is not YAML, or a key is missing, unknown or
            has an impossible value. The message names each key's path, at most five.
    """
    return parse_params(read_params(path), path=path)


def read_params(path: Path) -> str:
    """The text of ``params.yaml``, with its line ends as they are.

    Raises:
        ConfigError: If the file cannot be read.
    """
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        message = f"{path} does not exist; run fgpipe in the project's folder"
        raise ConfigError(message) from None
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} is not valid YAML: {error}"
        raise ConfigError(message) from None


def parse_params(text: str, *, path: Path) -> Params:
    """Check the text of ``params.yaml``, as :func:`load_params` does.

    Args:
        text: What the file says, or is to say.
        path: The file, for messages.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        message = f"{path} is not valid YAML: {error}"
        raise ConfigError(message) from None
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(path, error)) from None


def explain(path: Path, error: ValidationError, *, under: str = "") -> str:
    """What is wrong in a YAML file, each key with its path and value; at most five.

    Args:
        path: The file.
        error: What pydantic found.
        under: Path of the key that was held against a model, if not all of the file.
    """
    lines = [f"{path} has {error.error_count()} wrong value(s):"]
    for problem in error.errors()[:5]:
        key = ".".join(filter(None, [under, *(str(part) for part in problem["loc"])]))
        text = problem["msg"].removeprefix("Value error, ")
        match problem["type"]:
            case "missing":
                lines.append(f"  {key}: missing; add it")
            case "extra_forbidden":
                lines.append(f"  {key}: unknown key; remove it or mend its spelling")
            case _:
                is_whole = not key and isinstance(problem["input"], dict)
                value = "" if is_whole else f" (it is {problem['input']!r})"
                lines.append(f"  {key or 'file'}: {text}{value}")
    return "\n".join(lines)

"""Augmentation: random changes of training images that leave their labels as they are.

============  ============================================================================
``none``      nothing
``flips``     mirrored along each axis or not
``light``     mirrored left to right; moved, turned, scaled, brightened a little: right for
              most things that have an up
``square``    one of the eight symmetries of the square, for things without an up or a left
              (cells, wafers, lesions); shifted, scaled, brightened a little
``textures``  for surfaces, tissue, lesions: the eight symmetries, and now and then bent,
              brightened, blurred or noisy
``trivial``   one change of fourteen, as strong as chance has it: TrivialAugment
a file        steps of albumentations, as its ``to_dict`` writes them, in JSON
============  ============================================================================

On top of each, random erasing. What changes is drawn anew for every seed and depends on
nothing else: not on the worker, the batch or what was drawn before.

DVC sees the name of a file and not what is in it: give an edited one another name, or run
``dvc repro --single-item --force train``.
"""

import json
import math
import random
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import albumentations as A  # noqa: N812 - the name its users know
import cv2
import numpy as np
from jaxtyping import UInt8

from fgpipe.errors import ConfigError

Square = UInt8[np.ndarray, "size size 3"]
Step: TypeAlias = A.BasicTransform | A.BaseCompose

ERASED_AREA = 0.02, 0.33
"""Least and largest share of an image that is erased."""

ERASED_ASPECT = 0.3, 3.3
"""Least and largest height of what is erased, in its widths."""

N_TRIALS = 64
"""Draws by which a file's policy is tried: a step that one image in ten meets is met."""


class Augmentation:
    """Random changes that leave an image's label as it is."""

    def __init__(
        self,
        name: str,
        pipeline: A.Compose | None,
        *,
        erasing: float,
        description: dict[str, Any] | None,
    ) -> None:
        self.name = name
        self._pipeline = pipeline
        self._erasing = erasing
        self._description = description

    def to_json(self) -> str:
        """All that it does, as canonical JSON: what a training's key is made from."""
        content = {"albumentations": self._description, "erasing": self._erasing}
        return json.dumps(content, indent=2, sort_keys=True) + "\n"

    def __call__(self, image: Square, *, seed: int) -> Square:
        """The change that ``seed`` draws, applied to one image; equal seeds, equal bytes.

        Raises:
            ConfigError: If the result is of another shape or type.
        """
        if self._pipeline is None and not self._erasing:
            return image
        generator = np.random.default_rng(seed)
        changed = image
        if self._pipeline is not None:
            # One stream for all steps: set_random_seed would give each step the same numbers,
            # so that an image is mirrored along both axes or along none.
            self._pipeline.set_random_state(generator, random.Random(seed))  # noqa: S311 - no secret
            changed = self._pipeline(image=image)["image"]
            if changed.shape != image.shape or changed.dtype != np.uint8:
                raise ConfigError(
                    f"train.augment ({self.name}) makes {_described(changed)} of "
                    f"{_described(image)}; leave out what crops to another size, pads, "
                    "normalises or converts"
                )
        if generator.random() < self._erasing:
            changed = erased(changed, generator)
        return changed


def erased(image: Square, generator: np.random.Generator) -> Square:
    """A copy in which a random rectangle is noise.

    Source: Zhong et al., "Random Erasing Data Augmentation". Differs in that rectangles lie
    as often as they stand, and that one that fits is placed so that it does.
    """
    height, width = image.shape[:2]
    least, largest = ERASED_ASPECT
    while True:
        area = generator.uniform(*ERASED_AREA) * height * width
        aspect = least * (largest / least) ** generator.random()
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows <= height and columns <= width:
            break
    top = int(generator.integers(height - rows + 1))
    left = int(generator.integers(width - columns + 1))
    result = image.copy()
    noise = generator.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    result[top : top + rows, left : left + columns] = noise
    return result


def _flips() -> list[Step]:
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


def _light() -> list[Step]:
    return [
        A.HorizontalFlip(p=0.5),
        A.Affine(
            scale=(0.9, 1.1),
            translate_percent=(-0.05, 0.05),
            rotate=(-10, 10),
            border_mode=cv2.BORDER_REFLECT_101,
            p=0.5,
        ),
        A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.15, p=0.5),
    ]


def _square() -> list[Step]:
    return [
        A.D4(p=1.0),
        A.Affine(
            scale=(0.95, 1.05),
            translate_percent=(-0.04, 0.04),
            border_mode=cv2.BORDER_REFLECT_101,
            p=0.5,
        ),
        A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.15, p=0.5),
    ]


def _textures() -> list[Step]:
    border = cv2.BORDER_REFLECT_101
    # Displaced by 2 pixels on average. Even noise takes half the time of Gaussian noise, and
    # smoothed it is Gaussian too.
    elastic = A.ElasticTransform(
        alpha=100, sigma=8, noise_distribution="uniform", border_mode=border, p=1.0
    )
    grid = A.GridDistortion(num_steps=5, distort_limit=0.15, border_mode=border, p=1.0)
    blur = A.GaussianBlur(blur_limit=(3, 5), sigma_limit=(0.3, 1.0), p=1.0)
    noise = A.GaussNoise(std_range=(0.01, 0.04), p=1.0)
    return [
        A.D4(p=1.0),
        A.OneOf([elastic, grid], p=0.25),
        A.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.2, p=0.5),
        A.RandomGamma(gamma_limit=(80, 125), p=0.25),
        A.OneOf([blur, noise], p=0.2),
    ]


def _trivial() -> list[Step]:
    """TrivialAugment's operations in its wide ranges, each as likely as any other.

    Source: Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data
    Augmentation". Differs in drawing strengths from a range and not from 31 steps of it, and
    in shearing by an angle that is drawn evenly, up to the paper's.
    """
    shear = math.degrees(math.atan(0.99))
    shift = 1 / 7  # 32 of ImageNet's 224 px
    # Of Pillow's kernel, which the paper uses: a thirteenth of Sharpen's, and where its
    # smoothing ends is this Gaussian.
    sharper = A.Sharpen(alpha=(0.0, 0.99 / 13), lightness=(1.0, 1.0), p=1.0)
    softer = A.GaussianBlur(blur_limit=(3, 3), sigma_limit=(0.1, 0.65), p=1.0)
    operations = [
        A.NoOp(p=1.0),
        A.AutoContrast(method="pil", p=1.0),
        A.Equalize(p=1.0),
        A.Posterize(num_bits=(2, 8), p=1.0),
        A.Solarize(threshold_range=(0.0, 1.0), p=1.0),
        _jitter("saturation"),
        _jitter("contrast"),
        _jitter("brightness"),
        A.OneOf([sharper, softer], p=1.0),
        A.Affine(rotate=(-135, 135), p=1.0),
        A.Affine(shear={"x": (-shear, shear), "y": (0, 0)}, p=1.0),
        A.Affine(shear={"x": (0, 0), "y": (-shear, shear)}, p=1.0),
        A.Affine(translate_percent={"x": (-shift, shift), "y": (0, 0)}, p=1.0),
        A.Affine(translate_percent={"x": (0, 0), "y": (-shift, shift)}, p=1.0),
    ]
    return [A.OneOf(operations, p=1.0)]


def _jitter(what: str) -> Step:
    ranges = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
    return A.ColorJitter(**(ranges | {what: (0.01, 1.99)}), p=1.0)


POLICIES: dict[str, Callable[[], list[Step]]] = {
    "none": list,
    "flips": _flips,
    "square": _square,
    "light": _light,
    "trivial": _trivial,
    "textures": _textures,
}
"""The steps of each policy that has a name."""


def augmentation(
    policy: str, *, erasing: float = 0.0, sizes_px: Iterable[int] = ()
) -> Augmentation:
    """The augmentation of that name, or of a file.

    Args:
        policy: A name of :data:`POLICIES`, or the path of a .json file.
        erasing: Share of the images in which a random rectangle becomes noise.
        sizes_px: Sides of the images to come; a file's policy is tried on each.

    Raises:
        ConfigError: If there is no such policy, or if a file names anything but steps of
            albumentations, needs more than an image, changes an image's size or type, or
            draws from elsewhere than its seed. The message names ``train.augment``.
    """
    if policy in POLICIES:
        steps = POLICIES[policy]()
        pipeline = A.Compose(steps) if steps else None
        written = A.to_dict(pipeline) if pipeline else None
        return Augmentation(policy, pipeline, erasing=erasing, description=written)
    if not policy.endswith(".json"):
        names = ", ".join(POLICIES)
        raise ConfigError(f"train.augment ({policy}) is none of {names}, and no .json file")
    try:
        content = _read(Path(policy))
        pipeline = _from_content(content)
    except ConfigError as error:
        raise ConfigError(f"train.augment ({policy}) {error}") from None
    made = Augmentation(policy, pipeline, erasing=erasing, description=content)
    for size_px in sizes_px:
        _try(made, size_px=size_px)
    return made


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("does not exist; name a file relative to the project's folder") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"is not valid JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("transform"), dict):
        raise ConfigError('has no "transform"; write it with albumentations.to_dict')
    return content


def _from_content(content: dict[str, Any]) -> A.Compose:
    wanted = content["transform"]
    _refuse_foreign(wanted)
    try:
        with warnings.catch_warnings():
            # Some steps warn of arguments that they wrote themselves; those that are wrong
            # are found below.
            warnings.simplefilter("ignore")
            loaded = A.from_dict(content)
    except Exception as error:  # noqa: BLE001 - whatever a step raises is in the file
        raise ConfigError(f"cannot be read: {_in_a_line(error)}") from None
    _refuse_unknown_arguments(wanted, A.to_dict(loaded)["transform"])
    return loaded if isinstance(loaded, A.Compose) else A.Compose([loaded])


def _refuse_foreign(step: object) -> None:
    """Only classes of albumentations itself may be named, at whatever depth."""
    name = step.get("__class_fullname__") if isinstance(step, dict) else None
    if not isinstance(step, dict) or not isinstance(name, str):
        raise ConfigError('has a step without "__class_fullname__"')
    module, _, short = name.rpartition(".")
    found = getattr(A, short, None)
    is_step = isinstance(found, type) and issubclass(found, (A.BasicTransform, A.BaseCompose))
    if not is_step or (module and module.partition(".")[0] != "albumentations"):
        raise ConfigError(f"names {name}, which is no step of albumentations {A.__version__}")
    below = step.get("transforms", [])
    if not isinstance(below, list):
        raise ConfigError(f'has a {short} whose "transforms" are no list')
    for each in below:
        _refuse_foreign(each)


def _refuse_unknown_arguments(wanted: dict[str, Any], loaded: dict[str, Any]) -> None:
    """A misspelt argument is only warned of by albumentations, and passed over."""
    unknown = sorted(set(wanted) - set(loaded))
    if unknown:
        name = wanted["__class_fullname__"]
        raise ConfigError(f"gives {name} an argument that it does not take: {', '.join(unknown)}")
    for one, other in zip(wanted.get("transforms", ()), loaded.get("transforms", ()), strict=True):
        _refuse_unknown_arguments(one, other)


def _try(made: Augmentation, *, size_px: int) -> None:
    shape = (size_px, size_px, 3)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for seed in range(N_TRIALS):
        try:
            one, other = made(image, seed=seed), made(image, seed=seed)
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a step raises is in the file
            raise ConfigError(
                f"train.augment ({made.name}) does not work on an image of {size_px} px alone: "
                f"{_in_a_line(error)}"
            ) from None
        if not np.array_equal(one, other):
            raise ConfigError(
                f"train.augment ({made.name}) gives two images for one seed; leave out the step "
                "that draws from elsewhere"
            )


def _described(image: Any) -> str:  # noqa: ANN401 - a step may give anything
    return f"{' x '.join(map(str, image.shape))} {image.dtype}"


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]

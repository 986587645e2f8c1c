import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from fgpipe.config import AUGMENTATIONS, VIEWS_SHOWN
from fgpipe.errors import ConfigError
from fgpipe.images.augmentations import POLICIES, Augmentation, _trivial, augmentation, erased

PHOTO = cv2.resize(load_sample_image("flower.jpg"), (64, 64), interpolation=cv2.INTER_AREA)
CHANGING = [name for name in POLICIES if name != "none"]


def drawn(augment: Augmentation, n: int, image: np.ndarray = PHOTO) -> list[np.ndarray]:
    return [augment(image, seed=seed) for seed in range(n)]


def test_the_policies_are_those_that_the_parameters_name() -> None:
    assert tuple(POLICIES) == AUGMENTATIONS


@pytest.mark.parametrize("name", POLICIES)
def test_the_views_that_a_policy_shows_are_those_of_its_reflections(name: str) -> None:
    steps = {type(step) for step in POLICIES[name]()}

    shown = ["one"]
    if steps & {A.HorizontalFlip, A.D4}:
        shown.append("mirror")
    if {A.HorizontalFlip, A.VerticalFlip} <= steps or A.D4 in steps:
        shown.append("flips")
    if A.D4 in steps:
        shown.append("square")
    assert VIEWS_SHOWN[name] == tuple(shown)


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_is_decided_by_its_seed_and_not_by_what_came_before(name: str) -> None:
    augment, again = augmentation(name, erasing=0.5), augmentation(name, erasing=0.5)
    first = drawn(augment, 30)

    random.seed(7)
    np.random.seed(7)  # noqa: NPY002 - what must not be drawn from
    backwards = [again(PHOTO, seed=seed) for seed in reversed(range(30))][::-1]

    assert all(np.array_equal(one, other) for one, other in zip(first, backwards, strict=True))
    assert len({image.tobytes() for image in first}) >= 4


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("size_px", [32, 65])
def test_an_image_keeps_its_size_and_is_not_written_to(name: str, size_px: int) -> None:
    image = cv2.resize(PHOTO, (size_px, size_px))
    image.setflags(write=False)  # as rows of a memory map are
    before = image.copy()

    results = drawn(augmentation(name, erasing=0.5), 60, image)

    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in results)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_leaves_an_image_like_itself(name: str) -> None:
    means = np.array([result.mean() for result in drawn(augmentation(name), 100)])

    tolerated = 110 if name == "trivial" else 60
    assert np.abs(means - PHOTO.mean()).max() < tolerated


def test_none_changes_nothing() -> None:
    assert augmentation("none")(PHOTO, seed=1) is PHOTO


def test_flips_are_the_four_mirrorings() -> None:
    mirrored = (PHOTO, PHOTO[::-1], PHOTO[:, ::-1], PHOTO[::-1, ::-1])

    results = {image.tobytes() for image in drawn(augmentation("flips"), 60)}

    assert results == {image.tobytes() for image in mirrored}


QUARTERS = np.kron(np.array([[10, 90], [170, 250]]), np.ones((32, 32))).astype(np.uint8)
QUARTERS = np.repeat(QUARTERS[..., None], 3, axis=2)


def corners(image: np.ndarray) -> tuple[int, ...]:
    """The order of the quarters' brightness, read at their centres."""
    return tuple(int(image[y, x, 0]) for y in (16, 48) for x in (16, 48))


def test_light_mirrors_left_to_right_alone() -> None:
    orders = Counter(
        tuple(np.argsort(corners(image)).tolist())
        for image in drawn(augmentation("light"), 400, QUARTERS)
    )

    assert set(orders) == {(0, 1, 2, 3), (1, 0, 3, 2)}
    assert 150 < orders[0, 1, 2, 3] < 250


@pytest.mark.parametrize("name", ["square", "textures"])
def test_all_eight_symmetries_of_the_square_are_drawn_alike(name: str) -> None:
    orders = Counter(
        tuple(np.argsort(corners(image)).tolist())
        for image in drawn(augmentation(name), 800, QUARTERS)
    )

    assert len(orders) == 8
    assert min(orders.values()) > 65
    assert max(orders.values()) < 140


class Mark(A.ImageOnlyTransform):
    """Stands for an operation and counts how often it is called."""

    def __init__(self, index: int, calls: Counter[int]) -> None:
        super().__init__(p=1.0)
        self.index, self.calls = index, calls

    def apply(self, img: np.ndarray, **_: object) -> np.ndarray:
        self.calls[self.index] += 1
        return img


def test_trivial_draws_each_of_fourteen_operations_alike() -> None:
    [choice] = _trivial()
    n_operations, calls = len(choice.transforms), Counter()
    choice.transforms = [Mark(index, calls) for index in range(n_operations)]
    augment = Augmentation("marks", A.Compose([choice]), erasing=0.0, description=None)

    drawn(augment, 2800)

    assert n_operations == 14
    assert sum(calls.values()) == 2800, "one an image"
    assert min(calls.values()) > 150
    assert max(calls.values()) < 250


def operation(index: int, **strength: Any) -> A.BasicTransform:
    """An operation of TrivialAugment at one strength."""
    written = A.to_dict(_trivial()[0][index])
    assert set(strength) <= set(written["transform"])
    written["transform"] |= strength
    return A.from_dict(written)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (operation(1), ImageOps.autocontrast),
        (operation(3, num_bits=3), lambda image: ImageOps.posterize(image, 3)),
        (operation(4, threshold_range=(0.4, 0.4)), lambda image: ImageOps.solarize(image, 102)),
        (operation(5, saturation=(1.7, 1.7)), lambda image: ImageEnhance.Color(image).enhance(1.7)),
        (operation(5, saturation=(0.2, 0.2)), lambda image: ImageEnhance.Color(image).enhance(0.2)),
        (
            operation(6, contrast=(1.7, 1.7)),
            lambda image: ImageEnhance.Contrast(image).enhance(1.7),
        ),
        (operation(7, brightness=(0.3, 0.3)), lambda i: ImageEnhance.Brightness(i).enhance(0.3)),
    ],
)
def test_trivials_operations_are_pillows(one: A.BasicTransform, other: Any) -> None:
    expected = np.asarray(other(Image.fromarray(PHOTO)))

    found = one(image=PHOTO)["image"]

    assert np.abs(found.astype(int) - expected).max() <= 2


def test_trivial_equalises_each_channel_by_the_share_of_darker_pixels() -> None:
    found = operation(2)(image=PHOTO)["image"]

    for channel in range(3):
        values = PHOTO[..., channel].ravel()
        n_darkest = np.sum(values == values.min())
        for value, became in zip(values[::17], found[..., channel].ravel()[::17], strict=True):
            n_up_to = np.sum(values <= value)
            expected = 255 * (n_up_to - n_darkest) / (len(values) - n_darkest)
            assert abs(became - expected) <= 0.51


def test_trivial_sharpens_and_softens_as_far_as_pillow() -> None:
    sharper, softer = _trivial()[0][8].transforms
    most = A.Sharpen(alpha=(sharper.alpha[1],) * 2, lightness=(1, 1), p=1.0)
    least = A.GaussianBlur(blur_limit=(3, 3), sigma_limit=(softer.sigma_limit[1],) * 2, p=1.0)
    enhancer = ImageEnhance.Sharpness(Image.fromarray(PHOTO))
    inside = np.s_[1:-1, 1:-1]

    sharp, soft = most(image=PHOTO)["image"], least(image=PHOTO)["image"]

    difference = sharp.astype(int) - np.asarray(enhancer.enhance(1.99))
    assert np.abs(difference[inside]).max() <= 2
    difference = soft.astype(int) - np.asarray(enhancer.enhance(0.01))
    assert np.abs(difference[inside]).mean() < 1


@given(st.integers(0, 10**6), st.integers(16, 90))
def test_what_is_erased_is_one_rectangle_of_noise(seed: int, size_px: int) -> None:
    image = np.full((size_px, size_px, 3), 7, dtype=np.uint8)

    result = erased(image, np.random.default_rng(seed))

    changed = (result != 7).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    assert box.mean() > 0.95, "noise is 7 in all channels once in 16 million pixels"
    slack = 1 / min(height, width) + 0.01  # sides are rounded
    assert 0.02 * (1 - slack) ** 2 <= box.size / size_px**2 <= 0.33 * (1 + slack) ** 2
    assert 0.3 * (1 - slack) ** 2 <= height / width <= 3.3 * (1 + slack) ** 2


def test_erased_rectangles_lie_as_often_as_they_stand_and_are_everywhere() -> None:
    image = np.zeros((96, 96, 3), dtype=np.uint8)

    masks = np.array(
        [(erased(image, np.random.default_rng(seed)) != 0).any(axis=2) for seed in range(1500)]
    )

    heights, widths = masks.any(axis=2).sum(axis=1), masks.any(axis=1).sum(axis=1)
    assert 0.45 < np.mean(heights > widths) < 0.55
    assert 0.15 < masks.mean() < 0.19, "half of 2 to 33 % but for what does not fit"
    share = masks.mean(axis=0)
    assert np.allclose(share, share[::-1], atol=0.06)
    assert np.allclose(share, share[:, ::-1], atol=0.06)
    assert share[0, 0] > 0


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_images_that_is_asked_for_is_erased(share: float) -> None:
    augment = augmentation("none", erasing=share)

    n_erased = sum(not np.array_equal(result, PHOTO) for result in drawn(augment, 500))

    assert abs(n_erased / 500 - share) < 0.06 * (0 < share < 1) + 1e-9


def test_erasing_leaves_what_the_policy_draws() -> None:
    plain, erasing = drawn(augmentation("flips"), 40), drawn(augmentation("flips", erasing=1), 40)

    for one, other in zip(plain, erasing, strict=True):
        assert (one == other).all(axis=2).mean() > 0.6


def test_every_policy_and_share_is_written_as_another_json() -> None:
    written = {augmentation(name, erasing=share).to_json() for name in POLICIES for share in (0, 1)}

    assert len(written) == 2 * len(POLICIES)
    assert augmentation("trivial").to_json() == augmentation("trivial").to_json()


FLIP = {"__class_fullname__": "HorizontalFlip", "p": 0.5}


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(*steps: Any) -> str:
    """A file ``mine.json`` with these steps."""
    transform = {"__class_fullname__": "Compose", "p": 1.0, "transforms": list(steps)}
    Path("mine.json").write_text(json.dumps({"transform": transform}))
    return "mine.json"


@pytest.mark.usefixtures("inside")
def test_what_albumentations_writes_does_what_it_did() -> None:
    steps = [A.RandomRotate90(p=0.5), A.OneOf([A.RandomGamma(p=1), A.Blur(p=1)], p=0.7)]
    steps += [A.RGBShift(p=0.4), A.SafeRotate(p=0.3), A.PadIfNeeded(8, 8, p=1)]
    pipeline = A.Compose(steps)
    Path("mine.json").write_text(json.dumps(A.to_dict(pipeline)))

    results = drawn(augmentation("mine.json", sizes_px=[64, 40]), 40)

    expected = []
    for seed in range(40):
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        expected.append(pipeline(image=PHOTO)["image"])
    assert all(np.array_equal(one, other) for one, other in zip(results, expected, strict=True))
    assert len({image.tobytes() for image in results}) > 20


@pytest.mark.usefixtures("inside")
def test_a_file_is_written_into_the_key_with_all_that_is_in_it() -> None:
    one = augmentation(written(FLIP)).to_json()
    other = augmentation(written(FLIP | {"p": 0.4})).to_json()

    assert json.loads(one)["albumentations"]["transform"]["transforms"] == [FLIP]
    assert one != other


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"__class_fullname__": "subprocess.Popen", "p": 1}, "names subprocess.Popen, which is no"),
        ({"__class_fullname__": "fgpipe.images.transforms.CropToSquare", "p": 1}, "CropToSquare"),
        ({"__class_fullname__": "HorizontalFlop", "p": 1}, "names HorizontalFlop, which is no"),
        ({"__class_fullname__": "to_dict", "p": 1}, "names to_dict, which is no step"),
        ({"p": 1}, 'has a step without "__class_fullname__"'),
        (7, 'has a step without "__class_fullname__"'),
        ({"__class_fullname__": "Lambda", "p": 1, "name": "f"}, "cannot be read"),
        (FLIP | {"p": 2}, "cannot be read: .* less than or equal to 1"),
        (FLIP | {"probability": 1}, "gives HorizontalFlip an argument .* take: probability"),
        ({"__class_fullname__": "OneOf", "p": 1, "transforms": [FLIP | {"x": 1}]}, "take: x"),
        ({"__class_fullname__": "Compose", "p": 1, "transforms": 5}, "are no list"),
        ({"__class_fullname__": "MaskDropout", "p": 1}, "on an image of 64 px alone: .*mask"),
        (
            {"__class_fullname__": "RandomCrop", "p": 0.1, "height": 32, "width": 32},
            "makes 32 x 32 x 3 uint8 of 64 x 64 x 3 uint8; leave out",
        ),
        ({"__class_fullname__": "ToFloat", "p": 1}, "makes 64 x 64 x 3 float32 of"),
        (
            {"__class_fullname__": "ToGray", "p": 1, "num_output_channels": 1},
            "makes 64 x 64 uint8 of",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_named(step: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"train.augment \(mine.json\) .*{message}") as error:
        augmentation(written(step), sizes_px=[64])

    assert len(str(error.value)) < 400


@pytest.mark.usefixtures("inside")
def test_a_crop_to_the_images_own_size_is_none_at_another() -> None:
    step = {"__class_fullname__": "RandomResizedCrop", "p": 1.0, "size": [48, 48]}

    augment = augmentation(written(step), sizes_px=[48])

    assert augment(np.zeros((48, 48, 3), np.uint8), seed=0).shape == (48, 48, 3)
    with pytest.raises(ConfigError, match="makes 48 x 48 x 3 uint8 of 64 x 64 x 3"):
        augment(PHOTO, seed=0)
    with pytest.raises(ConfigError, match="makes 48 x 48 x 3 uint8 of 32 x 32 x 3"):
        augmentation(written(step), sizes_px=[48, 32])


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("{", "is not valid JSON"),
        ("[]", 'has no "transform"'),
        ('{"transform": 3}', 'has no "transform"'),
    ],
)
def test_a_file_that_is_none_is_refused_and_named(content: str | None, message: str) -> None:
    if content is not None:
        Path("mine.json").write_text(content)

    with pytest.raises(ConfigError, match=rf"train.augment \(mine.json\) {message}"):
        augmentation("mine.json")


def test_a_name_that_is_none_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"train.augment \(flip\) is none of none, flips, square"):
        augmentation("flip")


@pytest.mark.usefixtures("inside")
def test_a_step_that_draws_from_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        A.HorizontalFlip, "apply", lambda _self, img, **_: img + np.uint8(random.randrange(200))
    )

    with pytest.raises(ConfigError, match=r"train.augment \(mine.json\) gives two images for one"):
        augmentation(written(FLIP), sizes_px=[64])

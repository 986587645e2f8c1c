from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fgpipe.images.augmentations import augmentation
from fgpipe.nn.recogniser import Recogniser, build
from fgpipe.records import EpochFigures, RecogniserSpec, Resolved
from fgpipe.training.loop import Course, Fitted, fit, mixed
from fgpipe.training.mixing import class_maps, draw_box, mix_batch, n_pixels, pixel_shares
from fgpipe.training.recipe import Examples, Recipe
from fgpipe.training.speed import EpochSpeed
from fgpipe.training.steps import Stepper
from tests.support import learning
from tests.support.learning import plain_criterion

GENERATOR = np.random.default_rng(0)
IMAGES = torch.from_numpy(GENERATOR.integers(0, 256, (5, 12, 16, 3), dtype=np.uint8))
TARGETS = torch.eye(4)[[0, 1, 2, 3, 1]]
MAPS = torch.from_numpy(GENERATOR.dirichlet(np.ones(12), 5).reshape(5, 3, 4)).float()

seeds = pytest.mark.parametrize("seed", range(8))


def maps() -> Tensor:
    return MAPS


def box_by_hand(generator: np.random.Generator, area: float) -> set[tuple[int, int]]:
    """Pixels of a box of 12 x 16 images, one by one."""
    sides = round(12 * area**0.5), round(16 * area**0.5)
    centres = int(generator.integers(12)), int(generator.integers(16))
    starts = [centre - side // 2 for centre, side in zip(centres, sides, strict=True)]
    return {
        (y, x)
        for y in range(12)
        for x in range(16)
        if starts[0] <= y < starts[0] + sides[0] and starts[1] <= x < starts[1] + sides[1]
    }


@seeds
def test_mixup_is_the_mean_of_each_pixel_and_label(seed: int) -> None:
    draws = np.random.default_rng(seed)
    partner, share = draws.permutation(5), draws.beta(0.7, 0.7)

    mixed, targets = mix_batch(
        IMAGES, TARGETS, method="mixup", alpha=0.7, generator=np.random.default_rng(seed)
    )

    for i, j in enumerate(partner):
        for y, x, channel in np.ndindex(12, 16, 3):
            one, other = int(IMAGES[i, y, x, channel]), int(IMAGES[j, y, x, channel])
            exact = share * one + (1 - share) * other
            assert abs(int(mixed[i, y, x, channel]) - exact) <= 0.501
        assert torch.allclose(targets[i], share * TARGETS[i] + (1 - share) * TARGETS[j])


@seeds
def test_cutmix_takes_a_box_of_the_other_and_its_area_of_the_label(seed: int) -> None:
    draws = np.random.default_rng(seed)
    partner, share = draws.permutation(5), draws.beta(1, 1)
    box = box_by_hand(draws, 1 - share)

    mixed, targets = mix_batch(
        IMAGES, TARGETS, method="cutmix", alpha=1, generator=np.random.default_rng(seed)
    )

    for i, j in enumerate(partner):
        for y, x in np.ndindex(12, 16):
            source = IMAGES[j] if (y, x) in box else IMAGES[i]
            assert torch.equal(mixed[i, y, x], source[y, x])
        kept = 1 - len(box) / (12 * 16)
        assert torch.allclose(targets[i], kept * TARGETS[i] + (1 - kept) * TARGETS[j])


def enlarged(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation between the centres of pixels, pixel by pixel."""
    result = np.empty((height, width, *image.shape[2:]))
    for y, x in np.ndindex(height, width):
        at = []
        for position, length, of in ((y, height, image.shape[0]), (x, width, image.shape[1])):
            exact = max((position + 0.5) * of / length - 0.5, 0)
            low = min(int(exact), of - 1)
            at.append((low, min(low + 1, of - 1), exact - low))
        (top, bottom, down), (left, right, across) = at
        above = (1 - across) * image[top, left] + across * image[top, right]
        below = (1 - across) * image[bottom, left] + across * image[bottom, right]
        result[y, x] = (1 - down) * above + down * below
    return result


@seeds
def test_snapmix_pastes_another_box_and_weighs_labels_by_what_speaks_for_them(seed: int) -> None:
    draws = np.random.default_rng(seed)
    partner, share = draws.permutation(5), draws.beta(5, 5)
    covered = box_by_hand(draws, 1 - share)
    shown = box_by_hand(draws, draws.beta(5, 5))
    (top, left), (bottom, right) = min(shown), max(shown)
    (y0, x0), (y1, x1) = min(covered), max(covered)

    mixed, targets = mix_batch(
        IMAGES,
        TARGETS,
        method="snapmix",
        alpha=5,
        generator=np.random.default_rng(seed),
        class_maps=maps,
    )

    large = [enlarged(each, 12, 16) for each in MAPS.numpy().astype(float)]
    for i, j in enumerate(partner):
        patch = IMAGES[j, top : bottom + 1, left : right + 1].numpy().astype(float)
        patch = enlarged(patch, y1 - y0 + 1, x1 - x0 + 1)
        for y, x in np.ndindex(12, 16):
            expected = patch[y - y0, x - x0] if (y, x) in covered else IMAGES[i, y, x].numpy()
            assert np.abs(mixed[i, y, x].numpy() - expected).max() <= 0.501
        lost = sum(large[i][pixel] for pixel in covered) / large[i].sum()
        gained = sum(large[j][pixel] for pixel in shown) / large[j].sum()
        assert torch.allclose(targets[i], (1 - lost) * TARGETS[i] + gained * TARGETS[j], atol=1e-5)


def test_the_boxes_of_snapmix_are_of_different_sizes() -> None:
    sums = [
        mix_batch(
            IMAGES,
            TARGETS,
            method="snapmix",
            alpha=5,
            generator=np.random.default_rng(seed),
            class_maps=lambda: torch.full((5, 3, 4), 1 / 12),
        )[1].sum()
        / 5
        for seed in range(200)
    ]

    # With even maps a target's sum is 1 but for the difference of the boxes' areas.
    assert np.std(sums) > 0.1
    assert 0.9 < np.mean(sums) < 1.1


@given(st.integers(0, 10**6), st.sampled_from(["mixup", "cutmix", "snapmix"]), st.floats(0.01, 9))
def test_what_is_given_stays_as_it_is_and_shares_are_none_below_zero(
    seed: int, method: str, alpha: float
) -> None:
    images, targets = IMAGES.clone(), TARGETS.clone()

    mixed, weights = mix_batch(
        images,
        targets,
        method=method,
        alpha=alpha,
        generator=np.random.default_rng(seed),
        class_maps=maps,
    )

    assert torch.equal(images, IMAGES)
    assert torch.equal(targets, TARGETS)
    assert mixed.dtype is torch.uint8
    assert mixed.shape == images.shape
    assert (weights > -1e-6).all()
    if method == "snapmix":
        assert (weights.sum(dim=1) < 2 + 1e-5).all()
    else:
        assert torch.allclose(weights.sum(dim=1), torch.ones(5))


@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 40), st.integers(1, 40))
def test_a_box_is_inside_its_image_and_no_larger_than_its_area(
    seed: int, area: float, height: int, width: int
) -> None:
    box = draw_box((height, width), area=area, generator=np.random.default_rng(seed))

    rows, columns = box
    assert 0 <= rows.start <= rows.stop <= height
    assert 0 <= columns.start <= columns.stop <= width
    assert n_pixels(box) == np.ones((height, width))[box].sum()
    assert n_pixels(box) <= (height * area**0.5 + 0.5) * (width * area**0.5 + 0.5)


def test_every_pixel_is_in_a_box_now_and_then_and_most_at_the_centre() -> None:
    counts = np.zeros((20, 20))
    generator = np.random.default_rng(0)

    for _ in range(2000):
        counts[draw_box((20, 20), area=0.25, generator=generator)] += 1 / 2000

    assert np.allclose(counts, counts[::-1], atol=0.06)
    assert np.allclose(counts, counts.T, atol=0.05)
    assert 0.03 < counts[0, 0] < 0.12
    assert 0.2 < counts[10, 10] < 0.3


def test_shares_of_pixels_sum_to_one_whatever_the_map() -> None:
    shares = pixel_shares(MAPS, (224, 200))

    assert shares.shape == (5, 224, 200)
    assert torch.allclose(shares.sum(dim=(1, 2)), torch.ones(5))


def network() -> Recogniser:
    spec = RecogniserSpec(
        backbone="test_resnet",
        head="linear",
        n_classes=4,
        dropout=0.2,
        image_size_px=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    built = build(spec, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.nn.init.normal_(built.head.classifier.weight)
    return built


PIXELS = np.random.default_rng(1).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
CLASSES = (np.arange(40) % 8 // 2 * (np.arange(40) % 3 > 0)).astype(np.int64)
BATCH = torch.from_numpy(PIXELS[:6])
ONE_HOT = torch.eye(4)[CLASSES[:6]]


@pytest.mark.parametrize("n_parts", [1, 2, 4])
def test_class_maps_are_those_of_the_network_in_use_whatever_the_parts(n_parts: int) -> None:
    model = network().eval()
    with torch.no_grad():
        expected = model.class_map(BATCH, ONE_HOT)
    model.train()

    found = class_maps(model, BATCH, ONE_HOT, precision="fp32", n_parts=n_parts)

    assert torch.allclose(found, expected, atol=1e-6)
    assert not found.requires_grad


def test_class_maps_are_taken_in_more_parts_where_memory_does_not_do() -> None:
    model = network().train()
    expected = class_maps(model, BATCH, ONE_HOT, precision="fp32", n_parts=1)
    learning.running_out_above(2, model, "class_map")

    found = class_maps(model, BATCH, ONE_HOT, precision="fp32", n_parts=1)

    assert torch.allclose(found, expected, atol=1e-6)


def test_class_maps_change_nothing_of_the_network_and_leave_it_in_training() -> None:
    model = network().train()
    model.backbone.freeze(2)
    model.train()
    modes = {name: module.training for name, module in model.named_modules()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    class_maps(model, BATCH, ONE_HOT, precision="bf16", n_parts=1)

    assert torch.equal(torch.rand(3), expected), "nothing is drawn from torch"
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


RECIPE = replace(learning.RECIPE, mix="snapmix", sampling="balanced", learning_rate=1e-3)
EXAMPLES = Examples(
    pixels=PIXELS,
    targets=CLASSES,
    n_classes=4,
    parents=None,
    train=np.arange(30),
    validation=np.arange(30, 40),
)


def run(recipe: Recipe, checkpoint: Path, *, stop_after: int | None = None) -> Fitted:
    def on_epoch(figures: EpochFigures, speed: EpochSpeed) -> None:
        if figures.epoch == stop_after:
            raise KeyboardInterrupt

    course = Course(
        examples=EXAMPLES,
        recipe=recipe,
        criterion=plain_criterion(),
        augmentation=augmentation("flips", erasing=0.3),
        resolved=Resolved(device="cpu", precision="fp32", threads=1, libraries={}),
    )
    return fit(network(), course, checkpoint=checkpoint, on_epoch=on_epoch)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fitted]:
    return run(RECIPE, tmp_path_factory.mktemp("undisturbed") / "epoch")


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_training_with_mixing_broken_off_goes_on_exactly(
    undisturbed: Fitted, stop_after: int, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(RECIPE, tmp_path / "epoch", stop_after=stop_after)
    torch.manual_seed(99)

    resumed = run(RECIPE, tmp_path / "epoch")

    assert resumed.curves == undisturbed.curves
    assert all(torch.equal(v, undisturbed.weights[name]) for name, v in resumed.weights.items())


def test_every_method_and_share_and_sampling_trains_otherwise(tmp_path: Path) -> None:
    plain = replace(RECIPE, mix="none", sampling="uniform", epochs=1)
    changes = [
        {},
        {"sampling": "balanced"},
        {"mix": "mixup"},
        {"mix": "cutmix"},
        {"mix": "snapmix"},
        {"mix": "mixup", "mix_fraction": 1.0},
        {"mix": "mixup", "mix_alpha": 0.2},
    ]

    losses = [
        run(replace(plain, **change), tmp_path / f"{number}").curves[0].train_loss
        for number, change in enumerate(changes)
    ]

    assert len(set(losses)) == len(changes)


def test_of_no_share_nothing_is_mixed(tmp_path: Path) -> None:
    plain = replace(RECIPE, mix="none", epochs=1)

    none = run(plain, tmp_path / "none")
    unmixed = run(replace(plain, mix="mixup", mix_fraction=0.0), tmp_path / "unmixed")

    assert none.curves == unmixed.curves


def test_the_share_of_steps_that_is_asked_for_is_mixed_each_in_its_own_way() -> None:
    model = network()
    stepper = Stepper(
        network=model,
        optimiser=torch.optim.SGD(model.parameters()),
        criterion=plain_criterion(),
        precision="fp32",
        clip_norm=0.0,
        keep_in=Path(),
    )
    recipe = replace(RECIPE, mix="cutmix", mix_fraction=0.3)

    batches = [
        mixed(BATCH, ONE_HOT, stepper=stepper, recipe=recipe, step=step)[0] for step in range(400)
    ]

    changed = [batch.numpy().tobytes() for batch in batches if batch is not BATCH]
    assert 90 < len(changed) < 150
    assert len(set(changed)) > 0.8 * len(changed)

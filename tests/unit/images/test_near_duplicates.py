"""The search for near-duplicates, against comparing all with all."""

from itertools import combinations
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fgpipe.images.files import thumbnails
from fgpipe.images.near_duplicates import RADIUS_BITS, confirmed, joined, pairs_within
from fgpipe.images.perceptual_hash import perceptual_hash
from tests.support.synthetic import LABELS, draw, encoded

hashes_with_neighbours = st.lists(
    st.tuples(
        st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF, 0xFFFF0000FFFF0000]),
        st.lists(st.integers(0, 63), max_size=5),
    ),
    max_size=40,
)


@given(hashes_with_neighbours)
def test_the_search_finds_what_comparing_all_with_all_finds(
    seeds: list[tuple[int, list[int]]],
) -> None:
    hashes = []
    for value, flips in seeds:
        for bit in flips:
            value ^= 1 << bit  # noqa: PLW2901 - the flips add up
        hashes.append(value)

    pairs = pairs_within(np.array(hashes, dtype=np.uint64))

    slow = [
        (i, j)
        for i, j in combinations(range(len(hashes)), 2)
        if (hashes[i] ^ hashes[j]).bit_count() <= RADIUS_BITS
    ]
    assert [tuple(pair) for pair in pairs.tolist()] == slow


def grey(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).convert("L")


def test_a_hash_survives_resizing() -> None:
    images = [grey(draw(LABELS[0], group=group, size_px=128)) for group in range(20)]
    halves = [image.resize((64, 64), Image.Resampling.BICUBIC) for image in images]

    n_bits = [
        (perceptual_hash(image) ^ perceptual_hash(half)).bit_count()
        for image, half in zip(images, halves, strict=True)
    ]

    assert np.mean(np.array(n_bits) <= RADIUS_BITS) >= 0.9


def test_hashes_of_different_individuals_are_far_apart() -> None:
    hashes = [perceptual_hash(grey(draw(LABELS[0], group=group))) for group in range(20)]

    n_bits = [(a ^ b).bit_count() for a, b in combinations(hashes, 2)]

    assert np.median(n_bits) > 10


def test_a_hash_is_that_of_a_slow_cosine_transform() -> None:
    image = grey(draw(LABELS[0], group=3, size_px=32))
    pixels = np.asarray(image, dtype=float)
    coefficients = []
    for u in range(1, 9):
        for v in range(1, 9):
            total = 0.0
            for y in range(32):
                for x in range(32):
                    total += (
                        pixels[y, x]
                        * np.cos(np.pi * u * (2 * y + 1) / 64)
                        * np.cos(np.pi * v * (2 * x + 1) / 64)
                    )
            coefficients.append(round(total, 3))

    bits = [value > np.median(coefficients) for value in coefficients]

    assert perceptual_hash(image) == int("".join(str(int(bit)) for bit in bits), 2)


def test_a_flat_image_has_no_rounding_noise_in_its_hash() -> None:
    hashes = {perceptual_hash(Image.new("L", (size, size), 77)) for size in (31, 64, 300)}

    assert hashes == {0}


def test_copies_are_confirmed_and_look_alikes_are_not(tmp_path: Path) -> None:
    original = Image.fromarray(draw(LABELS[0], group=0, size_px=200))
    original.save(tmp_path / "original.png")
    original.save(tmp_path / "encoded.jpg", quality=60)
    original.resize((120, 120), Image.Resampling.BICUBIC).save(tmp_path / "smaller.png")
    for name, label, index in (("other_mark", LABELS[2], 0), ("other_view", LABELS[0], 1)):
        Image.fromarray(draw(label, group=0, index=index, size_px=200)).save(
            tmp_path / f"{name}.png"
        )
    names = ["encoded.jpg", "smaller.png", "other_mark.png", "other_view.png"]
    small = thumbnails(tmp_path, ["original.png", *names])

    same = confirmed(np.repeat(small[:1], 4, axis=0), small[1:])

    assert dict(zip(names, same.tolist(), strict=True)) == {
        "encoded.jpg": True,
        "smaller.png": True,
        "other_mark.png": False,
        "other_view.png": False,
    }


def test_pairs_are_confirmed_by_the_correlation_that_numpy_gives() -> None:
    random = np.random.default_rng(0)
    left = random.integers(0, 256, (60, 64, 64))
    noise = random.normal(0, 1, left.shape) * np.linspace(0, 12, 60)[:, None, None]
    right = (left * 0.7 + 20 + noise).round().clip(0, 255).astype(np.uint8)
    left = left.astype(np.uint8)

    same = confirmed(left, right)

    slow = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(left, right, strict=True)]
    assert same.tolist() == [correlation >= 0.9985 for correlation in slow]
    assert 5 < same.sum() < 30


def test_flat_images_are_never_confirmed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    flat = np.full((1, 64, 64), 7, dtype=np.uint8)

    same = confirmed(flat, flat)

    assert same.tolist() == [False]


def test_what_hangs_together_through_others_is_joined() -> None:
    stands_for = joined("abcdef", [("a", "b"), ("c", "d"), ("b", "c")])

    assert len({stands_for[item] for item in "abcd"}) == 1
    assert len(set(stands_for.values())) == 3

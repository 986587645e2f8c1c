"""The search for near-duplicates, against comparing all with all."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fgpipe.images.near_duplicates import RADIUS_BITS, joined, pairs_within
from fgpipe.images.perceptual_hash import mirrored_hash, perceptual_hash, perceptual_hashes
from tests.support.synthetic import LABELS, draw

hashes_with_neighbours = st.lists(
    st.tuples(
        st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF, 0xFFFF0000FFFF0000]),
        st.lists(st.integers(0, 63), max_size=9),
    ),
    max_size=40,
)


@given(hashes_with_neighbours, st.sampled_from([0, 3, 4, 7]))
def test_the_search_finds_what_comparing_all_with_all_finds(
    seeds: list[tuple[int, list[int]]], radius_bits: int
) -> None:
    hashes = []
    for value, flips in seeds:
        for bit in flips:
            value ^= 1 << bit  # noqa: PLW2901 - the flips add up
        hashes.append(value)

    pairs = pairs_within(np.array(hashes, dtype=np.uint64), radius_bits=radius_bits)

    slow = [
        (i, j)
        for i, j in combinations(range(len(hashes)), 2)
        if (hashes[i] ^ hashes[j]).bit_count() <= radius_bits
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


def test_pairs_that_were_known_before_are_left_out() -> None:
    hashes = np.array([7, 7, 6, 2**40, 7], dtype=np.uint64)

    pairs = pairs_within(hashes, n_known=2)

    assert pairs.tolist() == [[0, 2], [0, 4], [1, 2], [1, 4], [2, 3], [2, 4]]


def test_the_mirror_image_has_about_the_mirrored_hash() -> None:
    images = [grey(draw(LABELS[0], group=group, size_px=128)) for group in range(20)]
    hashes = np.array([perceptual_hash(image) for image in images], dtype=np.uint64)
    mirrors = [
        perceptual_hash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) for image in images
    ]

    n_bits = np.bitwise_count(mirrored_hash(hashes) ^ np.array(mirrors, dtype=np.uint64))

    assert np.mean(n_bits <= 7) >= 0.75


def test_hashes_of_many_squares_are_those_of_each() -> None:
    squares = np.stack([draw(LABELS[0], group=group, size_px=32)[:, :, 0] for group in range(9)])

    hashes = perceptual_hashes(squares)

    assert hashes.tolist() == [perceptual_hash(Image.fromarray(square)) for square in squares]


def test_what_hangs_together_through_others_is_joined() -> None:
    stands_for = joined("abcdef", [("a", "b"), ("c", "d"), ("b", "c")])

    assert len({stands_for[item] for item in "abcd"}) == 1
    assert len(set(stands_for.values())) == 3

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fgpipe.pretraining import probes
from fgpipe.pretraining.encoder import build_encoder
from fgpipe.pretraining.probes import (
    Embedded,
    linear_accuracy,
    look,
    neighbour_accuracy,
    with_fewer_known,
)
from tests.support.pretraining import make_probe


def embedded(*, told: float) -> Embedded:
    """Noise, and the class in one channel, so far apart."""
    rows = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    rows[:, 2] += told * (np.arange(40) % 2 - 0.5)
    return Embedded(known=rows[:30], asked=rows[30:])


def test_linear_accuracy_is_scikit_learns_at_the_penalty_that_suits_it_best() -> None:
    probe, noise = make_probe(), embedded(told=2)

    accuracy = linear_accuracy(noise, probe)

    known, asked = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (noise.known, noise.asked)
    )
    centre, scale = known.mean(axis=0), np.sqrt(known.var(axis=0).mean())
    scores = [
        LogisticRegression(C=strength)
        .fit((known - centre) / scale, probe.targets[:30])
        .score((asked - centre) / scale, probe.targets[30:])
        for strength in (0.001, 0.01, 0.1, 1.0)
    ]
    assert accuracy == max(scores)
    assert len(set(scores)) > 1


def test_rows_that_tell_the_class_are_right_for_all() -> None:
    told = embedded(told=20)

    assert linear_accuracy(told, make_probe()) == 1
    assert neighbour_accuracy(told, make_probe()) == 1


def test_rows_that_are_all_one_are_right_for_one_class_alone() -> None:
    one = Embedded(known=np.ones((30, 5), np.float32), asked=np.ones((10, 5), np.float32))

    assert linear_accuracy(one, make_probe()) == 0.5
    assert neighbour_accuracy(one, make_probe()) == 0.5


def test_the_only_known_class_is_the_answer_to_all() -> None:
    probe = make_probe()
    targets = probe.targets.copy()
    targets[probe.known] = 1

    accuracy = linear_accuracy(embedded(told=0), replace(probe, targets=targets))

    assert accuracy == np.mean(targets[probe.asked] == 1)


def test_a_fit_that_is_cut_short_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MAX_ROUNDS", 1)

    assert 0 <= linear_accuracy(embedded(told=1), make_probe()) <= 1


def test_of_many_training_images_a_sample_is_known() -> None:
    probe = make_probe()

    sample = with_fewer_known(probe, at_most=10, seed=0)

    assert len(set(sample.known)) == 10
    assert set(sample.known) <= set(probe.known)
    assert sorted(sample.known) == sample.known.tolist()
    assert sample.asked is probe.asked
    assert with_fewer_known(probe, at_most=30, seed=0) is probe


def test_rows_are_means_over_space_of_the_normalised_images_feature_maps() -> None:
    encoder, probe = build_encoder("test_resnet", image_size_px=32, seed=0), make_probe()

    found = look(encoder, probe, precision="fp32")

    pixels = torch.from_numpy(probe.pixels[30:33]).permute(0, 3, 1, 2).double() / 255
    mean = torch.tensor(encoder.backbone.network.pretrained_cfg["mean"]).reshape(1, 3, 1, 1)
    std = torch.tensor(encoder.backbone.network.pretrained_cfg["std"]).reshape(1, 3, 1, 1)
    maps = encoder.backbone(((pixels - mean) / std).float()).detach().numpy()
    assert not encoder.training
    assert np.allclose(found.asked[:3], maps.mean(axis=(2, 3)), atol=1e-4)
    assert len(found.known) == 30

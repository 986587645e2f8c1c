from typing import get_args

import pytest
import torch

from fgpipe.nn.heads.bilinear import BilinearHead
from fgpipe.nn.heads.cal import CalHead
from fgpipe.nn.heads.contract import Head
from fgpipe.nn.heads.cosine import CosineHead
from fgpipe.nn.heads.isqrt import IsqrtHead
from fgpipe.nn.heads.linear import LinearHead
from fgpipe.nn.heads.mlp import MlpHead
from fgpipe.nn.heads.recurrent import RecurrentHead
from fgpipe.nn.heads.registry import create_head
from fgpipe.nn.poolings import GemPooling
from fgpipe.records import HeadName, RecogniserSpec

KINDS = {
    "linear": LinearHead,
    "mlp": MlpHead,
    "gru": RecurrentHead,
    "lstm": RecurrentHead,
    "isqrt": IsqrtHead,
    "bilinear": BilinearHead,
    "cal": CalHead,
    "cosine": CosineHead,
}


def create(head: str, **options: object) -> Head:
    spec = RecogniserSpec(
        backbone="any",
        head=head,
        n_classes=3,
        dropout=0.25,
        image_size_px=64,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        **options,
    )
    return create_head(spec, n_channels=8)


@pytest.mark.parametrize("name", get_args(HeadName))
def test_every_name_has_its_head_and_its_dropout(name: str) -> None:
    head = create(name)

    assert type(head) is KINDS[name]
    assert head.dropout.p == 0.25


@pytest.mark.parametrize("name", ["linear", "mlp", "cosine"])
def test_pooling_and_norm_are_the_specifications(name: str) -> None:
    chosen, default = create(name, pooling="gem", batch_norm=True), create(name)

    assert isinstance(chosen.pooled.pooling, GemPooling)
    assert chosen.pooled.norm is not None
    assert not isinstance(default.pooled.pooling, GemPooling)
    assert default.pooled.norm is None


def test_unit_and_scan_are_the_specifications() -> None:
    gru, lstm = create("gru"), create("lstm", scan="shuffled")

    assert (type(gru.recurrent), gru.scan) == (torch.nn.GRU, "rows")
    assert (type(lstm.recurrent), lstm.scan) == (torch.nn.LSTM, "shuffled")


def test_attentions_margin_and_centres_are_the_specifications() -> None:
    cal = create("cal", n_attentions=5)
    cosine = create("cosine", margin="cosface", margin_size=0.2, n_centres=4)

    assert cal.attend[0].out_channels == 5
    assert (cosine.margin, cosine.margin_size) == ("cosface", 0.2)
    assert cosine.centres.shape == (3, 4, 8)

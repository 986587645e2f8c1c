"""``gru``: a recurrent network over the spatial grid."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgpipe.nn.heads.contract import FeatureMap, Head, HeadOutput, undecided


class GruHead(Head):
    """A bidirectional GRU over the spatial grid, read out by attention, beside the mean.

    The grid is read row by row as a sequence. What a mean throws away, where a part is and
    what lies beside it, reaches the classifier through the recurrent state. Positions are
    told by a 2-D sine code added to the projected features.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (the
    unit); Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and
    Translate" (the read-out). Differs in reading a feature map, and in keeping the mean
    over space in the embedding, so that the head can only add to the linear one.
    """

    hidden = 128
    """State of each direction; twice that is the width of the projected features."""

    def __init__(self, *, n_channels: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        width = 2 * self.hidden
        self.project = nn.Linear(n_channels, width)
        self.norm = nn.LayerNorm(width)
        self.gru = nn.GRU(width, self.hidden, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = undecided(n_channels + width, n_classes)

    def forward(self, features: FeatureMap) -> HeadOutput:
        """Logits, the mean features beside the attended states as embedding, attention."""
        _, _, rows, columns = features.shape
        sequence = self.norm(self.project(features.flatten(2).transpose(1, 2)))
        code = grid_code(rows, columns, width=sequence.shape[-1])
        states, _ = self.gru(sequence + code.to(sequence))
        attention = torch.softmax(self.attend(states), dim=1)
        attended = (attention * states).sum(dim=1)
        embedding = torch.cat([features.mean(dim=(2, 3)), attended.to(features.dtype)], dim=1)
        looked = attention.float().reshape(-1, rows, columns)
        return HeadOutput(self.classifier(self.dropout(embedding)), embedding, looked)


def grid_code(rows: int, columns: int, *, width: int) -> Float[Tensor, "cells {width}"]:
    """Sines and cosines that tell each cell of a grid its row and column.

    Args:
        rows: Height of the grid.
        columns: Width of the grid.
        width: Length of a code, a multiple of 4: half for the row, half for the column.

    Source: Vaswani et al., "Attention Is All You Need", once for each axis.
    """
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float32) / quarter)
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float32),
        torch.arange(columns, dtype=torch.float32),
        indexing="ij",
    )
    angles = [axis.reshape(-1, 1) * frequencies for axis in (row, column)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)

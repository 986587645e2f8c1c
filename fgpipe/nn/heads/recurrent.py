"""``gru`` and ``lstm``: a recurrent network over the spatial grid."""

import hashlib
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fgpipe.nn.heads.contract import FeatureMap, Head, HeadOutput, undecided

CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}
"""The recurrent units by name."""

Scan = Literal["rows", "shuffled"]


class RecurrentHead(Head):
    """A bidirectional GRU or LSTM over the spatial grid, read out by attention, beside the mean.

    The grid is read row by row as a sequence. What a mean throws away, where a part is and
    what lies beside it, reaches the classifier through the recurrent state. Positions are
    told by a 2-D sine code added to the projected features.

    Under the scan ``shuffled`` the cells are read in an order drawn once and for all from the
    grid's size: a control with the same network and the same information, but with neighbours
    torn apart. If it is as good, the head gains by its size and its attention, not by the
    order. The codes then stay with the places of the sequence and do not go with the cells:
    a cell's own code would tell its row and column whatever the order, and the control would
    be none. So the head does exactly what it would of an image whose cells were shuffled.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" and
    Hochreiter and Schmidhuber, "Long Short-Term Memory" (the units); Schuster and Paliwal,
    "Bidirectional Recurrent Neural Networks"; Bahdanau et al., "Neural Machine Translation
    by Jointly Learning to Align and Translate" (the read-out). Differs in reading a feature
    map, in scoring each state by a linear layer alone, and in keeping the mean over space in
    the embedding, so that the head can only add to the linear one.
    """

    hidden = 128
    """State of each direction; twice that is the width of the projected features."""

    def __init__(
        self,
        *,
        n_channels: int,
        n_classes: int,
        dropout: float,
        cell: Literal["gru", "lstm"],
        scan: Scan,
    ) -> None:
        super().__init__()
        width = 2 * self.hidden
        self.scan = scan
        self.project = nn.Linear(n_channels, width)
        self.norm = nn.LayerNorm(width)
        self.recurrent = CELLS[cell](width, self.hidden, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = undecided(n_channels + width, n_classes)

    def forward(self, features: FeatureMap) -> HeadOutput:
        """Logits, the mean features beside the attended states as embedding, attention."""
        _, _, rows, columns = features.shape
        cells = features.flatten(2).transpose(1, 2)
        order = shuffled_cells(rows, columns) if self.scan == "shuffled" else None
        if order is not None:
            cells = cells[:, order.to(cells.device)]
        sequence = self.norm(self.project(cells))
        code = grid_code(rows, columns, width=sequence.shape[-1])
        states, _ = self.recurrent(sequence + code.to(sequence))
        attention = torch.softmax(self.attend(states).float(), dim=1)
        attended = (attention * states).sum(dim=1)
        mean = features.mean(dim=(2, 3), dtype=torch.float32)
        embedding = torch.cat([mean, attended], dim=1)
        looked = attention[:, :, 0]
        if order is not None:
            looked = looked[:, order.argsort().to(looked.device)]
        return HeadOutput(
            self.classifier(self.dropout(embedding)),
            embedding,
            looked.reshape(-1, rows, columns),
        )


def shuffled_cells(rows: int, columns: int) -> Int64[Tensor, " cells"]:
    """A random order of a grid's cells, the same for every grid of that size, for ever.

    By hashes and no generator's stream, which may change with a library's version and would
    make weights that were trained with it worthless.

    Returns:
        Which cell, counted row by row, is read at each place.
    """
    keys = [
        hashlib.sha256(f"{rows}x{columns}:{cell}".encode()).digest()
        for cell in range(rows * columns)
    ]
    return torch.tensor(sorted(range(rows * columns), key=keys.__getitem__))


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

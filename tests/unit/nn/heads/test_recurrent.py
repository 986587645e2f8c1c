import pytest
import torch

from fgpipe.nn.heads.recurrent import RecurrentHead, grid_code, shuffled_cells


def head(cell: str = "gru", scan: str = "rows") -> RecurrentHead:
    torch.manual_seed(0)
    return RecurrentHead(n_channels=16, n_classes=2, dropout=0.0, cell=cell, scan=scan)


def feature_maps() -> torch.Tensor:
    return torch.rand(3, 16, 4, 5, generator=torch.Generator().manual_seed(0))


def test_the_recurrent_head_sees_where_a_part_is() -> None:
    gru = head()

    embedding, mirrored = gru(feature_maps()).embedding, gru(feature_maps().flip(3)).embedding

    assert (embedding - mirrored).abs().max() > 1e-3


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_read_out_is_a_slow_loop_over_cells(cell: str) -> None:
    recurrent = head(cell)
    features = feature_maps()

    output = recurrent(features)

    code = grid_code(4, 5, width=2 * recurrent.hidden)
    loop = {"gru": gru_loop, "lstm": lstm_loop}[cell]
    for image in range(3):
        cells = [
            recurrent.norm(recurrent.project(features[image, :, row, column]))
            + code[row * 5 + column]
            for row in range(4)
            for column in range(5)
        ]
        forward = loop(recurrent.recurrent, cells, "")
        backward = loop(recurrent.recurrent, cells[::-1], "_reverse")[::-1]
        states = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
        scores = torch.cat([recurrent.attend(state) for state in states])
        weights = scores.exp() / scores.exp().sum()
        attended = sum(weight * state for weight, state in zip(weights, states, strict=True))
        assert torch.allclose(output.embedding[image, :16], features[image].mean(dim=(1, 2)))
        assert torch.allclose(output.embedding[image, 16:], attended, atol=1e-5)
        assert torch.allclose(output.attention[image].flatten(), weights, atol=1e-6)


def gru_loop(gru: torch.nn.GRU, cells: list[torch.Tensor], suffix: str) -> list[torch.Tensor]:
    """The recurrence of Cho et al., one cell after the other."""
    state = torch.zeros(gru.hidden_size)
    states = []
    w_i, b_i, w_h, b_h = weights_of(gru, suffix)
    for cell in cells:
        r_i, z_i, n_i = (w_i @ cell + b_i).chunk(3)
        r_h, z_h, n_h = (w_h @ state + b_h).chunk(3)
        reset, update = torch.sigmoid(r_i + r_h), torch.sigmoid(z_i + z_h)
        state = (1 - update) * torch.tanh(n_i + reset * n_h) + update * state
        states.append(state)
    return states


def lstm_loop(lstm: torch.nn.LSTM, cells: list[torch.Tensor], suffix: str) -> list[torch.Tensor]:
    """The recurrence of Hochreiter and Schmidhuber, with a forget gate."""
    state = memory = torch.zeros(lstm.hidden_size)
    states = []
    w_i, b_i, w_h, b_h = weights_of(lstm, suffix)
    for cell in cells:
        let_in, keep, value, let_out = (w_i @ cell + b_i + w_h @ state + b_h).chunk(4)
        memory = torch.sigmoid(keep) * memory + torch.sigmoid(let_in) * torch.tanh(value)
        state = torch.sigmoid(let_out) * torch.tanh(memory)
        states.append(state)
    return states


def weights_of(network: torch.nn.RNNBase, suffix: str) -> list[torch.Tensor]:
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    return [getattr(network, name + suffix) for name in names]


def test_the_shuffled_scan_is_the_scan_of_an_image_whose_cells_were_shuffled() -> None:
    rows, shuffled = head(scan="rows"), head(scan="shuffled")
    features = feature_maps()
    order = shuffled_cells(4, 5)

    output = shuffled(features)

    expected = rows(features.flatten(2)[:, :, order].reshape(features.shape))
    assert torch.allclose(output.embedding, expected.embedding, atol=1e-6)
    for place, cell in enumerate(order.tolist()):
        in_place = expected.attention.flatten(1)[:, place]
        assert torch.allclose(output.attention.flatten(1)[:, cell], in_place, atol=1e-6)


def test_the_order_is_a_permutation_that_a_grids_size_alone_decides() -> None:
    order = shuffled_cells(7, 7)

    assert sorted(order.tolist()) == list(range(49))
    assert torch.equal(order, shuffled_cells(7, 7))
    assert not torch.equal(shuffled_cells(4, 6), shuffled_cells(6, 4))


def test_the_order_tears_neighbours_apart() -> None:
    order = shuffled_cells(7, 7)

    rows, columns = order // 7, order % 7
    apart = (rows.diff().abs() + columns.diff().abs()).float()
    # Two cells of a 7 x 7 grid drawn at random are 4.67 steps apart; row by row it is 1.75.
    assert apart.mean() > 4.0


def test_the_order_does_not_change_with_a_library() -> None:
    # Weights that were trained with another order would be worthless. These are the numbers N
    # from 0 to 5 in the order of what `printf 2x3:N | sha256sum` says.
    assert shuffled_cells(2, 3).tolist() == [4, 5, 2, 3, 0, 1]


def test_every_cell_of_a_grid_has_a_code_of_its_own() -> None:
    code = grid_code(6, 7, width=64)

    assert code.shape == (42, 64)
    assert torch.cdist(code, code).fill_diagonal_(1).min() > 0.1

import torch

from fgpipe.nn.heads import HEADS, GruHead, LinearHead, create_head, grid_code


def features(seed: int = 0) -> torch.Tensor:
    return torch.rand(3, 16, 4, 5, generator=torch.Generator().manual_seed(seed))


def test_every_head_gives_a_logit_a_class_and_an_embedding_an_image() -> None:
    for name in HEADS:
        head = create_head(name, n_channels=16, n_classes=7, dropout=0.1).eval()

        logits, embedding = head(features())

        assert logits.shape == (3, 7)
        assert embedding.shape == (3, head.classifier.in_features)


def test_an_untrained_head_prefers_no_class() -> None:
    head = create_head("gru", n_channels=16, n_classes=7, dropout=0.0)

    logits, _ = head(features())

    assert torch.equal(logits, torch.zeros(3, 7))


def test_the_linear_head_is_the_classifier_of_each_channels_mean() -> None:
    head = LinearHead(n_channels=16, n_classes=2, dropout=0.5).eval()
    torch.nn.init.normal_(head.classifier.weight)
    pixels = features()

    logits, _ = head(pixels)

    weight, bias = head.classifier.weight, head.classifier.bias
    for image in range(3):
        mean = [pixels[image, channel].sum() / 20 for channel in range(16)]
        for target in range(2):
            expected = sum(w * m for w, m in zip(weight[target], mean, strict=True)) + bias[target]
            assert torch.isclose(logits[image, target], expected, atol=1e-5)


def test_the_recurrent_head_sees_where_a_part_is_and_the_linear_one_does_not() -> None:
    pixels = features()
    mirrored = pixels.flip(3)
    torch.manual_seed(0)
    gru = GruHead(n_channels=16, n_classes=2, dropout=0.0)
    linear = LinearHead(n_channels=16, n_classes=2, dropout=0.0)

    moved_gru = (gru(pixels)[1] - gru(mirrored)[1]).abs().max()
    moved_linear = (linear(pixels)[1] - linear(mirrored)[1]).abs().max()

    assert moved_gru > 1e-3
    assert moved_linear < 1e-6


def test_the_recurrent_read_out_is_a_slow_loop_over_cells() -> None:
    torch.manual_seed(0)
    head = GruHead(n_channels=16, n_classes=2, dropout=0.0)
    pixels = features()

    _, embedding = head(pixels)

    code = grid_code(4, 5, width=2 * head.hidden)
    for image in range(3):
        cells = [
            head.norm(head.project(pixels[image, :, row, column])) + code[row * 5 + column]
            for row in range(4)
            for column in range(5)
        ]
        forward, backward = loop(head.gru, cells, ""), loop(head.gru, cells[::-1], "_reverse")[::-1]
        states = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
        scores = torch.cat([head.attend(state) for state in states])
        weights = scores.exp() / scores.exp().sum()
        attended = sum(weight * state for weight, state in zip(weights, states, strict=True))
        assert torch.allclose(embedding[image, 16:], attended, atol=1e-5)


def loop(gru: torch.nn.GRU, cells: list[torch.Tensor], suffix: str) -> list[torch.Tensor]:
    """The recurrence of Cho et al., one cell after the other."""
    state = torch.zeros(gru.hidden_size)
    states = []
    for cell in cells:
        names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
        w_i, b_i, w_h, b_h = (getattr(gru, name + suffix) for name in names)
        r_i, z_i, n_i = (w_i @ cell + b_i).chunk(3)
        r_h, z_h, n_h = (w_h @ state + b_h).chunk(3)
        reset, update = torch.sigmoid(r_i + r_h), torch.sigmoid(z_i + z_h)
        state = (1 - update) * torch.tanh(n_i + reset * n_h) + update * state
        states.append(state)
    return states


def test_every_cell_of_a_grid_has_a_code_of_its_own() -> None:
    code = grid_code(6, 7, width=64)

    assert code.shape == (42, 64)
    assert torch.cdist(code, code).fill_diagonal_(1).min() > 0.1

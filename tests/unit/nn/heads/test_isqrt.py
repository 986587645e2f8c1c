import numpy as np
import torch

from fgpipe.nn.heads.isqrt import IsqrtHead, covariance, square_root, upper_triangle


def matrices() -> torch.Tensor:
    factors = torch.randn(3, 6, 20, generator=torch.Generator().manual_seed(0))
    return factors @ factors.transpose(1, 2) / 20


def test_covariance_is_numpys() -> None:
    features = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))

    matrix = covariance(features)

    for image in range(2):
        expected = np.cov(features[image].flatten(1).numpy(), bias=True)
        assert np.allclose(matrix[image].numpy(), expected, atol=1e-6)


def test_many_iterations_give_the_root_of_the_eigendecomposition() -> None:
    squares = matrices()

    root = square_root(squares, n_iterations=15, eps=0.0)

    values, vectors = np.linalg.eigh(squares.double().numpy())
    expected = vectors * np.sqrt(values)[:, None, :] @ vectors.transpose(0, 2, 1)
    assert np.allclose(root.numpy(), expected, atol=1e-4)


def test_five_iterations_do_to_each_eigenvalue_what_newtons_method_does_to_a_number() -> None:
    squares = matrices()

    root = square_root(squares)

    values, vectors = np.linalg.eigh(squares.double().numpy())
    trace = values.sum(axis=1, keepdims=True) + 1e-5
    roots, inverses = values / trace, np.ones_like(values)
    for _ in range(5):
        steps = (3 - inverses * roots) / 2
        roots, inverses = roots * steps, steps * inverses
    expected = vectors * (roots * np.sqrt(trace))[:, None, :] @ vectors.transpose(0, 2, 1)
    assert np.allclose(root.numpy(), expected, atol=1e-5)


def test_the_gradient_of_the_root_is_that_of_the_eigendecomposition() -> None:
    squares = matrices().double().requires_grad_()
    weights = torch.randn(6, 6, generator=torch.Generator().manual_seed(1)).double()
    weights = weights + weights.T

    (square_root(squares, n_iterations=20, eps=0.0) * weights).sum().backward()

    copy = squares.detach().clone().requires_grad_()
    values, vectors = torch.linalg.eigh(copy)
    root = vectors * values.sqrt()[:, None, :] @ vectors.transpose(1, 2)
    (root * weights).sum().backward()
    symmetric = (squares.grad + squares.grad.transpose(1, 2)) / 2
    assert torch.allclose(symmetric, (copy.grad + copy.grad.transpose(1, 2)) / 2, atol=1e-8)


def test_the_root_of_nothing_is_nothing_and_has_a_gradient() -> None:
    features = torch.zeros(1, 4, 3, 3, requires_grad=True)

    root = square_root(covariance(features))
    root.sum().backward()

    assert torch.equal(root, torch.zeros(1, 4, 4))
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_the_root_of_a_covariance_of_fewer_cells_than_channels_is_finite() -> None:
    features = torch.randn(2, 32, 2, 2, requires_grad=True)

    root = square_root(covariance(features))
    root.square().sum().backward()

    assert root.isfinite().all()
    assert features.grad.isfinite().all()


def test_the_upper_triangle_is_read_row_by_row() -> None:
    matrix = torch.arange(9.0).reshape(1, 3, 3)

    assert upper_triangle(matrix).tolist() == [[0, 1, 2, 4, 5, 8]]


def test_the_root_is_taken_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    head = IsqrtHead(n_channels=8, n_classes=2, dropout=0.0).eval()
    features = torch.randn(2, 8, 7, 7)

    with torch.autocast("cpu", torch.bfloat16):
        embedding = head(features).embedding
        reduced = torch.relu(head.reduce(features)).float()

    assert torch.equal(embedding, upper_triangle(square_root(covariance(reduced))))

"""A 1x1 convolution to few channels, before what grows with the square of their number."""

from torch import nn


def reduction(n_channels: int, n_reduced: int) -> nn.Sequential:
    """To ``n_reduced`` channels, each normalised over the batch.

    Source: Lin, Chen and Yan, "Network In Network" (the convolution); Ioffe and Szegedy,
    "Batch Normalization".
    """
    return nn.Sequential(
        nn.Conv2d(n_channels, n_reduced, kernel_size=1, bias=False), nn.BatchNorm2d(n_reduced)
    )

"""Plain networks for points at a level of noise, and fields that are gradients by construction."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.nn import mlp

__all__ = ["GradientField", "NoiseMLP"]


class NoiseMLP(nn.Module):
    """A network on vectors ``[B, N]`` that knows the level of noise, for `Preconditioned`.

    >>> NoiseMLP(5)(torch.zeros(3, 5), torch.zeros(3)).shape
    torch.Size([3, 5])

    The level enters as sines and cosines of 1, 2, ... times log(sigma) / 2 beside the coordinates; activations are SiLU, so that
    every derivative exists.

    Args:
        dim: N.
        out: numbers per sample, N by default.
        width, depth: of the hidden layers.
        pairs: how many sines, and cosines.
        generator: source of the initial parameters.
    """

    def __init__(
        self,
        dim: int,
        *,
        out: int | None = None,
        width: int = 128,
        depth: int = 3,
        pairs: int = 3,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, out=dim if out is None else out, width=width, depth=depth, pairs=pairs)
        self.dim, self.pairs = dim, pairs
        sizes = (dim + 2 * pairs, *(width,) * depth, dim if out is None else out)
        self.layers = mlp(sizes, generator=generator)

    @override
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Numbers ``[B, out]`` of points ``[B, N]`` at ``noise [B]``, which is log(sigma) / 4."""
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ShapeError(f"x has shape {tuple(x.shape)}; this network is for vectors [B, {self.dim}]")
        turns = 2 * noise[:, None].to(x.dtype) * torch.arange(1, self.pairs + 1, dtype=x.dtype, device=x.device)
        return self.layers(torch.cat([x, turns.sin(), turns.cos()], -1))


_PIECEWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Hardshrink,
    nn.Threshold,
)


class GradientField(nn.Module):
    """The gradient of a potential by its point: a field whose Jacobian is symmetric, whatever the weights.

    >>> field = GradientField(lambda x, noise: x.square().sum(-1, keepdim=True) / 2)
    >>> field(torch.tensor([[1.0, 2.0]]), torch.zeros(1))
    tensor([[1., 2.]])

    Args:
        potential: ``potential(x, noise)``, one number ``[B, 1]`` or ``[B]`` for each of the points ``[B, N]``.

    Raises:
        ErlangenError: the potential has an activation such as ReLU, that is linear in pieces: its gradient is constant in pieces.
    """

    def __init__(self, potential: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        if isinstance(potential, nn.Module):
            for name, module in potential.named_modules():
                if isinstance(module, _PIECEWISE):
                    raise ErlangenError(
                        f"potential: {name} is {type(module).__name__}, linear in pieces, and the gradient would be constant in "
                        "pieces; take a smooth activation such as nn.SiLU"
                    )
        self.potential = potential

    @override
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The gradient ``[B, N]``."""

        def total(at: Tensor) -> Tensor:
            value = self.potential(at, noise)
            if value.numel() != len(at):
                raise ShapeError(
                    f"the potential gives {tuple(value.shape)}; it must give one number for each of {len(at)} points"
                )
            return value.sum()

        return torch.func.grad(total)(x)

"""Networks that are all alike but for their linear maps: dense, equivariant, or the sum of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import ErlangenError
from erlangen.groups import Group
from erlangen.nn import EquivariantLinear, gated
from erlangen.reps import Rep, T, hom_basis

RepOf = Callable[[Group], Rep]
Method: TypeAlias = Literal["mlp", "mlp, same start", "emlp", "oracle", "rpp", "per, fixed", "per"]
PRODUCT_SCALE = 0.25
"""Factor of the products in a block: with 1, squares of squares would make deep networks large at the start."""
TERMS = 3
"""Outer products that are added to a matrix."""
RESIDUAL_SCALE = 1e-3
"""Factor of the dense maps of residual pathways at the start, as the authors have it."""
BLOCKS = 3
"""Blocks before the last linear map."""


class ResidualPathway(nn.Module):
    """The sum of an equivariant and a dense linear map (residual pathway priors); the dense one starts a thousandth as large."""

    def __init__(self, rep_in: Rep, rep_out: Rep, generator: Generator | None = None) -> None:
        super().__init__()
        self.equivariant = EquivariantLinear(rep_in, rep_out, generator=generator)
        self.basic = dense(rep_in, rep_out, generator)
        with torch.no_grad():
            self.basic.weight.mul_(RESIDUAL_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[..., rep_out.size]`` of inputs ``[..., rep_in.size]``."""
        return self.equivariant(x) + self.basic(x)


def dense(rep_in: Rep, rep_out: Rep, generator: Generator | None = None) -> nn.Linear:
    """A linear map without symmetry; weights are Gaussian and keep the variance, biases start at zero."""
    layer = nn.Linear(rep_in.size, rep_out.size)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / rep_in.size**0.5)
        layer.bias.zero_()
    return layer


class ProductGate(nn.Module):
    """Products of vectors, then gates: equivariant for O(n) and all its subgroups.

    Inputs ``[B, gated(rep).size]`` are scalars, vectors, matrices, and a gate for each vector and matrix. Of learned mixtures
    of the vectors, inner products are added to scalars and gates, sums of three outer products to matrices. Then scalars go
    through silu, and sigmoids of the gates multiply vectors and matrices. These are some of the maps of
    `erlangen.nn.BilinearLayer`, and `erlangen.nn.Gate`, in the few operations that small networks call for.

    Args:
        rep: scalars, vectors and matrices in this order, of a group that acts on R^n; outputs are ``[B, rep.size]``.
        generator: source of the initial mixtures, for which products of normal vectors have variance 1/16.
    """

    def __init__(self, rep: Rep, generator: Generator | None = None) -> None:
        super().__init__()
        (scalars, _), (self.vectors, vector), (self.matrices, matrix) = rep.summands()
        gates = self.vectors + self.matrices
        self.dim = vector.size
        self.sizes = [scalars, self.vectors * vector.size, self.matrices * matrix.size, gates]

        products = torch.cat(
            [torch.full((scalars + gates,), self.dim**-0.5), torch.full((TERMS * self.matrices,), TERMS**-0.5)]
        ).repeat(2)
        scales = (PRODUCT_SCALE * products / self.vectors).sqrt()[:, None]
        self.mixtures = nn.Parameter(scales * torch.randn(len(scales), self.vectors, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[B, rep.size]`` of inputs ``[B, gated(rep).size]``."""
        scalars, vectors, matrices, gates = x.split(self.sizes, -1)
        vectors = vectors.unflatten(-1, (self.vectors, self.dim))
        left, right = F.linear(vectors.mT, self.mixtures).chunk(2, -1)  # [B, n, products]: one product of matrices
        kinds = self.sizes[0] + self.sizes[3], TERMS * self.matrices
        (left, left_outer), (right, right_outer) = left.split(kinds, -1), right.split(kinds, -1)
        more, for_gates = (left * right).sum(-2).split((self.sizes[0], self.sizes[3]), -1)
        gate, gate_of_matrices = torch.sigmoid(gates + for_gates)[..., None].split((self.vectors, self.matrices), -2)
        columns, rows = (side.mT.unflatten(-2, (self.matrices, TERMS)) for side in (left_outer, right_outer))
        outer = columns.mT @ rows
        whole = matrices.unflatten(-1, outer.shape[-3:]) + outer
        parts = (vectors * gate).flatten(-2), (whole * gate_of_matrices[..., None]).flatten(-3)
        return torch.cat((F.silu(scalars + more), *parts), -1)


class Network(nn.Module):
    """Three blocks of a linear map and a `ProductGate`, and a linear map; `method` chooses the linear maps.

    All of them start at the same equivariant maps of the whole group, so that no candidate has a lead; only "mlp" starts at
    orthogonal ones, and residual pathways add dense maps a thousandth as large.

    Args:
        group: the whole group, of which all candidates are subgroups.
        rep_in, rep_out: make the representations of inputs and outputs.
        width: channels of the hidden representation, `hidden_of`.
        method: dense maps ("mlp", "mlp, same start", "per", "per, fixed"), equivariant ones for the whole group ("emlp") or
            for `kept` ("oracle"), or sums of dense and equivariant ones ("rpp").
        kept: the subgroup of "oracle".
        generator: source of the initial parameters.

    Attributes:
        strengths: those of a regulariser after training, if there was one.
    """

    def __init__(
        self,
        group: Group,
        rep_in: RepOf,
        rep_out: RepOf,
        width: int,
        method: Method,
        kept: Group,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.method = method
        self.strengths: list[float] = []

        def linear(before: RepOf, after: RepOf) -> nn.Module:
            a, b = before(group), after(group)
            if method == "rpp":
                return ResidualPathway(a, b, generator)
            layer = dense(a, b, generator)
            if method == "mlp":
                nn.init.orthogonal_(layer.weight, generator=generator)
                return layer
            first = EquivariantLinear(a, b, generator=generator)
            if method == "emlp":
                return first
            if method == "oracle":
                return started(EquivariantLinear(before(kept), after(kept), generator=Generator()), first)
            with torch.no_grad():
                layer.weight.copy_(first.matrix())
            return layer

        hidden = hidden_of(width, group.space_dim)
        layers: list[nn.Module] = []
        for before in [rep_in, *[hidden] * (BLOCKS - 1)]:
            layers += [linear(before, lambda G: gated(hidden(G))), ProductGate(hidden(group), generator)]
        self.layers = nn.Sequential(*layers, linear(hidden, rep_out))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[B, rep_out.size]`` of inputs ``[B, rep_in.size]``."""
        return self.layers(x)


def started(layer: EquivariantLinear, first: EquivariantLinear) -> EquivariantLinear:
    """The layer of a subgroup with the map of a layer of the whole group, which is one of its own maps."""
    maps = hom_basis(layer.rep_in >> layer.rep_out)
    with torch.no_grad():
        layer.weight.copy_(maps.coefficients(first.matrix()))
    return layer


def hidden_of(width: int, dim: int = 3) -> RepOf:
    """Hidden scalars, vectors and matrices, each a third of `width` as nearly as they fit.

    For all groups on R^dim it is the same layout, so that one weight serves them all.
    """
    matrices, vectors = max(1, round(width / (3 * dim**2))), max(1, round(width / (3 * dim)))
    scalars = width - dim * vectors - dim**2 * matrices
    if scalars < 1:
        least = 1 + dim + dim**2
        raise ErlangenError(f"hidden = {width}: give at least {least} channels, for a scalar, a vector and a matrix")
    return lambda group: scalars * T(0)(group) + vectors * T(1)(group) + matrices * T(2)(group)


def residual_prior(model: nn.Module) -> Tensor:
    """The prior of residual pathways: the squares of weights, 1e-5 on the equivariant and 1 on the dense maps."""
    paths = [m for m in model.modules() if isinstance(m, ResidualPathway)]
    parts = [(w, m.weight) for path in paths for w, m in ((1e-5, path.equivariant), (1.0, path.basic))]
    return torch.stack([w * p.square().sum() for w, p in parts]).sum()

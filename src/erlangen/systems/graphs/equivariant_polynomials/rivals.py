"""Networks of molecules for the regression: what each reads, and how all begin."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from erlangen.nn import GIN, mlp
from erlangen.systems.graphs.equivariant_polynomials.method import PPGN, Pool

BONDS = 4
"""Kinds of bonds: the first channels of pairs of atoms."""

Model = TypeVar("Model", bound=nn.Module)


class PairReader(nn.Module):
    """A `PPGN` of the pairs of atoms of a molecule, and of one more set of their features where it is named."""

    def __init__(self, model: PPGN, more: str | None = None) -> None:
        super().__init__()
        self.model, self.more = model, more

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[G, 1]`` of ``{"pairs": [G, n, n, C], "mask": [G, n], ...}``."""
        pairs = x["pairs"] if self.more is None else torch.cat([x["pairs"], x[self.more]], -1)
        return self.model(pairs, x["mask"])


class BondGIN(nn.Module):
    """A `GIN` that knows of each atom its element and how many bonds of each kind it has."""

    def __init__(self, in_features: int, features: int, layers: int) -> None:
        super().__init__()
        self.gin = GIN(in_features, 1, features, layers=layers)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[G, 1]`` of ``{"pairs": [G, n, n, C]}``."""
        joined = x["pairs"].sum(2)  # of an element its one, of a kind of bond their number
        adj = (x["pairs"][..., :BONDS].sum(-1) > 0).to(joined.dtype)
        return self.gin(joined, adj)


def message_passing(channels: int, features: int, layers: int, width: int) -> nn.Module:
    """A fresh `BondGIN`, `conditioned`, with a `readout` of this width; parameters come from torch's global stream."""
    model = conditioned(BondGIN(channels, features, layers))
    model.gin.decode = readout(features * layers + channels, width)
    return model


def matrix_products(
    channels: int, features: int, layers: int, width: int, more: str | None = None, pool: Pool = "sums"
) -> nn.Module:
    """A fresh `PairReader` of this many channels in all, made like `message_passing`, which reads sums."""
    model = conditioned(PairReader(PPGN(channels, 1, features, layers=layers, pool=pool), more))
    model.model.decode = readout(2 * features * layers, width)
    return model


def readout(in_features: int, features: int) -> nn.Sequential:
    """A number per molecule, from what is read of it in numbers of one size.

    Sums over pairs grow with the square of the atoms, and means hardly differ between molecules, so without the normalisation
    most steps go into the size of weights.
    """
    return nn.Sequential(nn.BatchNorm1d(in_features), mlp([in_features, features, 1], nn.ReLU))


def conditioned(model: Model) -> Model:
    """The model with normal weights of variance ``2 / (inputs + outputs)`` and no biases.

    A bias gives all pairs without a bond a common number, and in products of matrices these many numbers drown the few bonds.
    """
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_normal_(part.weight)
            nn.init.zeros_(part.bias)
    return model

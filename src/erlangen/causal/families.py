"""Families of interventions: random changes at fixed sites of a linear model, and the covariances that they lead to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from erlangen.causal.equations import LinearSEM
from erlangen.causal.graphs import is_dag
from erlangen.errors import DataError, ErlangenError, UnknownNameError, check_integer

Rows = Literal["keep", "soft", "hard"]


class Interventions(NamedTuple):
    """Models after interventions.

    Attributes:
        weights: ``[n, d, d]``, as those of `LinearSEM`.
        variances: of the noise, ``[n, d]``.
    """

    weights: Tensor
    variances: Tensor

    def covariance(self) -> Tensor:
        """Covariances of the variables ``[n, d, d]``.

        Raises:
            ErlangenError: cycles without equilibrium; the message has the index.
        """
        W = self.weights
        inner = torch.eye(W.shape[-1], dtype=W.dtype) - W
        if len(W) and not is_dag((W != 0).any(0)):  # without cycles I - W is triangular with ones, up to an order
            condition = torch.linalg.cond(inner)
            bad = ~(condition < 0.1 / torch.finfo(W.dtype).eps)
            if bool(bad.any()):
                index = int(bad.nonzero()[0])
                raise ErlangenError(
                    f"intervention {index}: I - weights has the condition number {float(condition[index]):.3g}; the cycles "
                    "have no equilibrium, draw other weights"
                )
        total = torch.linalg.inv(inner)
        return (total.mT * self.variances[:, None, :]) @ total


@dataclass(frozen=True)
class InterventionFamily:
    """Random interventions on some nodes of a linear model; the others keep their equations.

    >>> chain = LinearSEM(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
    >>> cut = InterventionFamily(chain, sites=(1,), rows="hard", variances=(3.0, 3.0))
    >>> cut.draw(1, generator=Generator().manual_seed(0)).covariance()
    tensor([[[1., 0.],
             [0., 3.]]])

    Attributes:
        model: with noise that is not correlated.
        sites: the nodes.
        rows: weights of edges into a site: "keep" them, "soft" draws them anew for the same causes, "hard" cuts them.
        weights: sizes of new weights, uniform between the two and of either sign.
        variances: new noise variances at the sites, uniform between the two; None keeps them.

    Raises:
        DataError: a site that is no node, twice or missing, correlated noise, or limits in the wrong order.
        ErlangenError: nothing would change.
        UnknownNameError: `rows` is not known.
    """

    model: LinearSEM
    sites: tuple[int, ...]
    rows: Rows = "soft"
    weights: tuple[float, float] = (0.5, 1.5)
    variances: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        d = len(self.model.weights)
        if self.rows not in get_args(Rows):
            raise UnknownNameError(f"rows = {self.rows!r}; there are {', '.join(get_args(Rows))}")
        if not self.sites or len(set(self.sites)) < len(self.sites) or not all(0 <= i < d for i in self.sites):
            raise DataError(f"sites = {self.sites}; give some of the nodes 0 to {d - 1}, each once")
        if self.model.omega is not None and self.model.omega.ndim == 2:
            off = self.model.omega - self.model.omega.diagonal().diag()
            if bool((off != 0).any()):
                raise DataError("model has correlated noise; interventions of a family need a diagonal omega")
        for name, limits in (("weights", self.weights), ("variances", self.variances)):
            if limits is None:
                continue
            low, high = limits
            if not (0 <= low <= high and math.isfinite(high)) or (name == "variances" and low == 0):
                raise DataError(f"{name} = {limits}; give two positive numbers, the smaller first")
        if self.rows == "keep" and self.variances is None:
            raise ErlangenError('rows = "keep" without variances changes nothing; give variances, or rows = "soft"')

    @property
    def in_degree(self) -> int:
        """The most causes that a site has."""
        return int((self.model.weights[:, list(self.sites)] != 0).sum(0).max())

    def draw(self, n: int, *, generator: Generator | None = None) -> Interventions:
        """Models after n independent interventions, in the dtype of the model."""
        check_integer("n", n, 1)
        W, sites = self.model.weights, list(self.sites)
        omega = torch.ones(len(W), dtype=W.dtype) if self.model.omega is None else self.model.omega.to(W.dtype)
        weights = W.expand(n, -1, -1).clone()
        variances = (omega.diagonal() if omega.ndim == 2 else omega).expand(n, -1).clone()
        if self.rows != "keep":
            shape = (n, len(W), len(sites))
            low, high = self.weights
            sizes = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
            signs = 2.0 * torch.randint(2, shape, generator=generator) - 1
            new = (sizes * signs).to(W.dtype) * (W[:, sites] != 0)
            weights[:, :, sites] = new if self.rows == "soft" else torch.zeros_like(new)
        if self.variances is not None:
            low, high = self.variances
            drawn = torch.rand(n, len(sites), generator=generator, dtype=torch.float64)
            variances[:, sites] = (low + (high - low) * drawn).to(W.dtype)
        return Interventions(weights, variances)

"""Structural equation models: linear ones with their covariance, also cyclic, nonlinear ones, and interventions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from erlangen.causal.graphs import check_graph, is_dag, topological_order
from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError, check_finite, check_integer

Noise = Literal["normal", "exponential", "gumbel", "uniform", "logistic", "poisson"]
Mechanism = Literal["mlp", "mim", "gp", "gp-add"]


@dataclass(frozen=True)
class Intervention:
    """What is done to some nodes of a `LinearSEM`; the others keep their equations.

    Attributes:
        rows: new weights ``[d]`` of the edges into a node, by node; a zero vector cuts it off from its causes (hard).
        variances: new noise variances, by node.
    """

    rows: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])
    variances: Mapping[int, float] = field(default_factory=dict[int, float])

    @property
    def sites(self) -> frozenset[int]:
        """The nodes that something is done to."""
        return frozenset(self.rows) | frozenset(self.variances)


@dataclass(frozen=True)
class LinearSEM:
    """A linear structural equation model ``X = X W + noise``; cycles are allowed where I - W is invertible.

    >>> W = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    >>> LinearSEM(W).covariance()
    tensor([[1., 2.],
            [2., 5.]])

    Attributes:
        weights: ``[d, d]``, W[i, j] of the edge i -> j.
        omega: covariance of the noise ``[d, d]`` or its diagonal ``[d]``; by default the identity.
        noise: how the noise is distributed. "logistic" and "poisson" are draws with this mean in place of a sum: a yes or no with
            probability sigmoid(X W), a count of rate exp(X W).

    Raises:
        DataError: loops, a noise covariance that is not symmetric positive definite.
        ErlangenError: I - W is singular, or a cyclic graph with draws.
    """

    weights: Tensor
    omega: Tensor | None = None
    noise: Noise = "normal"

    def __post_init__(self) -> None:
        check_graph(self.weights, "weights")
        if self.noise not in get_args(Noise):
            raise UnknownNameError(f"noise = {self.noise!r}; there are {', '.join(get_args(Noise))}")
        d = len(self.weights)
        if self.omega is not None:
            check_finite(self.omega, "omega")
            if self.omega.shape not in {(d,), (d, d)}:
                raise ShapeError(f"omega has shape {tuple(self.omega.shape)}; give [{d}] or [{d}, {d}]")
            full = self._full_omega()
            if not torch.equal(full, full.mT) or bool(torch.linalg.eigvalsh(full)[0] <= 0):
                raise DataError("omega is not symmetric positive definite; it is the covariance of the noise")
        eye = torch.eye(d, dtype=self.weights.dtype)
        condition = float(torch.linalg.cond(eye - self.weights))
        if not condition < 0.1 / torch.finfo(self.weights.dtype).eps:
            raise ErlangenError(f"I - weights has the condition number {condition:.3g}: the cycles have no equilibrium")

    def _full_omega(self) -> Tensor:
        if self.omega is None:
            return torch.eye(len(self.weights), dtype=self.weights.dtype)
        omega = self.omega.to(self.weights.dtype)
        return omega.diag() if omega.ndim == 1 else omega

    def effects(self) -> Tensor:
        """Total effects ``(I - W)^-1 [d, d]``: what one unit of noise at i adds to j."""
        eye = torch.eye(len(self.weights), dtype=self.weights.dtype)
        return torch.linalg.inv(eye - self.weights)

    def covariance(self) -> Tensor:
        """Covariance of the variables ``[d, d]``, ``(I - W)^-T Omega (I - W)^-1``."""
        if self.noise in {"logistic", "poisson"}:
            raise ErlangenError(
                f"noise = {self.noise!r} draws from a mean and has no covariance in closed form; sample it"
            )
        total = self.effects()
        return total.mT @ self._full_omega() @ total

    def sample(self, n: int, *, generator: Generator | None = None) -> Tensor:
        """Samples ``[n, d]``, in the dtype of the weights.

        "exponential" and "gumbel" noise has the scale of `omega` and a mean that is not zero, "uniform" is on [-1, 1] times the
        scale, as in the experiments of Zheng et al. (2018).
        """
        check_integer("n", n, 1)
        W, d = self.weights, len(self.weights)
        if self.noise in {"logistic", "poisson"}:
            X = W.new_zeros(n, d)
            for j in topological_order(W).tolist():
                mean = X @ W[:, j]
                chance = torch.sigmoid(mean) if self.noise == "logistic" else mean.exp()
                draw = torch.bernoulli if self.noise == "logistic" else torch.poisson
                X[:, j] = draw(chance, generator=generator)
            return X
        omega = self._full_omega()
        diagonal = bool((omega == omega.diagonal().diag()).all())
        if not diagonal and self.noise != "normal":
            raise ErlangenError(f"noise = {self.noise!r} needs a diagonal omega; correlated noise is normal here")
        root = omega.diagonal().sqrt().diag() if diagonal else torch.linalg.cholesky(omega)
        return _draw(self.noise, n, d, W.dtype, generator) @ root.mT @ self.effects()

    def intervened(self, what: Intervention) -> LinearSEM:
        """The model after an intervention.

        >>> chain = LinearSEM(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
        >>> chain.intervened(Intervention(rows={1: torch.zeros(2)})).covariance()
        tensor([[1., 0.],
                [0., 1.]])
        """
        weights, omega = self.weights.clone(), self._full_omega().clone()
        d = len(weights)
        for node in what.sites:
            if not 0 <= node < d:
                raise DataError(f"an intervention at node {node}, but nodes are 0 to {d - 1}")
        for node, row in what.rows.items():
            if row.shape != (d,):
                raise ShapeError(
                    f"rows[{node}] has shape {tuple(row.shape)}; give the weights of edges from all {d} nodes"
                )
            weights[:, node] = row.to(weights)
            if bool((row == 0).all()):  # cut off from its causes, hidden ones included
                variance = omega[node, node].clone()
                omega[node], omega[:, node] = 0, 0
                omega[node, node] = variance
        for node, variance in what.variances.items():
            if not (math.isfinite(variance) and variance > 0):
                raise DataError(f"variances[{node}] = {variance}; give a positive number")
            factor = (variance / omega[node, node]).sqrt()
            omega[node] = omega[node] * factor
            omega[:, node] = omega[:, node] * factor
        return replace(self, weights=weights, omega=omega)


def _draw(noise: str, n: int, d: int, dtype: torch.dtype, generator: Generator | None) -> Tensor:
    if noise == "normal":
        return torch.randn(n, d, generator=generator, dtype=dtype)
    uniform = torch.rand(n, d, generator=generator, dtype=torch.float64)
    if noise == "uniform":
        return (2 * uniform - 1).to(dtype)
    exponential = -torch.log1p(-uniform)  # of scale one
    if noise == "exponential":
        return exponential.to(dtype)
    return -torch.log(exponential.clamp(min=torch.finfo(torch.float64).tiny)).to(dtype)


def random_linear_sem(
    graph: Tensor,
    *,
    low: float = 0.5,
    high: float = 2.0,
    omega: Tensor | None = None,
    noise: Noise = "normal",
    generator: Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> LinearSEM:
    """A model on this graph with weights uniform in size from `low` to `high`, and of either sign."""
    check_graph(graph, "graph")
    if not 0 < low <= high:
        raise ErlangenError(f"low = {low}, high = {high}; give 0 < low <= high")
    sizes = low + (high - low) * torch.rand(graph.shape, generator=generator, dtype=torch.float64)
    signs = 2.0 * torch.randint(2, graph.shape, generator=generator) - 1
    return LinearSEM(((graph != 0) * sizes * signs).to(dtype), omega, noise)


@dataclass(frozen=True)
class NonlinearSEM:
    """``X_j = f_j(causes of j) + noise`` on an acyclic graph.

    Attributes:
        graph: ``[d, d]``, bool.
        mechanisms: for each node that has causes, a function of their samples ``[n, k]``, in the order of their names; it
            returns ``[n]`` and may draw from the generator it is given.
        scale: of the normal noise.
    """

    graph: Tensor
    mechanisms: Mapping[int, Callable[[Tensor, Generator | None], Tensor]]
    scale: float = 1.0

    def sample(self, n: int, *, generator: Generator | None = None) -> Tensor:
        """Samples ``[n, d]``, float32."""
        check_integer("n", n, 1)
        X = torch.zeros(n, len(self.graph))
        for j in topological_order(self.graph).tolist():
            causes = self.graph[:, j].nonzero()[:, 0]
            mean = self.mechanisms[j](X[:, causes], generator) if len(causes) else torch.zeros(n)
            X[:, j] = mean + self.scale * torch.randn(n, generator=generator)
        return X


def random_nonlinear_sem(
    graph: Tensor, mechanism: Mechanism = "mlp", *, scale: float = 1.0, generator: Generator | None = None
) -> NonlinearSEM:
    """A model with random mechanisms on this graph.

    "mlp": ``sigmoid(X A) b`` with 100 hidden units, weights of size 0.5 to 2 and either sign. "mim": tanh + cos + sin of three
    linear forms. "gp": a draw from a Gaussian process with a squared exponential kernel of width one, at the sampled points;
    "gp-add": a sum of such draws, one for each cause. As in Zheng et al., Learning sparse nonparametric DAGs (2020).
    """
    check_graph(graph, "graph")
    if mechanism not in get_args(Mechanism):
        raise UnknownNameError(f"mechanism = {mechanism!r}; there are {', '.join(get_args(Mechanism))}")
    if not is_dag(graph):
        raise ErlangenError("graph has a cycle; nonlinear models are sampled along an order")
    made: dict[int, Callable[[Tensor, Generator | None], Tensor]] = {}
    for j in range(len(graph)):
        k = int((graph[:, j] != 0).sum())
        if k:
            made[j] = _mechanism(mechanism, k, generator)
    return NonlinearSEM(graph != 0, made, scale)


def _sizes(*shape: int, generator: Generator | None) -> Tensor:
    signs = 2.0 * torch.randint(2, shape, generator=generator) - 1
    return signs * (0.5 + 1.5 * torch.rand(shape, generator=generator))


def _mechanism(kind: str, k: int, generator: Generator | None) -> Callable[[Tensor, Generator | None], Tensor]:
    if kind == "mlp":
        A, b = _sizes(k, 100, generator=generator), _sizes(100, generator=generator)
        return lambda x, _: torch.sigmoid(x @ A) @ b
    if kind == "mim":
        forms = _sizes(k, 3, generator=generator)

        def mixed(x: Tensor, _: Generator | None) -> Tensor:
            first, second, third = (x @ forms).unbind(-1)
            return first.tanh() + second.cos() + third.sin()

        return mixed
    if kind == "gp":
        return _process
    return lambda x, g: torch.stack([_process(column[:, None], g) for column in x.unbind(-1)]).sum(0)


def _process(x: Tensor, generator: Generator | None) -> Tensor:
    """A draw at the points ``x [n, k]`` from a Gaussian process with the kernel exp(-|x - y|^2 / 2)."""
    points = x.double()
    kernel = torch.exp(-torch.cdist(points, points).square() / 2)
    values, vectors = torch.linalg.eigh(kernel)
    draw = vectors @ (values.clamp(min=0).sqrt() * torch.randn(len(x), generator=generator, dtype=torch.float64))
    return draw.to(x.dtype)

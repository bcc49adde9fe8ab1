"""Features as free variables: solved by L-BFGS in float64, and trained by gradient descent as the authors do."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Generator, Tensor, nn

from erlangen.systems.learning.neural_collapse.method import DeepLinearHead, collapse_objective

Loss = Literal["mse", "cross-entropy"]


class Solution(NamedTuple):
    """Linear layers, features ``[rows, dim]``, their classes and how many samples each row stands for; value of the objective."""

    head: DeepLinearHead
    features: Tensor
    labels: Tensor
    weights: Tensor
    value: float


def solve(
    counts: Sequence[float],
    layers: int,
    *,
    dim: int,
    decay: float,
    feature_decay: float,
    generator: Generator,
    loss: Loss = "mse",
    bias: bool = False,
    starts: int = 3,
    samples: bool = False,
    small: Sequence[int] = (),
    scales: Sequence[float] = (0.6,),
) -> Solution:
    """The lowest stationary point that L-BFGS finds from random starts, as often from each of the scales over sqrt(dim).

    Args:
        counts: samples per class; with one feature for each class they need not be whole.
        samples: one feature for every sample, in place of one for each class.
        small: classes that start close to zero in a further start of each scale, because zero is a valley of its own.
        scales: standard deviations; with several layers and much decay small starts all end at zero.
    """
    n = torch.tensor(counts, dtype=torch.float64)
    labels = torch.arange(len(n))
    labels, weights = (labels.repeat_interleave(n.long()), None) if samples else (labels, n)
    best: Solution | None = None
    for start in range(starts + len(scales) * bool(small)):
        head = DeepLinearHead(dim, len(n), layers, bias=bias).double()
        features = torch.empty(len(labels), dim, dtype=torch.float64)
        for tensor in (features, *head.parameters()):
            nn.init.normal_(tensor, std=scales[start % len(scales)] * dim**-0.5, generator=generator)
        with torch.no_grad():
            if start >= starts:
                features[torch.isin(labels, torch.tensor(small))] *= 1e-6
                head.matrices[-1][list(small)] *= 1e-6
        found = _descend(head, features, labels, weights, loss, decay, feature_decay)
        if best is None or found.value < best.value:
            best = found
    assert best is not None
    return best


def _descend(
    head: DeepLinearHead,
    features: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    loss: Loss,
    decay: float,
    feature_decay: float,
) -> Solution:
    free = [features.requires_grad_(), *head.parameters()]

    def put(flat: NDArray[np.float64]) -> None:
        with torch.no_grad():
            nn.utils.vector_to_parameters(torch.from_numpy(flat), free)

    def value(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        put(flat)
        total = collapse_objective(
            head, features, labels, decay=decay, feature_decay=feature_decay, loss=loss, weights=weights
        )
        slopes = torch.autograd.grad(total, free)
        return total.item(), torch.cat([slope.flatten() for slope in slopes]).numpy()

    begin = nn.utils.parameters_to_vector(free).detach().numpy()
    options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 20, "ftol": 0.0, "gtol": 1e-10, "maxls": 60}
    found = minimize(value, begin, jac=True, method="L-BFGS-B", options=options)
    put(found.x)
    head.requires_grad_(False)
    rows = torch.ones(len(labels), dtype=torch.float64) if weights is None else weights
    return Solution(head, features.detach(), labels, rows, float(found.fun))


def descend_by_momentum(
    counts: Sequence[int],
    layers: int,
    *,
    dim: int,
    steps: int,
    generator: Generator,
    loss: Loss = "mse",
    bias: bool = False,
    decay: float = 5e-4,
    rate: float = 0.1,
) -> tuple[Solution, Solution]:
    """The authors' synthetic training, before and after: every step takes all samples, momentum 0.9, one rate; float32."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    head = DeepLinearHead(dim, len(counts), layers, bias=bias)
    features = nn.Parameter(torch.empty(len(labels), dim))
    for tensor in (features, *head.parameters()):
        nn.init.normal_(tensor, std=0.8 * dim**-0.5, generator=generator)  # the authors' 0.1 at their width 64
    optimizer = torch.optim.SGD([features, *head.parameters()], lr=rate, momentum=0.9)

    def value() -> Tensor:
        return collapse_objective(head, features, labels, decay=decay, feature_decay=decay, loss=loss)

    def now() -> Solution:
        frozen = copy.deepcopy(head).requires_grad_(False)
        return Solution(frozen, features.detach().clone(), labels, torch.ones(len(labels)), value().item())

    begin = now()
    for _ in range(steps):
        optimizer.zero_grad()
        value().backward()
        optimizer.step()
    return begin, now()

"""What GBWBN is compared with: normalisations under other metrics, a residual network, and what happens when training fails."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import MatrixFunctionError, NotFiniteError
from erlangen.geometry.manifolds import AffineInvariant, Deformed, LogCholesky, LogEuclidean, SPDManifold
from erlangen.measure import accuracy
from erlangen.numerics import eigh, sym_exp, sym_invsqrt, sym_log, sym_sqrt
from erlangen.survey import Split, Training
from erlangen.systems.manifolds.spd_gbw_batchnorm._spdnet import SPDNet
from erlangen.systems.manifolds.spd_gbw_batchnorm.method import GBWBatchNorm, LinAlgError, RiemannianSGD

MetricName = Literal["AIM", "LEM", "LCM"]
FAILURES = (NotFiniteError, MatrixFunctionError, LinAlgError)
"""How networks of SPD matrices fail where numbers overflow."""
METRICS: dict[MetricName, type[SPDManifold]] = {"AIM": AffineInvariant, "LEM": LogEuclidean, "LCM": LogCholesky}


class MetricBatchNorm(nn.Module):
    """Batch normalisation under a metric with a group: LieBN (Chen et al. 2024); without scaling SPDNetBN (Brooks et al. 2019).

    Centring is the group's inverse mean, scaling multiplies logarithms by s / sqrt(v + eps), biasing moves by W. Under the
    affine-invariant metric matrices act by congruence with square roots; under the log-Euclidean and the log-Cholesky one
    everything is addition in a chart. Mean (one Karcher step, gradients through it), running statistics, momentum and the start
    of all parameters are those of `GBWBatchNorm`; so is the power, by which LieBN deforms its metrics, too (the log-Euclidean one
    does not change).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        n: int,
        metric: MetricName,
        *,
        scaling: bool = True,
        power: float = 1.0,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.power = power
        self.metric, self.scaling, self.momentum, self.eps = METRICS[metric](), scaling, momentum, eps
        self.bias = nn.Parameter(torch.eye(n))
        self.scale = nn.Parameter(torch.tensor(1.0)) if scaling else None
        self.register_buffer("running_mean", torch.eye(n))
        self.register_buffer("running_var", torch.tensor(1.0))

    def manifold_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The bias is positive definite."""
        return {"spd": [self.bias]}

    @override
    def forward(self, X: Tensor) -> Tensor:
        deformed = Deformed(self.metric, power=self.power)
        together = torch.cat([X.flatten(0, -3), self.bias[None].to(X), self.running_mean[None].to(X)])
        whole = deformed.chart(together)
        Y, bias, running = whole[:-2], whole[-2], whole[-1]
        mean = self.metric.mean(Y, steps=1, check=False).point if self.training else running
        if isinstance(self.metric, AffineInvariant):
            W = sym_invsqrt(mean)
            z = sym_log(W @ Y @ W)
        else:
            z = self._chart(Y) - self._chart(mean)
        variance = z.square().sum((-2, -1)).mean() / self.power**2 if self.training else self.running_var
        if self.training:
            with torch.no_grad():
                self.running_mean.copy_(deformed.unchart(self.metric.geodesic(running, mean, self.momentum)))
                self.running_var.lerp_(variance.detach(), self.momentum)
        if self.scale is not None:
            z = self.scale / (variance + self.eps).sqrt() * z
        if isinstance(self.metric, AffineInvariant):
            R = sym_sqrt(bias)
            out = R @ sym_exp(z) @ R
        else:
            assert isinstance(self.metric, LogEuclidean | LogCholesky)
            out = self.metric.unchart(z + self._chart(bias))
        return deformed.unchart((out + out.mT) / 2).view_as(X)

    def _chart(self, X: Tensor) -> Tensor:
        assert isinstance(self.metric, LogEuclidean | LogCholesky)
        return self.metric.chart(X)


class Residual(nn.Module):
    """A block of a Riemannian residual network: exp_x of a vector field that convolutions make of the eigenvalues.

    ``v = Q diag(f) Q^T`` with a learned orthogonal Q and f of three convolutions over the ordered eigenvalues, divided by its
    affine-invariant length at x; eigenvalues are kept within 1e-8 and 1e8.
    """

    def __init__(self, m: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, 3, 5, padding="same"),
            nn.LeakyReLU(),
            nn.BatchNorm1d(3),
            nn.Conv1d(3, 3, 5, padding="same"),
            nn.LeakyReLU(),
            nn.BatchNorm1d(3),
            nn.Conv1d(3, 1, 5, padding="same"),
        )
        self.turn = nn.Parameter(torch.linalg.qr(torch.randn(m, m))[0].contiguous())
        self.metric = AffineInvariant()

    def manifold_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Q is orthogonal."""
        return {"stiefel": [self.turn]}

    @override
    def forward(self, X: Tensor) -> Tensor:
        x = X.flatten(0, -3)
        field = self.body(eigh(x).values[:, None])[:, 0]
        v = (self.turn * field[:, None]) @ self.turn.mT
        v = v / (self.metric.norm(x, v) + 1e-12)[:, None, None]
        values, vectors, _ = eigh(self.metric.exp(x, v))
        return ((vectors * values.clamp(1e-8, 1e8)[:, None]) @ vectors.mT).view_as(X)


class Diverged(nn.Module):
    """What is left of a network whose training failed: the same answer to everything."""

    def __init__(self, classes: int, parameters: int) -> None:
        super().__init__()
        self.classes = classes
        self.lost = nn.Parameter(torch.zeros(parameters))

    @override
    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), self.classes, dtype=torch.float64, device=x.device)
        logits[:, 0] = 1
        return logits


def trained(model: nn.Module, split: Split, rate: float, training: Training, generator: Generator) -> nn.Module | None:
    """Train with `RiemannianSGD`; a matrix that is no longer positive definite, and NaN, are a result: `Diverged`."""

    def optimizer(parameters: object, /, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return RiemannianSGD.of(model, lr=lr, weight_decay=weight_decay)

    try:
        replace(training, optimizer=optimizer).fit(model, split, rate, generator)
    except FAILURES:
        assert isinstance(model, SPDNet)
        head = model.rest[-1]
        assert isinstance(head, nn.Linear)
        return Diverged(head.out_features, sum(p.numel() for p in model.parameters()))
    return None


@dataclass
class WithPowers:
    """`trained` with each of some powers of the metric in turn; the one that does best on validation data counts.

    As rates are chosen on the first seed for all, so are powers: what was chosen with a rate stays with it.

    Attributes:
        powers: that are tried; of equals the first.
        chosen: power by rate.
    """

    powers: tuple[float, ...] = (1.0, 0.5, 0.25)
    chosen: dict[float, float] = field(default_factory=dict[float, float])

    def __call__(
        self, model: nn.Module, split: Split, rate: float, training: Training, generator: Generator
    ) -> nn.Module:
        """The network that counts; every one starts with the same weights."""
        found: dict[float, nn.Module] = {}
        for power in (self.chosen[rate],) if rate in self.chosen else self.powers:
            other = copy.deepcopy(model)
            assert isinstance(other, SPDNet)
            assert isinstance(other.norm, GBWBatchNorm | MetricBatchNorm)
            other.norm.power = power
            found[power] = trained(other, split, rate, training, generator) or other
        if rate not in self.chosen:
            self.chosen[rate] = max(found, key=lambda power: right_answers(found[power], *split.validation)[0])
        return found[self.chosen[rate]]


@torch.no_grad()
def right_answers(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, bool]:
    """Accuracy in percent, and whether the network has failed: in training, or on these data."""
    try:
        return accuracy(model, x, y), isinstance(model, Diverged)
    except FAILURES:  # statistics of the training data may lead to overflow on others
        return accuracy(Diverged(int(y.max()) + 1, 0), x, y), True


def with_residual(norm: Callable[[int], nn.Module] | None) -> Callable[[int], nn.Module]:
    """A normalisation, or none, and a residual block after it."""
    return lambda m: nn.Sequential(*([] if norm is None else [norm(m)]), Residual(m))

"""How reductions are fitted: networks by one loop for all statistics, closed forms; and what is measured of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import relu
from typing_extensions import override

from erlangen.errors import ErlangenError, NotFiniteError
from erlangen.measure import distance_correlation
from erlangen.survey import Split, Training
from erlangen.systems.manifolds.fccov_net.data import Space
from erlangen.systems.manifolds.fccov_net.method import (
    ReductionNet,
    centred,
    fccov_kernel,
    quadratic,
    spectral_reduction,
    top,
    whitening_penalty,
)
from erlangen.systems.manifolds.fccov_net.rivals import scaling

PENALTIES = (1.0, 0.1, 10.0)
"""That are tried with every rate; the first is the one of the fixed setting."""

NEIGHBOURS = 10
"""Whose responses choose steps, rates, penalties and ridges."""

TRIED = (3, 5, 10, 20, 40)
"""Numbers of neighbours that are tried for regression."""

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
SCALED_ON = 500
"""Samples by which a statistic is scaled, at most."""

Kernel = Callable[[Tensor], Tensor]
"""From distances of responses to a matrix K."""


class Reduction(nn.Module):
    """A reduction, and the training data among which neighbours are looked for.

    Attributes:
        embed: the map.
        k: neighbours for regression.
        penalty: with which it was trained.
    """

    def __init__(self, embed: nn.Module, space: Space) -> None:
        super().__init__()
        self.embed, self.space, self.k = embed, space, NEIGHBOURS
        self.penalty: float | None = None
        self.known, self.responses = torch.empty(0), torch.empty(0)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)

    @torch.no_grad()
    def remember(self, split: Split) -> None:
        """Keep the training data, and choose the number of neighbours on validation data."""
        (x, y), (x_val, y_val) = split.train, split.validation
        self.known, self.responses = self.embed(x), y["y"]
        tried = [k for k in TRIED if k <= len(x)]
        f = self.embed(x_val)
        self.k = min(tried, key=lambda k: float(self.errors(f, y_val["y"], k).median()))

    def neighbours(self, f: Tensor, k: int) -> Tensor:
        """Indices of the nearest training points ``[N, k]``."""
        return torch.cdist(f, self.known).topk(k, largest=False).indices

    def errors(self, f: Tensor, y: Tensor, k: int) -> Tensor:
        """Squared distances ``[N]`` of responses from the means of those of k neighbours."""
        guess = self.space.mean(self.responses[self.neighbours(f, k)])
        return self.space.between(guess, y).diagonal().square()


def nearness(f: Tensor, known: Tensor, D: Tensor) -> float:
    """Median distance of responses from those of ten neighbours, ``D [N, M]``: outliers count for one each, however far."""
    nearest = torch.cdist(f, known).topk(min(NEIGHBOURS, len(known)), largest=False).indices
    return float(D.gather(1, nearest).median())


NEAR = "median distance of ten neighbours' responses"
CORRELATION = "distance correlation with the index"


@torch.no_grad()
def measure(model: Reduction, x: Tensor, y: dict[str, Tensor], generator: Generator) -> dict[str, Any]:
    """What a reduction does on data."""
    f = model(x)
    D = model.space.between(y["y"], model.responses)
    own = model.space.between(y["y"], y["y"])
    return {
        CORRELATION: distance_correlation(f, y["index"]),
        "canonical correlation": canonical_correlation(f, y["index"]),
        NEAR: nearness(f, model.known, D),
        "k-NN error": float(model.errors(f, y["y"], model.k).mean()),
        "k": model.k,
        "penalty": model.penalty,
        "FCCov": float(quadratic(f.double(), fccov_kernel(own.double()))),
    }


@torch.no_grad()
def measure_nearness(model: Reduction, x: Tensor, y: dict[str, Tensor], generator: Generator) -> dict[str, Any]:
    """What chooses rates."""
    return {NEAR: nearness(model(x), model.known, model.space.between(y["y"], model.responses))}


def canonical_correlation(f: Tensor, g: Tensor) -> float:
    """Mean of the canonical correlations of two samples, as many as the smaller has coordinates."""
    Q = [torch.linalg.qr((x - x.mean(0)).double()).Q for x in (f, g)]
    return float(torch.linalg.svdvals(Q[0].mT @ Q[1]).clamp(max=1).mean())


# --- networks --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Statistic:
    """What a network maximises.

    Attributes:
        kernel: from distances to K.
        value: of f and K.
    """

    kernel: Kernel
    value: Callable[[Tensor, Tensor], Tensor] = quadratic


class Penalised(Protocol):
    """The training of a network with a penalty."""

    def __call__(
        self, model: Reduction, split: Split, rate: float, training: Training, generator: Generator, penalty: float, /
    ) -> Reduction:
        """The trained network."""
        ...


@dataclass
class WithPenalties:
    """A training with each of `PENALTIES` in turn; the one that does best on validation data counts.

    As rates are chosen on the first seed for all, so are penalties: what was chosen with a rate stays with it.

    Attributes:
        way: the training.
        chosen: penalty by rate.
    """

    way: Penalised
    chosen: dict[float, float] = field(default_factory=dict[float, float])

    def __call__(
        self, model: Reduction, split: Split, rate: float, training: Training, generator: Generator
    ) -> Reduction:
        """The network that counts; every one starts with the same weights."""
        found: dict[float, Reduction] = {}
        failures: list[NotFiniteError] = []
        for penalty in (self.chosen[rate],) if rate in self.chosen else PENALTIES:
            own = Generator().manual_seed(generator.initial_seed())
            try:
                found[penalty] = self.way(copy.deepcopy(model), split, rate, training, own, penalty)
            except NotFiniteError as error:  # loses against the others, and says so if all fail
                failures.append(error)
        if not found:
            raise failures[0]
        scores = {penalty: measure_nearness(one, *split.validation, generator)[NEAR] for penalty, one in found.items()}
        best = self.chosen[rate] = min(scores, key=lambda penalty: scores[penalty])
        found[best].penalty = best
        return found[best]


def fit_net(statistic: Statistic) -> Penalised:
    """The training of a network by a statistic and the whitening penalty; steps are those that validation data prefer."""

    def fit(
        model: Reduction, split: Split, rate: float, training: Training, generator: Generator, penalty: float, /
    ) -> Reduction:
        (x, y), space = split.train, model.space
        D = space.between(y["y"], y["y"]).double()
        few = D[:SCALED_ON, :SCALED_ON]
        K_few = centred(statistic.kernel(few))
        factor = top(K_few)
        batch = min(training.batch, len(x))
        whole = centred(statistic.kernel(D)).float() / factor if batch == len(x) else None

        def loss(rows: Tensor) -> Tensor:
            f = model.embed(x[rows])
            K = whole if whole is not None else centred(statistic.kernel(D[rows][:, rows])).float() / factor
            return penalty * whitening_penalty(f) - statistic.value(f, K)

        _descend(model, model.embed, split, rate, training, generator, loss, whole is not None)
        _whiten(model, x, K_few if whole is None else whole)
        model.remember(split)
        return model

    return fit


def _whiten(model: Reduction, x: Tensor, K: Tensor) -> None:
    net = model.embed
    assert isinstance(net, ReductionNet)
    net.eval()
    try:
        net.whiten(x[: len(K)], K.float())
    except ErlangenError as error:  # with this rate nothing was learned; another one may do
        raise NotFiniteError(f"there is no inverse of the covariance of f: {error}") from error


def fit_bottleneck(
    model: Reduction, split: Split, rate: float, training: Training, generator: Generator, penalty: float, /
) -> Reduction:
    """Regression through q units on coordinates whose distances are near those of the responses, with the same penalty."""
    x, y = split.train
    D = model.space.between(y["y"], y["y"]).double()
    target = scaling(D, min(10, len(D) - 1)).float()
    target = target / target.square().sum(1).mean().sqrt()
    net = model.embed
    assert isinstance(net, ReductionNet)
    head = nn.Sequential(nn.Linear(len(net.shift), 64), nn.ReLU(), nn.Linear(64, target.shape[1]))
    both = nn.ModuleList([net, head])

    def loss(rows: Tensor) -> Tensor:
        f = net(x[rows])
        return penalty * whitening_penalty(f) + (head(f) - target[rows]).square().sum(1).mean()

    _descend(model, both, split, rate, training, generator, loss, min(training.batch, len(x)) == len(x))
    few = min(SCALED_ON, len(x))
    _whiten(model, x, centred(fccov_kernel(D[:few, :few])))
    model.remember(split)
    return model


def _descend(
    model: Reduction,
    trained: nn.Module,
    split: Split,
    rate: float,
    training: Training,
    generator: Generator,
    loss: Callable[[Tensor], Tensor],
    full: bool,
) -> None:
    """Epochs of a training, whose weights are those of the tenth that does best on validation data."""
    (x, y), (x_val, y_val) = split.train, split.validation
    n, batch = len(x), min(training.batch, len(x))
    apart = model.space.between(y_val["y"], y["y"])
    optimizer = training.optimizer(trained.parameters(), lr=rate, weight_decay=training.decay)
    best: tuple[float, dict[str, Tensor]] | None = None
    every = max(1, training.epochs // 10)
    for epoch in range(training.epochs):
        trained.train()
        order = torch.arange(n) if full else torch.randperm(n, generator=generator)
        for rows in order.split(batch):
            if len(rows) < batch:
                continue  # a small batch has a large bias
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
        if (epoch + 1) % every == 0 or epoch + 1 == training.epochs:
            trained.eval()
            with torch.no_grad():
                f, f_val = model.embed(x), model.embed(x_val)
            f, f_val = (f - f.mean(0)) / f.std(0).clamp(min=1e-6), (f_val - f.mean(0)) / f.std(0).clamp(min=1e-6)
            score = nearness(f_val, f, apart) if bool(torch.isfinite(f).all()) else float("inf")
            if best is None or score < best[0]:
                best = score, {name: value.detach().clone() for name, value in model.embed.state_dict().items()}
    if best is None or best[0] == float("inf"):
        raise NotFiniteError(f"rate = {rate}: f is not finite; take a smaller one")
    model.embed.load_state_dict(best[1])


class Residual(nn.Module):
    """A residual block of two convolutions, by strides of two."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.short = nn.Conv2d(inputs, outputs, 1, stride=2)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return relu(self.second(relu(self.first(x))) + self.short(x))


def picture_net(outputs: int) -> nn.Module:
    """A small network of the ResNet kind for 28 x 28 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        Residual(8, 16),
        Residual(16, 32),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, outputs),
    )


# --- closed forms ----------------------------------------------------------------------------------------------------
class Features(nn.Module):
    """Linear combinations of features: of the inputs, or of a Gaussian kernel's."""

    def __init__(self) -> None:
        super().__init__()
        self.map: Callable[[Tensor], Tensor] = lambda x: x
        self.matrix = torch.empty(0)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return (self.map(x) @ self.matrix).float()


def _gaussian_features(x: Tensor, most: int = 150) -> Callable[[Tensor], Tensor]:
    """Coordinates along the first principal components in the space of a Gaussian kernel of median width."""
    x = x.double()
    width = torch.cdist(x, x).median()

    def gram(a: Tensor) -> Tensor:
        return torch.exp(-((torch.cdist(a.double(), x) / width) ** 2) / 2)

    G = gram(x)
    mean = G.mean(0)
    values, vectors = torch.linalg.eigh(centred(G))
    kept = values > 1e-8 * values[-1]
    kept[: max(0, len(x) - most)] = False
    basis = vectors[:, kept] / values[kept].sqrt()

    def features(a: Tensor) -> Tensor:
        g = gram(a)
        return (g - g.mean(1, keepdim=True) - mean + mean.mean()) @ basis

    return features


def solve(kernel: Kernel, outputs: int, *, gaussian: bool) -> Callable[[Any, Split], None]:
    """A reduction in closed form; the ridge of one by a Gaussian kernel is the best of `RIDGES` on validation data."""

    def prepare(model: Reduction, split: Split) -> None:
        (x, y), (x_val, y_val) = split.train, split.validation
        embed, space = model.embed, model.space
        assert isinstance(embed, Features)
        K = centred(kernel(space.between(y["y"], y["y"]).double()))
        embed.map = _gaussian_features(x) if gaussian else lambda a: a.double()
        Z, D_val = embed.map(x), space.between(y_val["y"], y["y"])
        best: tuple[float, Tensor] | None = None
        for ridge in RIDGES if gaussian else (1e-8,):
            embed.matrix = spectral_reduction(Z, K, outputs, ridge=ridge).matrix
            embed.matrix = embed.matrix / embed(x).double().std(
                0
            )  # a ridge shrinks; neighbours count coordinates alike
            score = nearness(embed(x_val), embed(x), D_val)
            if best is None or score < best[0]:
                best = score, embed.matrix
        assert best is not None
        embed.matrix = best[1]
        model.remember(split)

    return prepare


def principal_components(outputs: int) -> Callable[[Any, Split], None]:
    """The first principal components of the inputs, which do not look at responses."""

    def prepare(model: Reduction, split: Split) -> None:
        x = split.train[0].double()
        vectors = torch.linalg.eigh((x - x.mean(0)).T.cov()).eigenvectors
        embed = model.embed
        assert isinstance(embed, Features)
        embed.map = lambda a: a.double()
        embed.matrix = vectors[:, -outputs:].flip(1)
        embed.matrix = embed.matrix / embed(split.train[0]).double().std(0)
        model.remember(split)

    return prepare

"""What is compared: federated methods on what clients have, on copies of it, and on rows drawn in several ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.errors import NotFiniteError
from erlangen.learn import federated_average
from erlangen.measure import accuracy
from erlangen.survey import Rival, Split, Training
from erlangen.systems.learning.ggeur._clients import METHODS, FedAvg
from erlangen.systems.learning.ggeur.method import aggregate, collect, fill, fill_across_domains, shapes

Rows = list[tuple[Tensor, Tensor]]
"""Features and labels of every client."""

Fill = Callable[[Rows, int, Generator], Rows]
"""``fill(rows, classes, generator)``: what the clients train on."""


class Head(nn.Linear):
    """A linear classifier of embeddings ``{"z": [B, d], ...}``, or of plain ones.

    Attributes:
        best_round: the best accuracy on test data that a round of averaging has reached.
    """

    best_round: float = 0.0

    def forward(self, x: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Logits."""
        return super().forward(x["z"] if isinstance(x, dict) else x)


# --- what clients train on -------------------------------------------------------------------------------------------
def as_they_are(rows: Rows, classes: int, generator: Generator) -> Rows:
    """Nothing is added."""
    return rows


def pooled(rows: Rows, classes: int, generator: Generator) -> Rows:
    """All rows at one client: what no federated method can pass, but for luck."""
    return [(torch.cat([z for z, _ in rows]), torch.cat([y for _, y in rows]))]


def filled(how: str, target: int, rows: Rows, classes: int, generator: Generator) -> Rows:
    """Every class of every client filled up: copies, isotropic noise of equal trace, the own covariance, the global one."""
    parts = collect(rows, classes)
    total = shapes(aggregate(parts)).float()
    made: Rows = []
    for (z, y), part in zip(rows, parts, strict=True):
        factors = {
            "copies": lambda: torch.zeros_like(total[..., :1]),
            "isotropic": lambda: round_shape(total),
            "own covariance": lambda part=part: shapes(part).float(),
            "GGEUR": lambda: total,
        }[how]()
        made.append(fill(z, y, factors, target, generator=generator))
    return made


def filled_across(how: str, target: int, rows: Rows, classes: int, generator: Generator) -> Rows:
    """Clients are domains: rows around their own, and for GGEUR around the class means of the others."""
    parts = collect(rows, classes)
    total = shapes(aggregate(parts, share=1)).float()
    means = torch.stack([torch.where(part.counts[:, None] > 0, part.means, torch.nan) for part in parts]).float()
    made: Rows = []
    for number, (z, y) in enumerate(rows):
        others = means[[other for other in range(len(rows)) if other != number]]
        if how == "GGEUR":
            made.append(fill_across_domains(z, y, total, others, target, own=target, each=target, generator=generator))
        else:
            made.append(fill(z, y, torch.zeros_like(total[..., :1]), target, generator=generator))
    return made


def round_shape(factors: Tensor) -> Tensor:
    """Spheres of the same trace ``[K, d, d]``."""
    d = factors.shape[1]
    return torch.eye(d).expand(len(factors), d, d) * (factors.square().sum((1, 2)) / d).sqrt()[:, None, None]


# --- training --------------------------------------------------------------------------------------------------------
def federated(make: Callable[[], Head], prepare: Fill, steps: int, method: type[FedAvg] = FedAvg) -> Rival:
    """A federated method for a linear head, so many local steps per round and client.

    All arms take the same number of steps: a client with more rows goes through them fewer times, and central training takes
    those of all clients.
    """

    def fit(model: Head, split: Split, rate: float, training: Training, generator: Generator) -> None:
        x, y = split.train
        clients = int(x["client"].max()) + 1
        rows = [(x["z"][x["client"] == c], y[x["client"] == c]) for c in range(clients)]
        seed = generator.initial_seed()
        rows = prepare(rows, model.out_features, Generator().manual_seed(seed))
        rows = [(z, names) for z, names in rows if len(z)]  # a client without rows takes no part
        each = steps * clients if prepare is pooled else steps  # one model for all takes the steps of all
        best, local = [0.0], method()

        def train(net: nn.Module, client: int, step: int) -> float:
            local.begin(net, client, step)
            local_steps(net, *rows[client], each, training.batch, rate, seed + 1000 * step + client, local)
            local.end(net, each, rate)
            return 1.0

        def evaluate(net: nn.Module, step: int) -> dict[str, float]:
            best[0] = max(best[0], accuracy(net, *split.test))
            return {}

        federated_average(model, train, clients=len(rows), rounds=training.epochs, weights="uniform", evaluate=evaluate)
        model.best_round = best[0]

    return Rival(make, fit=fit, rates=method.rates)


def local_steps(
    net: nn.Module, z: Tensor, y: Tensor, steps: int, batch: int, rate: float, seed: int, local: FedAvg
) -> None:
    """Steps of a new optimiser on batches of shuffled rows."""
    optimizer = local.optimizer(net.parameters(), lr=rate)  # pyright: ignore[reportCallIssue]
    g = Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(z), generator=g) for _ in range(-(-steps * batch // len(z)))])
    for piece in order[: steps * batch].split(batch):
        logits = net(z[piece])
        loss = cross_entropy(logits, y[piece]) + local.penalty(net, z[piece], y[piece], logits)
        if not bool(loss.isfinite()):
            raise NotFiniteError(f"the loss is {float(loss.detach())} at the rate {rate:g}; take a smaller one")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


Arms = dict[str, tuple[Fill, type[FedAvg]]]
"""What clients train on, and by which method."""


def label_arms(target: int, methods: Sequence[str] = tuple(METHODS)) -> Arms:
    """The arms with label skew."""
    ways = {how: partial(filled, how, target) for how in ("copies", "isotropic", "own covariance", "GGEUR")}
    return _arms(ways, methods)


def domain_arms(target: int) -> Arms:
    """Those with domain skew."""
    return _arms({how: partial(filled_across, how, target) for how in ("copies", "GGEUR")}, tuple(METHODS))


def _arms(ways: dict[str, Fill], methods: Sequence[str]) -> Arms:
    """Federated averaging with all ways of filling, the other methods with and without GGEUR, central training."""
    arms: Arms = {}
    for name in methods:
        arms[name] = as_they_are, METHODS[name]
        arms |= {
            f"{name} + {how}": (way, METHODS[name]) for how, way in ways.items() if name == "FedAvg" or how == "GGEUR"
        }
    return arms | {"centralised": (pooled, FedAvg)}

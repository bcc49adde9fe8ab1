"""What the parts of `nero` share: seeds, training with a small sweep of learning rates, rank correlation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from erlangen.actions import Tree
from erlangen.errors import DataError
from erlangen.measure import AuditReport, spearman
from erlangen.training import fit

Row = dict[str, Any]

RATES = (1e-3, 4e-3)
"""Learning rates of the sweep."""


def rng(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Task:
    """Data and loss of one training, and how a model is judged on validation data; higher scores are better."""

    x: Tree
    y: Tree
    loss: Callable[[Any, Any], Tensor]
    score: Callable[[nn.Module], float]
    epochs: int
    transform: Callable[..., Any] | None = None


def train(build: Callable[[], nn.Module], task: Task, rate: float, seed: int, epochs: int | None = None) -> nn.Module:
    """A trained model in eval mode: AdamW, batches of 64, the rate down along half a cosine."""
    torch.manual_seed(seed)
    model, epochs = build(), epochs or task.epochs
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4)

    def anneal(done: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * done / epochs)) / 2

    fit(
        model,
        task.x,
        task.y,
        loss=task.loss,
        epochs=epochs,
        batch_size=64,
        optimizer=lambda _: optimizer,
        transform=task.transform,
        clip=1.0,
        callbacks=[lambda epoch, _model, _row: anneal(epoch + 1)],
        seed=seed,
        progress=False,
    )
    return model.eval()


def tuned(build: Callable[[], nn.Module], task: Task, seed: int, tune: bool) -> float:
    """The rate of the best validation score after half of the epochs; the first one where nothing is tuned."""
    if not tune:
        return RATES[-1]
    return max(RATES, key=lambda rate: task.score(train(build, task, rate, seed, max(task.epochs // 2, 1))))


def parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def scores_of(report: AuditReport) -> Tensor:
    """Scores against labels ``[K, B]``; `DataError` for an audit without labels."""
    if report.scores is None:
        raise DataError("the report has no scores against labels; pass y to the audit")
    return report.scores


def agreement(report: AuditReport) -> float:
    """Spearman's correlation between the samples' mean scores along their orbits against consensus and against labels."""
    return spearman(report.consensus.mean(0), scores_of(report).mean(0))


def spread(curve: Tensor | Sequence[float]) -> float:
    """Standard deviation of a curve over its orbit."""
    return float(torch.as_tensor(curve, dtype=torch.float64).std(correction=0))

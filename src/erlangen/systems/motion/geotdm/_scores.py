"""Scores of generated trajectories: histograms, a classifier that tells them from data, a forecaster that learns from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen.nn import mlp
from erlangen.systems.motion.geotdm.data import Motion, with_targets
from erlangen.training import fit, one_cycle

Row = dict[str, Any]
BINS = 24
QUANTITIES = ("pair distances", "steps")
"""Distances between particles of a frame, and how far particles move from frame to frame."""
CLASSIFIER_EPOCHS = 30
FORECASTER_EPOCHS = 8


class Judge(nn.Module):
    """A logit for each trajectory ``[B, T, N, 3]``, from lengths and turns of all steps, and distances, of each particle.

    Its features know no direction: what differs between data and generated trajectories beside how they lie.
    """

    def __init__(self, frames: int, features: int = 32) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3 * frames - 3)
        self.each = mlp([3 * frames - 3, features, features], last=True)
        self.all = mlp([features, features, 1])

    def forward(self, pos: Tensor) -> Tensor:
        """Logits ``[B]``."""
        steps = pos.diff(dim=1)
        turns = (steps[:, 1:] * steps[:, :-1]).sum(-1)
        apart = (pos[:, :, :, None] - pos[:, :, None]).norm(dim=-1).mean(-1)
        seen = torch.cat([steps.norm(dim=-1), turns, apart], 1).transpose(1, 2)
        return self.all(self.each(self.norm(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])).mean(1))[:, 0]


def classification_score(drawn: Tensor, real: Tensor, seed: int) -> Row:
    """Cross-entropy in nats and accuracy of a classifier on trajectories that it has not seen; chance is 0.69 and one half.

    It is trained on the first half of both sets, whose sizes are equal, and tested on the others. What it is surest of it
    is often wrong about, so logits are shrunk by the factor, of a few, that is best for the test: cross-entropies are those
    of a calibrated classifier, and at most chance.
    """
    half = len(real) // 2
    x, y = torch.cat([drawn[:half], real[:half]]), torch.cat([torch.zeros(half), torch.ones(half)])
    torch.manual_seed(seed)
    judge = Judge(real.shape[1])
    fit(
        judge,
        x,
        y,
        loss=F.binary_cross_entropy_with_logits,
        epochs=CLASSIFIER_EPOCHS,
        batch_size=max(2, half // 5),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=1e-2, fused=True),
        schedule=one_cycle,
        seed=seed,
        progress=False,
    )
    judge.eval()
    rest = len(real) - half
    with torch.no_grad():
        logits = judge(torch.cat([drawn[half : half + rest], real[half:]]))
    truth = torch.cat([torch.zeros(rest), torch.ones(rest)])
    losses = [float(F.binary_cross_entropy_with_logits(scale * logits, truth)) for scale in torch.linspace(0, 1, 21)]
    return {
        "classifier's cross-entropy": min(losses),
        "classifier's accuracy": float(((logits > 0) == (truth > 0)).double().mean()),
    }


def displacement(answer: Tensor, y: Motion) -> Tensor:
    """Mean distance of positions ``[B, T, N, n]`` of the particles that exist, ``[B, N]``.

    Of several answers ``[B, K, T, N, n]`` the best of each particle counts.
    """
    weight = y["exist"].to(answer.dtype)
    if answer.dim() == 5:
        away = (answer - y["pos"][:, None]).norm(dim=-1).mean(2).amin(1)
    else:
        away = (answer - y["pos"]).norm(dim=-1).mean(1)
    return (away * weight).sum() / weight.sum()


def forecaster_error(make: Callable[[], nn.Module], pos: Tensor, test: Tensor, given: int, seed: int) -> float:
    """Displacement error on test trajectories of a forecaster that is trained on others, all ``[B, T, N, 3]``."""
    torch.manual_seed(seed)
    model = make()
    x, y = with_targets({"past": pos[:, :given], "pos": pos[:, given:]})
    fit(
        model,
        x,
        y,
        loss=displacement,
        epochs=FORECASTER_EPOCHS,
        batch_size=20,
        lr=4e-3,
        schedule=one_cycle,
        clip=1.0,
        seed=seed,
        progress=False,
    )
    x, y = with_targets({"past": test[:, :given], "pos": test[:, given:]})
    with torch.no_grad():
        return float(displacement(model(x), y))


# --- histograms ------------------------------------------------------------------------------------------------------
def quantities(pos: Tensor) -> dict[str, Tensor]:
    """The numbers whose histograms are compared, of trajectories ``[B, T, N, 3]``."""
    first, second = torch.triu_indices(pos.shape[2], pos.shape[2], offset=1)
    apart = (pos[:, :, first] - pos[:, :, second]).norm(dim=-1)
    return {"pair distances": apart.flatten(), "steps": pos.diff(dim=1).norm(dim=-1).flatten()}


def histogram(values: Tensor, edges: Tensor) -> Tensor:
    """Shares of values between the edges; the last bin takes all above."""
    bins = torch.bucketize(values.clamp(max=float(edges[-1])), edges[1:-1])
    return torch.bincount(bins, minlength=len(edges) - 1).double() / len(values)


def histograms(sets: dict[str, Tensor], real: Tensor) -> dict[str, tuple[Tensor, dict[str, Tensor]]]:
    """For every quantity the edges, which reach to the 99.5th percentile of real data, and the histogram of each set."""
    found: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
    for name, values in quantities(real).items():
        edges = torch.linspace(0, float(values.double().quantile(0.995)), BINS + 1)
        shares = {key: histogram(quantities(pos)[name], edges) for key, pos in sets.items()}
        found[name] = edges, shares | {"data": histogram(values, edges)}
    return found


def marginal_scores(sets: dict[str, Tensor], real: Tensor) -> dict[str, Row]:
    """Total variation distance between histograms of each set and of real data, and the mean over quantities."""
    rows: dict[str, Row] = {key: {} for key in sets}
    for name, (_, shares) in histograms(sets, real).items():
        for key in sets:
            rows[key][name] = 0.5 * float((shares[key] - shares["data"]).abs().sum())
    return {key: row | {"marginal score": sum(row.values()) / len(row)} for key, row in rows.items()}


def histogram_rows(sets: dict[str, Tensor], real: Tensor) -> list[Row]:
    """Shares of all bins of all quantities."""
    return [
        {"part": "histograms", "model": name, "value": float(edges[k] + edges[k + 1]) / 2}
        | {key: float(share[k]) for key, share in shares.items()}
        for name, (edges, shares) in histograms(sets, real).items()
        for k in range(BINS)
    ]

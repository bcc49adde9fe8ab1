"""Scores of generated trajectories: whether a classifier tells them from data, and whether a forecaster learns from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen.nn import mlp
from erlangen.systems.motion._geotdm_training import GIVEN, Regression, Row, Size, trained_module
from erlangen.training import fit, one_cycle

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


def forecaster_error(pos: Tensor, test: Tensor, size: Size, seed: int) -> float:
    """Displacement error on test trajectories of a small `Regression` that is trained on others, all ``[B, T, N, 3]``."""
    torch.manual_seed(seed)
    model = Regression({"past": pos[:, :GIVEN], "pos": pos[:, GIVEN:]}, size)
    x = {"past": pos[:, :GIVEN], "pos": pos[:, GIVEN:]}
    trained_module(model, x, size.batch, size.rates[-1], FORECASTER_EPOCHS, seed)
    with torch.no_grad():
        answer = model({"past": test[:, :GIVEN], "pos": test[:, GIVEN:]})
    return float((answer - test[:, GIVEN:]).norm(dim=-1).mean())


def learned_scores(sets: dict[str, Tensor], train: Tensor, test: Tensor, size: Size, seed: int) -> dict[str, Row]:
    """Both scores of every set of as many trajectories as `test` has.

    The prediction score is the error of a forecaster that is trained on the set, over that of one trained on as many
    trajectories of the training data, the last of them, both on test data.
    """
    real = forecaster_error(train[-len(test) :], test, size, seed)
    return {
        name: classification_score(drawn, test, seed)
        | {"prediction score": forecaster_error(drawn, test, size, seed) / real}
        for name, drawn in sets.items()
    }

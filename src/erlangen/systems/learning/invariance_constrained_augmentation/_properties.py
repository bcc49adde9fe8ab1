"""Properties: the sampler's law, convex problems whose answer is known, conditions that hold from the start."""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.stats import chisquare
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.groups import Cyclic, Dihedral, Group
from erlangen.soft import augment, metropolis
from erlangen.survey import Run, Sizes, bound, exact
from erlangen.systems.learning.invariance_constrained_augmentation.data import FAMILIES, WORLDS, sets
from erlangen.systems.learning.invariance_constrained_augmentation.rivals import (
    CHAIN,
    Classifier,
    each_loss,
    law_of_chains,
)
from erlangen.training import fit


def law_of_the_ends(group: Group, chains: int, seed: int, steps: int, of_chains: bool) -> float:
    """p-value of the ends of chains against the law of such chains, or against the law proportional to a fixed loss."""
    generator = Generator().manual_seed(seed)
    g = group.sample((steps, chains), generator=generator)
    loss = torch.rand(int(group.order), generator=generator, dtype=torch.float64) + 0.05
    ends = g.gather(0, metropolis(loss[g], generator)[None])[0]
    counts = torch.bincount(ends, minlength=len(loss)).double()
    law = law_of_chains(loss, steps) if of_chains else loss / loss.sum()
    return float(chisquare(counts.numpy(), (chains * law).numpy()).pvalue)


def excess(chains: int, seed: int) -> float:
    """Error of ``E_lambda[l] - E_pi[l] = Var_pi(l) / E_pi[l]`` for ``l = 1 + cos``, in standard errors."""
    generator = Generator().manual_seed(seed)
    loss = 1 + torch.cos(2 * math.pi * torch.rand(60, chains, generator=generator, dtype=torch.float64))
    ends = loss.gather(0, metropolis(loss, generator)[None])[0]
    return float((ends.mean() - 1.5).abs() / (ends.std() / math.sqrt(chains)))


class _Line(nn.Module):
    """``w x``."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


def convex_errors(limit: float) -> tuple[float, float]:
    """Errors of w and of the multiplier for min (w - 1)^2 with (w + 1)^2 <= limit: w = sqrt(limit) - 1."""

    def negative(x: Tensor, y: Tensor, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        return -x, y

    def squared(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().sum(1)

    model, x = _Line(), torch.ones(2, 1, dtype=torch.float64)
    bound = augment(negative, policy="constrained", model=model, loss=squared, limit=limit, tries=1, dual_lr=0.02)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(1200):
        optimizer.zero_grad()
        bound.objective(model, x, x).backward()
        optimizer.step()
    root = math.sqrt(limit)
    price = (2 - root) / root
    return abs(float(model.w.detach()) - (root - 1)), abs(float(bound.multipliers) - price) / price


def worst_law(run: Run[Any], steps: int, of_chains: bool) -> float:
    """The smaller p-value of two groups."""
    groups = (Cyclic(8), Dihedral(4))
    return min(law_of_the_ends(g, run.budget.chains, run.seed + k, steps, of_chains) for k, g in enumerate(groups))


@bound(at_least=0.01)
def sampler_law(run: Run[Any]) -> float:
    """p-value of the ends of chains of 50 steps on C_8 and D_4 against the law proportional to the loss, the smaller one."""
    return worst_law(run, 50, False)


@bound(at_least=0.01)
def sampler_law_of_training(run: Run[Any]) -> float:
    """p-value of the ends of the chains that train, on C_8 and D_4, against their law by the transition matrix, the smaller
    one."""
    return worst_law(run, CHAIN, True)


@bound(at_most=4)
def mean_loss_of_the_law(run: Run[Any]) -> float:
    """Error of E_lambda[l] - E_pi[l] = Var_pi(l) / E_pi[l], in standard errors."""
    return excess(run.budget.chains, run.seed)


@exact(tol=1e-3)
def convex_optimum(run: Run[Any]) -> float:
    """Error of the optimum of a convex problem."""
    return convex_errors(1.0)[0]


@exact(tol=0.02)
def multiplier_is_the_price(run: Run[Any]) -> float:
    """Relative error of the multiplier against the derivative of the optimal loss by the limit."""
    return convex_errors(1.0)[1]


@exact(tol=0)
def slack_changes_nothing(run: Run[Any]) -> float:
    """Largest difference of the weights after training under a condition that always holds, and without it."""
    x, y = sets(WORLDS[0], Sizes(100, 1, 1), run.seed).train
    weights: list[Tensor] = []
    for constrained in (True, False):
        torch.manual_seed(run.seed)
        model = Classifier()
        bound = augment(list(FAMILIES.values()), policy="constrained", model=model, loss=each_loss, limit=1e6)
        objective = bound.objective if constrained else None
        fit(model, x, y, loss=cross_entropy, objective=objective, epochs=2, seed=run.seed, progress=False)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return float((weights[0] - weights[1]).abs().max())


PROPERTIES = (
    *(sampler_law, sampler_law_of_training, mean_loss_of_the_law),
    *(convex_optimum, multiplier_is_the_price, slack_changes_nothing),
)

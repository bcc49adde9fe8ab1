"""What holds exactly: counts and information of the mixtures, the best rule that sees the source alone, weights of groups."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.survey import Run, bound, exact, largest, number
from erlangen.systems.learning.from_fake_to_real._groups import GroupReport, contingency, group_report
from erlangen.systems.learning.from_fake_to_real._losses import resampled
from erlangen.systems.learning.from_fake_to_real.method import add_equal, fill_to_max

COUNTS = torch.tensor([[990, 10], [10, 990]])
"""Two classes, two nuisances, at rate 0.99."""


def report(added: Tensor, counts: Tensor = COUNTS) -> GroupReport:
    """Of real counts ``[Y, B]`` with synthetic ones beside them, by samples one by one."""
    y, b, g = torch.stack([counts, added], -1).nonzero().T
    times = torch.stack([counts, added], -1)[y, b, g]
    return group_report(*(v.repeat_interleave(times) for v in (y, b, g)), sizes=(*counts.shape, 2))


def tables(g: Generator) -> list[Tensor]:
    """Counts of twenty biased sets with two to four classes and as many nuisances."""
    sizes = torch.randint(2, 5, (20,), generator=g).tolist()
    return [torch.randint(1, 40, (n, n), generator=g) + 300 * torch.eye(n, dtype=torch.int64) for n in sizes]


@number(
    expected=(200 * (math.log(2) + 0.99 * math.log(0.99) + 0.01 * math.log(0.01)) + 196 * math.log(2)) / 396, tol=1e-12
)
def uniform_balancing_leaves_it_bound_within_a_source(run: Run[Any]) -> float:
    """I(Y; B | G), in nats, after uniform balancing (USB) of two classes and two backgrounds at rate 0.99."""
    return report(fill_to_max(COUNTS)).background_given_source


@exact(tol=1e-15)
def uniform_balancing_reverses_the_synthetic_part(run: Run[Any]) -> float:
    """Largest error of P(Y=0|B=0) = 1/2, P(Y=0|B=0, synthetic) = 0, P(Y=0|B=0, real) = 0.99 after USB of a 2 x 2 set."""
    found = report(fill_to_max(COUNTS))
    due = ((None, 0.5), (1, 0.0), (0, 0.99))
    return largest(abs(float(found.label_given(0, g)[0]) - value) for g, value in due)


@exact(tol=1e-15)
def additive_balancing_leaves_a_part_of_the_bias(run: Run[Any]) -> float:
    """Largest error of P(Y=0|B=0) = 148/198 and P(Y=0|B=0, synthetic) = 1/2 after additive balancing (ASB), 2 x 2 at 0.99."""
    found = report(add_equal(COUNTS))
    return largest(abs(float(found.label_given(0, g)[0]) - value) for g, value in ((None, 148 / 198), (1, 0.5)))


@bound(at_least=0.01)
def additive_balancing_leaves_the_background_informative(run: Run[Any]) -> float:
    """Least I(Y; B), in nats, of twenty biased sets after additive balancing (ASB)."""
    return min(report(add_equal(counts), counts).background for counts in tables(run.generator()))


@exact(tol=0)
def the_best_rule_of_a_mixture_is_the_bias(run: Run[Any]) -> float:
    """Real samples that the Bayes rule of (B, G) gets otherwise than "all of the majority, none of the minority"; USB and ASB."""
    off = 0
    for added in (fill_to_max(COUNTS), add_equal(COUNTS)):
        rule = report(added).bayes()[:, 0]  # on real samples
        right = rule[None] == torch.arange(2)[:, None]
        off += int(COUNTS[right != torch.eye(2, dtype=torch.bool)].sum())
    return off


@bound(at_least=1e-3)
def groups_are_drawn_equally_often(run: Run[Any]) -> float:
    """p-value of the chi-square test of equal frequencies of four groups in 100,000 draws from sizes 990, 10, 10, 990."""
    from scipy.stats import chisquare

    groups = torch.arange(4).repeat_interleave(COUNTS.flatten())
    drawn = groups[resampled(groups, count=100_000, generator=Generator().manual_seed(run.seed))]
    return float(chisquare(contingency(drawn).numpy()).pvalue)


PROPERTIES = (
    uniform_balancing_leaves_it_bound_within_a_source,
    uniform_balancing_reverses_the_synthetic_part,
    additive_balancing_leaves_a_part_of_the_bias,
    additive_balancing_leaves_the_background_informative,
    the_best_rule_of_a_mixture_is_the_bias,
    groups_are_drawn_equally_often,
)

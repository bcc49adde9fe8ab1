"""What is measured of GBWBN: properties, normalisations in one network on simulated sessions, condition numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Table, Training, compare
from erlangen.systems.manifolds.spd_gbw_batchnorm._properties import properties_part
from erlangen.systems.manifolds.spd_gbw_batchnorm._spdnet import Convolutions, SPDNet
from erlangen.systems.manifolds.spd_gbw_batchnorm.data import CHANNELS, CLASSES, Weak, recorded, simulated
from erlangen.systems.manifolds.spd_gbw_batchnorm.method import GBWBatchNorm
from erlangen.systems.manifolds.spd_gbw_batchnorm.rivals import (
    MetricBatchNorm,
    WithPowers,
    right_answers,
    trained,
    with_residual,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Norm = Callable[[int], nn.Module] | None
Fit = Callable[[nn.Module, Split, float, Training, Generator], nn.Module | None]

CONDITION = 1e4
"""Of the covariances in the main table."""
OURS, LIE = "GBWBN", ("LieBN, AIM", "LieBN, LEM", "LieBN, LCM")
NORMS: dict[str, Norm] = {
    "no normalisation": None,
    "SPDNetBN": partial(MetricBatchNorm, metric="AIM", scaling=False),
    "LieBN, AIM": partial(MetricBatchNorm, metric="AIM"),
    "LieBN, LEM": partial(MetricBatchNorm, metric="LEM"),
    "LieBN, LCM": partial(MetricBatchNorm, metric="LCM"),
    "BWBN": partial(GBWBatchNorm, learn_matrix=False),
    "GBWBN": GBWBatchNorm,
    "GBWBN, power 1": GBWBatchNorm,
    "GBWBN, statistics as in the code": partial(GBWBatchNorm, legacy_variance=True, differentiate=False),
    "residual network": with_residual(None),
    "residual network, GBWBN": with_residual(partial(GBWBatchNorm, power=0.5)),
}
POWERED = (OURS, "LieBN, AIM", "LieBN, LCM")
"""Those whose power is chosen on validation data; the log-Euclidean metric has none."""
FEW = ("no normalisation", "SPDNetBN", "LieBN, LEM", "GBWBN")
"""Those that meet other condition numbers, too."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        trials: of a subject; every seed is another one.
        conditions: of covariances, beside the one of the main table.
        width: rows after BiMap.
        repeats: seeds of every recorded subject, where there are recordings.
        recorded: its trials.
        recorded_epochs: for them.
    """

    seeds: int
    trials: Sizes
    epochs: int
    conditions: tuple[float, ...]
    width: int
    repeats: int
    recorded: Sizes
    recorded_epochs: int


BUDGETS = {
    "smoke": Budget(1, Sizes(60, 20, 40), 1, (1e8,), 6, 1, Sizes(30, 10, 10), 1),
    "full": Budget(3, Sizes(300, 200, 1000), 45, (1e2, 1e8), 6, 3, Sizes(300, 100, 100), 60),
    "paper": Budget(55, Sizes(300, 200, 1000), 200, (1e2, 1e6, 1e8), 6, 5, Sizes(300, 100, 100), 200),
}


def row(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
    """Right answers, whether training failed, the power, and how often exponentials left their domain in training."""
    right, diverged = right_answers(model, x, y)
    power = next((m.power for m in model.modules() if isinstance(m, GBWBatchNorm | MetricBatchNorm)), None)
    norms = [module for module in model.modules() if isinstance(module, GBWBatchNorm)]
    shares: tuple[float | None, ...] = norms[0].violations if norms else (None,) * 3
    names = ("centring", "scaling", "biasing")
    outside = {f"outside in {name}": share for name, share in zip(names, shares, strict=True)}
    return {"accuracy": right, "diverged": int(diverged), "power": power} | outside


def training_of(epochs: int, rates: tuple[float, ...]) -> Training:
    """The authors' recipe but for the rate: momentum 0.9, decay 0.05, batches of 30, the last epoch."""
    return Training(cross_entropy, epochs, 30, rates, decay=0.05, schedule=None)


def normalisations(
    run: Run[Budget], name: str, which: tuple[str, ...], condition: float, weak: Weak = "sources"
) -> Table:
    """Networks that differ in their normalisation alone, on covariances of simulated trials."""
    rivals = {
        key: Rival(partial(SPDNet, CHANNELS, run.budget.width, CLASSES, NORMS[key]), fit=way(key)) for key in which
    }
    sizes = run.sizes(run.budget.trials)
    how = training_of(run.budget.epochs, (0.01, 0.04))
    draw = partial(simulated, condition=condition, sizes=sizes, weak=weak)
    return compare(name, rivals, draw, how, row, best="accuracy", run=run)


def way(key: str) -> Fit:
    """How one of the networks is trained."""
    return WithPowers() if key in POWERED else trained


def sessions_part(run: Run[Budget]) -> Part:
    """All of them at one condition number."""
    table = normalisations(run, "sessions", tuple(NORMS), CONDITION)
    return table.part(
        *claims(table, ""),
        table.not_worse("residual-with-gbwbn", "residual network, GBWBN", "residual network", "accuracy"),
    )


def claims(table: Table, prefix: str) -> list[Claim]:
    """At least as good as what the paper names; no margin is known to us."""
    return [
        table.not_worse(f"{prefix}gbwbn-against-none", OURS, "no normalisation", "accuracy"),
        table.not_worse(f"{prefix}gbwbn-against-spdnetbn", OURS, "SPDNetBN", "accuracy"),
        table.not_worse(f"{prefix}gbwbn-against-liebn", OURS, LIE, "accuracy"),
        table.not_worse(f"{prefix}gbwbn-against-residual-network", OURS, "residual network", "accuracy"),
        table.not_worse(f"{prefix}learned-matrix-against-identity", "GBWBN, power 1", "BWBN", "accuracy"),
        table.not_worse(f"{prefix}power-against-none", OURS, "GBWBN, power 1", "accuracy"),
    ]


EFFECTIVE = "effective where covariances are ill-conditioned"


def conditions_parts(run: Run[Budget]) -> list[Part]:
    """Better and worse conditioned covariances, a threshold at the worst alone; and the worst once more, by noise."""
    parts: list[Part] = []
    worst = max(run.budget.conditions)
    for condition in run.budget.conditions:
        table = normalisations(run, f"condition number {condition:.0e}", FEW, condition)
        made = (
            table.not_worse(
                "ill-conditioned-against-affine-invariant",
                OURS,
                "SPDNetBN",
                "accuracy",
                statement="Covariances with condition numbers of 1e8, weak directions as telling as strong ones: accuracy with "
                "GBWBN over that with SPDNetBN, the normalisation under the affine-invariant metric.",
                published=EFFECTIVE,
            ),
        )
        parts.append(table.part(*(made if condition == worst else ())))
    table = normalisations(run, f"condition number {worst:.0e}, weak directions are noise", FEW, worst, "noise")
    made = tuple(
        table.not_worse(
            f"ill-conditioned-by-noise-against-{short}",
            OURS,
            rival,
            "accuracy",
            statement=f"Covariances with condition numbers of 1e8, weak directions noise alone: accuracy with GBWBN over that "
            f"with {rival}.",
            published=EFFECTIVE,
        )
        for short, rival in (("affine-invariant", "SPDNetBN"), ("log-euclidean", "LieBN, LEM"))
    )
    return [*parts, table.part(*made)]


def recordings_part(run: Run[Budget], folder: str, subjects: tuple[int, ...]) -> Part:
    """MAMEM SSVEP II, every subject by itself; seeds go round the subjects, and rates are those of the first."""
    budget = run.budget
    run = replace(run, budget=replace(budget, seeds=budget.repeats * len(subjects)))
    sizes = run.sizes(budget.recorded)
    nets = {
        key: partial(SPDNet, 15, 12, CLASSES, NORMS[key]) for key in NORMS if not key.startswith("residual network, ")
    }
    rivals = {key: Rival(lambda net=net: net(front=Convolutions(CHANNELS)), fit=way(key)) for key, net in nets.items()}

    def draw(seed: int) -> Split:
        return recorded(folder, subjects[(seed - run.seed) % len(subjects)], sizes)

    how = training_of(budget.recorded_epochs, (0.0025, 0.00125, 0.005))
    table = compare("recordings", rivals, draw, how, row, best="accuracy", run=run)
    return table.part(*claims(table, "recorded-"))


ELSEWHERE = (
    Claim.not_measurable(
        "skeletons",
        "Networks with GBWBN recognise actions of HDM05 and NTU RGB+D from covariances of skeletons better than with other "
        "normalisations.",
        published="better than other Riemannian normalisations",
        reason="the recordings are given out on request alone, and 93 x 93 matrices need a GPU",
    ),
    Claim.not_measurable(
        "steady-state-potentials",
        "A network with GBWBN classifies trials of MAMEM SSVEP II better than with other normalisations.",
        published="better than other Riemannian normalisations",
        reason="the recordings are not part of this library; with a folder of them, the option eeg measures it here",
    ),
)


def experiment(run: Run[Budget], eeg: str = "", subjects: tuple[int, ...] = (1, 2, 3)) -> Result:
    """Properties, simulated sessions, condition numbers, and recordings where there are some.

    Args:
        run: scale, seeds and budget.
        eeg: a folder of MAMEM SSVEP II, ``subjectNN.npz`` with the arrays X and y.
        subjects: which of them.
    """
    return Result.of(
        properties_part(run),
        sessions_part(run),
        *conditions_parts(run),
        *([recordings_part(run, eeg, subjects)] if eeg else []),
        Part(claims=ELSEWHERE),
    )


def figure(result: Result) -> Figure:
    """Accuracy with every normalisation, one group of bars for each condition number."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] != "properties"]
    names = list(dict.fromkeys(str(row["model"]) for row in rows))
    found = {(str(row["part"]), str(row["model"])): float(str(row["accuracy"])) for row in rows}
    kinds = dict.fromkeys(part for part, _ in found)
    return plots.barh({kind: [found.get((kind, name)) for name in names] for kind in kinds}, names, "accuracy, %")

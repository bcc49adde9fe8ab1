"""What is measured of augmented covariances: properties, three simulated tasks, recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from erlangen.survey import Claim, Part, Result, Run, Sizes, Table, sweep
from erlangen.survey.tables import TOO_SMALL
from erlangen.systems.manifolds.augmented_covariance._properties import properties_part
from erlangen.systems.manifolds.augmented_covariance.data import Task, Trials, recorded, shuffled, simulated
from erlangen.systems.manifolds.augmented_covariance.method import AugmentedCovarianceClassifier, decisions, score
from erlangen.systems.manifolds.augmented_covariance.rivals import (
    CanonicalCorrelation,
    ElasticNet,
    FilterBank,
    csp_lda,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Make = Callable[[Trials], Any]

OURS, PLAIN = "ACM+TGSP+SVM", ("TANG+SVM", "Cov+EN")
SHUFFLED = "ACM+TGSP+SVM, samples shuffled"
TASKS: tuple[Task, ...] = ("amplitudes", "frequencies", "both")
BETTER = "better in all tasks"
GAINS = "2.3 to 7.5 points over TANG+SVM, 1.9 to 5.4 over Cov+EN on motor imagery"


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        seeds: subjects.
        trials: that train, and that test within the session and across.
        samples: of a trial.
        orders, lags: candidates of the nested choice.
        recorded_orders, recorded_lags: the same for recordings, whose trials are shorter.
    """

    seeds: int
    trials: Sizes
    samples: int
    orders: tuple[int, ...]
    lags: tuple[int, ...]
    recorded_orders: tuple[int, ...]
    recorded_lags: tuple[int, ...]


BUDGETS = {
    "smoke": Budget(1, Sizes(24, 0, 24), 160, (1, 2), (1, 3), (1, 2), (4,)),
    "full": Budget(11, Sizes(100, 0, 200), 400, (1, 2, 4, 6), (1, 3, 6), (1, 2, 4, 6, 8), (1, 2, 3, 4)),
    "paper": Budget(
        14, Sizes(144, 0, 144), 1000, tuple(range(1, 11)), tuple(range(1, 11)), tuple(range(1, 11)), tuple(range(1, 11))
    ),
}


def models(orders: tuple[int, ...], lags: tuple[int, ...], estimator: Any) -> dict[str, Make]:
    """All pipelines, with one estimator of covariances and the same inner folds."""
    acm = partial(AugmentedCovarianceClassifier, orders, lags, estimator=estimator)
    plain = partial(AugmentedCovarianceClassifier, (1,), (1,), estimator=estimator)
    return {
        OURS: lambda _: acm(),
        "ACM+MDM": lambda _: acm(classifier="mdm"),
        "ACM+FgMDM": lambda _: acm(classifier="fgmdm"),
        "MDOP+SVM": lambda _: acm(choice="mdop"),
        "TANG+SVM": lambda _: plain(),
        "Cov+EN": lambda _: ElasticNet(estimator),
        "FgMDM": lambda _: plain(classifier="fgmdm"),
        "MDM": lambda _: plain(classifier="mdm"),
        "CSP+LDA": lambda trials: csp_lda(estimator, trials.train[0].shape[1], trials.train[1]),
        SHUFFLED: lambda _: acm(),
    }


def row(make: Make, trials: Trials) -> Mapping[str, Any]:
    """The score of every evaluation in percent, and what was chosen on the trials that train."""
    model = make(trials).fit(*trials.train)
    kind = "auc" if len(np.unique(trials.train[1])) == 2 else "accuracy"
    found = {
        f"{kind}, {name}": 100 * score(y, decisions(model, x), model.predict(x))
        for name, (x, y) in trials.tests.items()
    }
    chosen = {name: getattr(model, f"{name}_", None) for name in ("order", "lag")}
    return {**found, **chosen, "pairs that failed": len(getattr(model, "failed_", ()))}


def table_of(run: Run[Any], name: str, which: Mapping[str, Make], draw: Callable[[int], Trials]) -> Table:
    """Every pipeline on the trials of every seed; drawing is not part of its time."""
    drawn = cache(draw)
    mixed = cache(lambda seed: shuffled(drawn(seed), seed))
    for seed in run.seeds:
        mixed(seed)

    def method(key: str, make: Make) -> Callable[[int], Mapping[str, Any]]:
        return lambda seed: row(make, (mixed if key == SHUFFLED else drawn)(seed))

    methods = {key: method(key, make) for key, make in which.items()}
    return sweep(name, methods, run=run, larger=("auc", "accuracy"))


def claims(table: Table, prefix: str, columns: tuple[str, ...]) -> list[Claim]:
    """At least as good as the strongest plain pipelines, and what a control without time has left."""
    made: list[Claim] = []
    for column in columns:
        end = column.partition(", ")[2].split()[0]
        made += [
            table.not_worse(f"{prefix}-{end}-acm-svm-against-plain", OURS, PLAIN, column, published=GAINS),
            table.not_worse(f"{prefix}-{end}-acm-mdm-against-mdm", "ACM+MDM", "MDM", column, published=BETTER),
            table.not_worse(f"{prefix}-{end}-nested-against-mdop", OURS, "MDOP+SVM", column, published=BETTER),
            shuffled_gains(f"{prefix}-{end}-shuffled-gains-nothing", table, column),
        ]
    return made


def shuffled_gains(name: str, table: Table, column: str) -> Claim:
    """What the control may have over order one: a statement about the mean of all subjects, not about each."""
    gain = table[SHUFFLED, column] - table["TANG+SVM", column]
    claim = Claim.bound(
        name,
        f'{table.name.capitalize()}: points of "{column}" by which nested ACM and TANG+SVM differ in the mean over subjects when '
        "the samples of every trial are shuffled.",
        measured=float(np.abs(gain.mean())),
        at_most=2,
    )
    return claim if table.run.settles else claim.unsettled(TOO_SMALL)


def task_part(run: Run[Budget], task: Task) -> Part:
    """Two classes that differ in amplitudes, in frequencies, or in both, within a session and in another one."""
    budget = run.budget
    orders, lags, samples = ((1, 2), (1, 10), 200) if run.dry else (budget.orders, budget.lags, budget.samples)
    sizes = Sizes(24, 0, 24) if run.dry else budget.trials
    table = table_of(run, task, models(orders, lags, "cov"), lambda seed: simulated(task, seed, sizes, samples=samples))
    return table.part(*claims(table, task, ("auc, within sessions", "auc, across sessions")))


def recordings_part(run: Run[Budget], folder: str, subjects: tuple[int, ...]) -> Part:
    """MAMEM SSVEP II, a seed for each subject; two rivals know the frequencies of the stimuli."""
    run = replace(run, budget=replace(run.budget, seeds=len(subjects)))
    which = models(run.budget.recorded_orders, run.budget.recorded_lags, "oas")
    which |= {"filter-bank covariance": lambda _: FilterBank(), "CCA": lambda _: CanonicalCorrelation()}
    table = table_of(run, "recordings", which, lambda seed: recorded(folder, subjects[seed - run.seed]))
    return table.part(*claims(table, "recorded", ("accuracy, across sessions",)))


ELSEWHERE = (
    Claim.not_measurable(
        "motor-imagery",
        "ACM+TGSP+SVM classifies motor imagery better than TANG+SVM: right hand against feet, within sessions.",
        published="0.939 against 0.916",
        reason="the recordings of BNCI and Zhou are downloaded by MOABB and are not part of this library",
    ),
    Claim.not_measurable(
        "deep-networks",
        "ACM+TGSP+SVM classifies motor imagery better than ShallowConvNet, DeepConvNet and EEGNet, but for three classes across "
        "sessions.",
        published="0.939 against 0.916, 0.891 and 0.892; 0.766 against 0.795",
        reason="networks with 300 epochs for every fold need trials of four seconds and a GPU",
    ),
)


def experiment(run: Run[Budget], eeg: str = "", subjects: tuple[int, ...] = tuple(range(1, 12))) -> Result:
    """Properties, three simulated tasks, and recordings where there are some.

    Args:
        run: scale, seeds and budget.
        eeg: a folder of MAMEM SSVEP II, ``subjectNN.npz`` with the arrays X and y.
        subjects: which of them.
    """
    return Result.of(
        properties_part(run),
        *(task_part(run, task) for task in TASKS),
        *([recordings_part(run, eeg, subjects)] if eeg else []),
        Part(claims=ELSEWHERE),
    )


def figure(result: Result) -> Figure:
    """Scores of all pipelines, one group of bars for each task and evaluation."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] != "properties"]
    names = list(dict.fromkeys(str(row["model"]) for row in rows))
    bars: dict[str, list[float | None]] = {}
    for row in rows:
        for column, cell in row.items():
            kind, _, end = column.partition(", ")
            if kind in ("auc", "accuracy") and end.endswith("sessions") and isinstance(cell, float):
                bars.setdefault(f"{row['part']}, {end}", [None] * len(names))[names.index(str(row["model"]))] = cell
    return plots.barh(bars, names, "area under the ROC curve, %")

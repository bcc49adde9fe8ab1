"""What is measured of reductions: laws, responses on a line with and without outliers, three kinds of objects, turned digits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import mse_loss

from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Table, Training, compare, properties
from erlangen.systems.manifolds.fccov_net._fitting import (
    CORRELATION,
    NEAR,
    Features,
    Reduction,
    Statistic,
    WithPenalties,
    fit_bottleneck,
    fit_net,
    measure,
    measure_nearness,
    picture_net,
    principal_components,
    solve,
)
from erlangen.systems.manifolds.fccov_net._properties import PROPERTIES
from erlangen.systems.manifolds.fccov_net.data import (
    INPUTS,
    SETTINGS,
    SPHERE,
    Drawn,
    Setting,
    Space,
    contaminated,
    turned_digits,
)
from erlangen.systems.manifolds.fccov_net.method import ReductionNet, fccov_kernel
from erlangen.systems.manifolds.fccov_net.rivals import (
    cume_kernel,
    distance_covariance,
    gmdd_kernel,
    gsir_kernel,
    sir_kernel,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, GMDD, DCOV, BOTTLENECK = "FCCov net", "GMDD net", "distance covariance net", "bottleneck regression"
KERNEL, GSIR, SIR, CUME, PCA = "kernel FCCov", "GSIR", "SIR", "CUME", "PCA"

RATES = (1e-3, 3e-4, 3e-3)
"""The first is the one of the fixed setting."""

DECAY = 1e-4
FEW = Sizes(24, 12, 12)
"""Of a dry run: few, but as many as the objective takes."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        samples: of every simulation.
        steps: of networks, each with all samples.
        digits, epochs, batch: of turned digits.
    """

    seeds: int
    samples: Sizes
    steps: int
    digits: Sizes
    epochs: int
    batch: int


BUDGETS = {
    "smoke": Budget(1, Sizes(80, 40, 40), 10, Sizes(64, 32, 40), 1, 32),
    "full": Budget(5, Sizes(400, 200, 500), 400, Sizes(1000, 300, 1000), 12, 200),
    "paper": Budget(10, Sizes(1000, 500, 1000), 1000, Sizes(3000, 500, 1000), 60, 200),
}

STATISTICS = {
    OURS: Statistic(fccov_kernel),
    GMDD: Statistic(gmdd_kernel),
    DCOV: Statistic(gmdd_kernel, distance_covariance),
}


def nets(space: Space, make: Callable[[], ReductionNet]) -> dict[str, Rival]:
    """The deep rivals: one network, four ways to train it."""
    ways = {name: fit_net(statistic) for name, statistic in STATISTICS.items()} | {BOTTLENECK: fit_bottleneck}
    return {name: Rival(lambda: Reduction(make(), space), fit=WithPenalties(way)) for name, way in ways.items()}


def closed(space: Space, outputs: int) -> dict[str, Rival]:
    """Rivals in closed form."""
    ways: Mapping[str, Callable[[Any, Split], object]] = {
        KERNEL: solve(fccov_kernel, outputs, gaussian=True),
        GSIR: solve(gsir_kernel, outputs, gaussian=True),
        SIR: solve(sir_kernel, outputs, gaussian=False),
        CUME: solve(cume_kernel, outputs, gaussian=False),
        PCA: principal_components(outputs),
    }
    return {name: Rival(lambda: Reduction(Features(), space), trains=False, prepare=way) for name, way in ways.items()}


def split_of(drawn: Drawn, sizes: Sizes, y: Tensor) -> Split:
    """Inputs scaled as those that train; responses with the true index beside them."""
    train = drawn.x[: sizes.train]
    x = (drawn.x - train.mean(0)) / train.std(0).clamp(min=1e-6) if drawn.x.ndim == 2 else drawn.x
    return Split.of(x, {"y": y, "index": drawn.truth}, sizes)


def simulated(run: Run[Budget], part: str, setting: Setting, *, outliers: bool = False) -> Table:
    """All rivals on one simulation; outliers are among the responses that train and that choose, not among those that test."""
    b = run.budget
    sizes = FEW if run.dry else b.samples

    def draw(seed: int) -> Split:
        g = Generator().manual_seed(seed)
        drawn = setting.draw(sizes.total, g)
        seen = sizes.train + sizes.validation
        y = torch.cat([contaminated(drawn.y[:seen], g), drawn.y[seen:]]) if outliers else drawn.y
        return split_of(drawn, sizes, y)

    training = Training(
        mse_loss, b.steps, sizes.train, RATES, optimizer=torch.optim.Adam, decay=DECAY, schedule=None, widen=2
    )
    rivals = nets(setting.space, functools.partial(ReductionNet, INPUTS, setting.outputs))
    return compare(
        part,
        rivals | closed(setting.space, setting.outputs),
        draw,
        training,
        measure,
        best=NEAR,
        run=run,
        validate=measure_nearness,
        larger=("distance correlation", "canonical"),
    )


# --- responses on a line ---------------------------------------------------------------------------------------------
def line_part(run: Run[Budget]) -> Part:
    """The same simulation, plain and with five in a hundred responses moved far away."""
    clean = simulated(run, "line", SETTINGS["line"])
    dirty = simulated(run, "line with outliers", SETTINGS["line"], outliers=True)

    def loss(name: str) -> Any:
        return clean[name, CORRELATION] - dirty[name, CORRELATION]

    score = "distance correlation with the true index"
    claims: list[Claim] = []
    for short, rival in (("gmdd", GMDD), ("distance-covariance", DCOV)):
        claims += [
            dirty.bound(
                f"outliers-cost-no-more-than-{short}",
                f"Line: what five in a hundred outliers cost the {rival} in {score}, less what they cost the {OURS}.",
                loss(rival) - loss(OURS),
                at_least=0,
            ),
            dirty.not_worse(
                f"under-outliers-as-good-as-{short}",
                OURS,
                rival,
                CORRELATION,
                statement=f"Line with outliers: {score} of the {OURS} over that of the {rival}; larger is better.",
            ),
        ]
    claims.append(
        dirty.beats(
            "under-outliers-better-than-kernel",
            OURS,
            GSIR,
            CORRELATION,
            statement=f"Line with outliers: {score} of the {OURS} over that of kernel reduction by GSIR; larger is better.",
            published="better than kernel reduction",
        )
    )
    first = clean.part()
    second = dirty.part(*claims)
    return Part([*first.rows, *second.rows], second.claims, [*first.runs, *second.runs])


# --- objects ---------------------------------------------------------------------------------------------------------
def objects_part(run: Run[Budget]) -> list[Part]:
    """Two directions on a line, distributions, positive matrices, directions in space: a ranking, without a threshold."""
    names = [name for name in SETTINGS if name != "line"]
    return [simulated(run, name, SETTINGS[name]).part() for name in names]


# --- digits ----------------------------------------------------------------------------------------------------------
def digits_part(run: Run[Budget]) -> Part:
    """Networks for pictures; the response is the angle by which a digit was turned, and the best f traces a circle.

    Two whitened coordinates have at most the statistic 1 / pi^2, that of the circle itself.
    """
    b = run.budget
    sizes = FEW if run.dry else b.digits

    def draw(seed: int) -> Split:
        drawn = turned_digits(sizes.total, Generator().manual_seed(seed))
        return split_of(drawn, sizes, drawn.y)

    training = Training(
        mse_loss,
        b.epochs,
        min(b.batch, sizes.train),
        RATES,
        optimizer=torch.optim.Adam,
        decay=DECAY,
        schedule=None,
        widen=2,
    )
    rivals = nets(SPHERE, lambda: ReductionNet(784, 2, net=picture_net(2)))
    return compare(
        "turned digits",
        rivals,
        draw,
        training,
        lambda *given: (found := measure(*given)) | {"FCCov over that of the circle": found["FCCov"] * math.pi**2},
        best=NEAR,
        run=run,
        validate=measure_nearness,
        larger=("distance correlation", "canonical"),
    ).part()


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """The parts."""
    faces = Claim.not_measurable(
        "better-on-faces",
        "Faces of JAFFE: prediction and classification of expressions are better than with kernel or other deep reduction.",
        published="better than rivals",
        reason="JAFFE is given out on request, under a licence that does not allow to pass it on.",
    )
    rate = Claim.not_measurable(
        "minimax-rate",
        "Networks that maximise the penalised statistic converge to the best reduction at the minimax rate, up to logarithms.",
        published="minimax rate",
        reason="An upper bound over a class of functions, which no finite number of fits can refute.",
    )
    return Result.of(
        properties(run, *PROPERTIES), line_part(run), *objects_part(run), digits_part(run), Part(claims=[faces, rate])
    )


def figure(result: Result) -> Figure:
    """Distance correlation with the true index, plain and with outliers, for each method."""
    from erlangen import plots

    series: dict[str, list[float]] = {}
    names: list[str] = []
    for row in result.rows:
        if row["part"] in ("line", "line with outliers"):
            series.setdefault(str(row["part"]), []).append(float(str(row[CORRELATION])))
            if str(row["model"]) not in names:
                names.append(str(row["model"]))
    return plots.barh(series, names, "distance correlation with the true index")

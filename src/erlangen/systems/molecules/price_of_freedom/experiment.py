"""What is measured of products of irreps: what they reach and cost, mirror images, charged particles."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from erlangen.groups import SO
from erlangen.simulate import charged, drifted
from erlangen.survey import Part, Result, Rival, Run, Sizes, Split, Table, Training, bound, compare, properties
from erlangen.systems.molecules.price_of_freedom._products import products_part
from erlangen.systems.molecules.price_of_freedom.rivals import (
    N_BODY,
    PIECES,
    SEPARATES,
    TETRIS,
    Forecast,
    TetrisNetwork,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from erlangen.nn.products.module import Rule

CHIRAL, PAIR = "accuracy on the chiral pair", "difference of the pair"


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        degrees, batch, repeats: of products, how many per call, and calls that count.
        published_batch, timings: products per call where the paper's times are compared, and how often their medians are taken.
        particles: systems of charges.
        networks: channels and radial neurons of CG, Gaunt and vector products, with which the numbers of parameters are equal
            within 1 %.
    """

    seeds: int
    degrees: tuple[int, ...]
    batch: int
    repeats: int
    published_batch: int
    timings: int
    tetris_epochs: int
    particles: Sizes
    epochs: int
    networks: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

    def forecasts(self) -> dict[Rule, partial[Forecast]]:
        """How to make the networks of charged particles."""
        return {rule: partial(Forecast, rule, *size) for rule, size in zip(N_BODY, self.networks, strict=True)}


SMALL, LARGE = ((4, 24), (3, 44), (2, 37)), ((12, 32), (14, 45), (9, 41))
BUDGETS = {
    "smoke": Budget(1, (1, 2, 3), 200, 3, 100, 1, 15, Sizes(100, 50, 200), 5, SMALL),
    "full": Budget(4, (1, 2, 3, 4, 5, 6), 1000, 9, 10_000, 6, 150, Sizes(1000, 200, 500), 15, LARGE),
    "paper": Budget(5, (1, 2, 3, 4, 5, 6), 10_000, 100, 10_000, 10, 1000, Sizes(3000, 2000, 2000), 500, LARGE),
}


# --- tetris ----------------------------------------------------------------------------------------------------------
def tetris_part(run: Run[Budget]) -> Part:
    """Eight pieces, trained upright and tested in other positions; two are mirror images."""
    pieces, labels = torch.tensor(PIECES, dtype=torch.float32), torch.arange(len(PIECES))
    rivals = {name: Rival(partial(TetrisNetwork, name)) for name in TETRIS}
    how = Training(cross_entropy, run.budget.tetris_epochs, len(PIECES), rates=(5e-3, 3e-3), schedule=None)
    split = Split(*[(pieces, labels)] * 3)
    table = compare("tetris", rivals, lambda _: split, how, tetris_row, best="loss", run=run, validate=upright_loss)
    wrong = np.max([1 - table[name, "accuracy"] for name in SEPARATES], axis=0)
    differences = np.max([table[name, PAIR] for name in TETRIS if name not in SEPARATES], axis=0)
    return table.part(
        table.same(
            "tetris-odd-paths-suffice",
            "Share of wrong answers of CG and of the vector rule on all rotated pieces, the worse of the two.",
            wrong,
            0.0,
            tol=0,
        ),
        table.same(
            "tetris-no-odd-paths",
            "Largest difference between answers to the two mirror images, over the rules without odd paths.",
            differences,
            0.0,
            tol=1e-4,
        ),
    )


@torch.no_grad()
def upright_loss(model: nn.Module, pieces: Tensor, labels: Tensor, generator: Generator) -> Mapping[str, float]:
    """What chooses learning rates: the loss of the pieces as they are trained on; no turned piece is looked at."""
    return {"loss": float(cross_entropy(model(pieces), labels))}


@torch.no_grad()
def tetris_row(model: nn.Module, pieces: Tensor, labels: Tensor, generator: Generator) -> Mapping[str, float]:
    """Shares of right answers to turned and mirrored pieces, and how differently the mirror images are answered."""
    rotations, reflections = (sign * SO(3).sample(100, generator=generator).to(pieces) for sign in (1, -1))
    swapped = torch.cat([labels[:2].flip(0), labels[2:]])  # a mirror image of one is the other
    answers = [model(torch.einsum("gij,pnj->gpni", g, pieces).flatten(0, 1)) for g in (rotations, reflections)]
    right = [(a.argmax(-1).view(100, -1) == y).double() for a, y in zip(answers, (labels, swapped), strict=True)]
    mirror = model(pieces[:2]).softmax(-1)
    return {
        "loss": float(cross_entropy(answers[0], labels.repeat(100))),
        "accuracy": float(right[0].mean()),
        CHIRAL: float(right[0][:, :2].mean()),
        "accuracy on reflections": float(right[1].mean()),
        PAIR: float((mirror[0] - mirror[1]).abs().max()),
    }


# --- charged particles -----------------------------------------------------------------------------------------------
@bound(at_most=1.05)
def n_body_equal_parameters(run: Run[Budget]) -> float:
    """Largest number of parameters of a network for charged particles over the smallest."""
    sizes = [sum(p.numel() for p in make().parameters()) for make in run.budget.forecasts().values()]
    return max(sizes) / min(sizes)


def n_body_part(run: Run[Budget]) -> Part:
    """Positions of five charges one unit of time ahead, with equally many parameters for every rule."""
    sizes = run.sizes(run.budget.particles)
    rivals: dict[str, Rival] = {rule: Rival(make, fit=fit_timed) for rule, make in run.budget.forecasts().items()}
    rivals |= {"rest": Rival(lambda: partial(drifted, speed=0.0), trains=False)}
    rivals |= {"constant velocity": Rival(lambda: drifted, trains=False)}

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(seed)
        data = charged(sizes.total, steps=1000, record_every=1000, generator=generator, dtype=torch.float32)
        x = {"pos": data.pos[:, 0], "vel": data.vel[:, 0], "charges": data.charges}
        return Split.of(x, data.pos[:, 1], sizes)

    @torch.no_grad()
    def measure(model: Any, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, Any]:
        row: dict[str, Any] = {"mse": float(mse_loss(model(x), y))}
        return row | ({"curve": model.curve} if isinstance(model, Forecast) else {})

    how = Training(mse_loss, run.budget.epochs, 50, rates=(1e-2, 3e-3), schedule=None, clip=1.0, keep="best")
    table = compare("n-body", rivals, draw, how, measure, best="mse", run=run)
    table = Table(table.name, at_equal_time(table.runs), run)
    worst = np.max([table[rule, "mse"] for rule in N_BODY], axis=0)
    return table.part(
        table.ratio(
            "n-body-beats-inertia",
            "Test error of the worst rule over that of constant velocity.",
            worst,
            table["constant velocity", "mse"],
            below=1,
        ),
        table.ratio(
            "n-body-freedom-has-a-price",
            "Test error of the Gaunt product over that of CG with equally many parameters and epochs.",
            table["gaunt", "mse"],
            table["cg", "mse"],
            above=1,
        ),
    )


def fit_timed(model: Forecast, split: Split, rate: float, training: Training, generator: Generator) -> None:
    """As all are fitted; the validation error after every epoch is kept, with the time at which it was reached."""
    begin = time.process_time()

    def note(epoch: int, net: nn.Module, metrics: dict[str, float]) -> None:
        model.curve.append((time.process_time() - begin, metrics["validation_loss"]))

    training.fit(model, split, rate, generator, callbacks=[note])


def at_equal_time(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the best validation error, and the best one when the fastest rule of the seed has finished, for the curve."""
    found: list[dict[str, Any]] = []
    for run in runs:
        row = {key: value for key, value in run.items() if key != "curve"}
        if "curve" in run:
            limit = min(other["curve"][-1][0] for other in runs if "curve" in other and other["seed"] == run["seed"])
            first, curve = run["curve"][0][0], run["curve"]
            row["validation mse"] = min(error for _, error in curve)
            row["validation mse at equal time"] = min(error for at, error in curve if at <= limit or at == first)
        found.append(row)
    return found


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """The three parts; a dry run counts and times products of small degrees."""
    few = replace(run, budget=BUDGETS["smoke"]) if run.dry else run
    sizes = properties(run, n_body_equal_parameters)
    return Result.of(products_part(few), tetris_part(run), sizes, n_body_part(run))


def figure(result: Result) -> Figure:
    """Milliseconds per expressivity by degree, one curve for each product of all degrees with all degrees."""
    from erlangen import plots

    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if row["part"] == "products" and row["setting"] == "MIMO" and row["outputs"] == "natural":
            name = str(row.get("model", row.get("rule")))  # version 0.1.0 called the column "rule"
            curves.setdefault(name, []).append((row["L"], row["ms per expressivity"]))
    degrees = sorted({degree for curve in curves.values() for degree, _ in curve})
    return plots.line(curves, "largest degree L", "milliseconds per expressivity", logy=True, xticks=degrees)

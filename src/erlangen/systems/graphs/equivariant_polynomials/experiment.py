"""What is measured of equivariant polynomials: properties, degrees, separation of graphs, regression on molecules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import l1_loss

from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Training, compare
from erlangen.systems.graphs.equivariant_polynomials._properties import degrees_part
from erlangen.systems.graphs.equivariant_polynomials._separation import (
    ALL_FAMILIES,
    FEW_FAMILIES,
    Families,
    separation_part,
)
from erlangen.systems.graphs.equivariant_polynomials.data import molecules
from erlangen.systems.graphs.equivariant_polynomials.rivals import matrix_products, message_passing
from erlangen.training import one_cycle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ERROR = "mean absolute error"
WORDS = {
    "median": "the median of the training molecules",
    "PPGN": "PPGN without polynomials",
    "PPGN + random features": "PPGN with as many random features",
}
"""What statements call the rivals."""


@dataclass(frozen=True)
class Budget:
    """What a run spends; the widths of the networks give them about equally many parameters."""

    seeds: int
    families: Families
    molecules: Sizes
    epochs: int
    features: int = 16
    gin_features: int = 40
    readout: int = 64
    layers: int = 3
    batch: int = 16


BUDGETS = {
    "smoke": Budget(1, FEW_FAMILIES, Sizes(100, 20, 60), 3),
    "full": Budget(6, ALL_FAMILIES, Sizes(1600, 300, 500), 8),
    "paper": Budget(4, ALL_FAMILIES, Sizes(6000, 1000, 1000), 1000, 95, 200, 95, 8, 128),
}


# --- molecules -------------------------------------------------------------------------------------------------------
def regression_part(run: Run[Budget]) -> Part:
    """Penalised logP of drug-like molecules: networks of pairs of atoms with and without the polynomials that they lack."""
    budget = run.budget
    data = molecules(run.sizes(budget.molecules))
    channels, more = data.pairs.shape[-1], data.polynomials.shape[-1]
    gin = partial(message_passing, channels, budget.gin_features, budget.layers, budget.readout)
    ppgn = partial(matrix_products, features=budget.features, layers=budget.layers, width=budget.readout)
    middle = data.median()
    rivals = {
        "GIN": Rival(gin),
        "PPGN": Rival(lambda: ppgn(channels)),
        "PPGN + random features": Rival(lambda: ppgn(channels + more, more="random")),
        "PPGN++": Rival(lambda: ppgn(channels + more, more="polynomials")),
        "PPGN++, means": Rival(lambda: ppgn(channels + more, more="polynomials", pool="means")),
        "median": Rival(lambda: lambda x: middle.to(x["pairs"].device).expand(len(x["pairs"]), 1), trains=False),
    }

    def measure(model: nn.Module, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
        return {ERROR: error(model, x, y) * data.unit}

    how = Training(l1_loss, budget.epochs, budget.batch, rates=(5e-3, 1e-2), schedule=one_cycle, clip=1.0)
    table = compare("regression", rivals, data.split, how, measure, best=ERROR, run=run)

    def ahead(name: str, ours: str, rival: str, published: float | None = None) -> Claim:
        words = WORDS.get(rival, rival)
        statement = f"Mean absolute error of the penalised logP of unseen molecules, {ours} over {words}."
        return table.beats(name, ours, rival, ERROR, statement=statement, published=published)

    return table.part(
        ahead("molecules-are-learned", "PPGN++", "median"),
        ahead("polynomials-beat-none", "PPGN++", "PPGN", published=0.071 / 0.079),
        ahead("polynomials-beat-random-features", "PPGN++", "PPGN + random features"),
        ahead("ppgn-beats-message-passing", "PPGN", "GIN"),
        ahead("polynomials-beats-message-passing", "PPGN++", "GIN"),
    )


@torch.no_grad()
def error(model: Any, x: dict[str, Tensor], y: Tensor) -> float:
    """Mean absolute error, a hundred molecules at a time."""
    parts = [model({key: value[rows] for key, value in x.items()}) for rows in torch.arange(len(y)).split(100)]
    return float((torch.cat(parts) - y).abs().mean())


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget], brec: str = "") -> Result:
    """The four parts; with `brec`, a folder, also BREC's pairs. A dry run looks at few families of graphs."""
    unmeasured = Claim.not_measurable(
        "published-benchmarks",
        "PPGN++ has the smallest error on ZINC-12k, ZINC and Alchemy.",
        published="ZINC-12k 0.071 (PPGN 0.079), ZINC 0.020, Alchemy 0.109 (PPGN 0.113)",
        reason="needs days on a GPU and data under other terms; a part of ZINC with the same target is above",
    )
    families = FEW_FAMILIES if run.dry else run.budget.families
    parts = (degrees_part(run), separation_part(run, families, brec), regression_part(run))
    return Result.of(*parts, Part(claims=[unmeasured]))


def figure(result: Result) -> Figure:
    """Percent of pairs separated, in the families where networks confuse more than few pairs, and errors on molecules."""
    from erlangen import plots

    rows: list[Any] = list(result.rows)
    found = [row for row in rows if row["part"] == "separation" and not str(row["graphs"]).startswith("connected")]
    graphs, models = (list(dict.fromkeys(row[key] for row in found)) for key in ("graphs", "model"))
    share = {
        (row["model"], row["graphs"]): 100 * (1 - row["pairs not separated"] / max(1, row["pairs"])) for row in found
    }
    table = [[share[model, name] for model in models] for name in graphs]
    learned = [row for row in rows if row["part"] == "regression"]
    label = f"{ERROR}, penalised logP"
    errors = {label: [float(row[ERROR]) for row in learned]}
    drawn, (above, below) = plots.panels(2, columns=1)
    plots.heatmap(table, graphs, models, "percent of pairs separated", limits=(0, 100), ax=above)
    plots.barh(errors, [row["model"] for row in learned], label, ax=below)
    return drawn

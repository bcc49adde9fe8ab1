"""What is measured of spherical convolutions: properties, and the quality of models of proteins from families not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from erlangen.measure import spearman
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Training, compare, properties
from erlangen.systems.molecules.s_gcn._properties import PROPERTIES
from erlangen.systems.molecules.s_gcn.data import drawn
from erlangen.systems.molecules.s_gcn.method import SGCN
from erlangen.systems.molecules.s_gcn.rivals import ContactGCN, DistanceGNN, MeanScore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, RADIAL, THIRD = "S-GCN, order 5", "S-GCN_r, order 5", "S-GCN, order 3"
JOINT = "S-GCN, order 5, joint start"
BLIND = "order 1, no directions"
BLIND_WIDE = "order 1, as many parameters"
DISTANCES = "distances of CA"
CONTACTS, RELEASED = "authors' baseline", "authors' baseline, one channel"
KIND_MEANS, MEAN = "mean of the kind", "mean of all"

MSE, RANKS, LOSS, FIRST = "mean squared error", "spearman, each target", "loss of the selected", "natives first, %"
MISRANKED = "1 - spearman, each target"
"""What ratios are taken of: correlations may be zero or negative."""
DECAY = 0.003 / 64
"""The authors' L2 penalty, whose gradient stands beside the sum of those of 64 models; here beside a mean."""

SHARE = 0.27
"""Of the widths of the authors' baseline, so that it has as many parameters."""


@dataclass(frozen=True)
class Budget:
    """What a run spends; ``each`` is how many models there are of a chain."""

    seeds: int
    models: Sizes
    each: int
    epochs: int
    order: int = 5


BUDGETS = {
    "smoke": Budget(1, Sizes(8, 4, 8), 8, 1),
    "full": Budget(3, Sizes(312, 48, 84), 12, 8),
    "paper": Budget(3, Sizes(80_000, 4_000, 20_000), 200, 40),
}


# --- training and measures --------------------------------------------------------------------------------------------
def trimmed(x: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch without the columns that pad all of its proteins."""
    rows = int(x["mask"].any(0).sum())
    most = max(int((x["neighbors"] >= 0).sum(-1).max()), 1)
    return {
        name: t[:, :rows, :most] if name in ("neighbors", "area", "separation") else t[:, :rows]
        for name, t in x.items()
    }


class Trimmed(nn.Module):
    """A network with the padding that a whole data set needs, but a batch does not, taken off and put back."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Scores ``[B, N]``."""
        found = self.inner(trimmed(x))
        return nn.functional.pad(found, (0, x["mask"].shape[1] - found.shape[1]))


def squared_error(found: Tensor, y: dict[str, Tensor]) -> Tensor:
    """Mean over the residues of each model, then over models, as the authors' loss."""
    off = (found - y["score"]).square() * y["mask"]
    return (off.sum(1) / y["mask"].sum(1)).mean()


@torch.no_grad()
def predicted(model: nn.Module, x: dict[str, Tensor]) -> Tensor:
    """Scores ``[M, N]``, a few models at a time."""
    total = len(x["mask"])
    return torch.cat([model({k: v[at : at + 8] for k, v in x.items()}) for at in range(0, total, 8)])


def ranks(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation; 0 where a predictor says the same of all, and so ranks nothing."""
    if float(a.max() - a.min()) < 1e-6:
        return 0.0
    return spearman(a.double(), b.double())


def validate(model: nn.Module, x: dict[str, Tensor], y: dict[str, Tensor], generator: Generator) -> dict[str, float]:
    """What chooses learning rates."""
    return {MSE: float(squared_error(predicted(model, x), y))}


def measure(model: nn.Module, x: dict[str, Tensor], y: dict[str, Tensor], generator: Generator) -> Mapping[str, float]:
    """Error of residues; ranking, selection and the place of the native structure within the models of each target."""
    found = predicted(model, x)
    count = y["mask"].sum(1)
    whole, true = found.sum(1) / count, (y["score"] * y["mask"]).sum(1) / count
    per_target: list[float] = []
    chosen: list[float] = []
    natives: list[float] = []
    for target in y["target"].unique().tolist():
        of = y["target"] == target
        native, decoys = of & y["native"], of & ~y["native"]
        if int(decoys.sum()) >= 3:
            per_target.append(ranks(whole[decoys], true[decoys]))
            best = whole[decoys].max()
            # Of equals, the mean: a predictor that ranks nothing selects at random.
            chosen.append(float(true[decoys].max() - true[decoys][whole[decoys] >= best - 1e-6].mean()))
        if bool(native.any()) and bool(decoys.any()):
            natives.append(100.0 * float(whole[native].max() > whole[decoys].max() + 1e-6))
    decoys = ~y["native"]
    mask = y["mask"] & decoys[:, None]
    return {
        MSE: float(squared_error(found, y)),
        "spearman, residues": ranks(found[mask], y["score"][mask]) if int(mask.sum()) > 2 else 0.0,
        RANKS: mean(per_target),
        MISRANKED: 1 - mean(per_target),
        "spearman, all models": ranks(whole[decoys], true[decoys]) if int(decoys.sum()) > 2 else 0.0,
        LOSS: mean(chosen),
        FIRST: mean(natives),
    }


def mean(values: list[float]) -> float:
    """The mean; NaN of none, as in a dry run with too few models of a target."""
    return sum(values) / len(values) if values else float("nan")


def taught(model: MeanScore, split: Split) -> None:
    """Means of the training data, which need no training."""
    x, y = split.train
    assert isinstance(x, dict)
    assert isinstance(y, dict)
    model.learn(x, y)


# --- parts -----------------------------------------------------------------------------------------------------------
def widened() -> nn.Module:
    """A network of order 1 with about as many parameters as order 5: its first four widths times 4.5."""
    return SGCN(1, widths=(92, 72, 36, 18, 1))


def quality_part(run: Run[Budget]) -> Part:
    """Local CAD-score, from families that no rival was trained on."""
    b = run.budget
    rivals = {
        OURS: Rival(lambda: Trimmed(SGCN(b.order))),
        RADIAL: Rival(lambda: Trimmed(SGCN(b.order, "r"))),
        JOINT: Rival(lambda: Trimmed(SGCN(b.order, start="joint"))),
        THIRD: Rival(lambda: Trimmed(SGCN(3))),
        BLIND: Rival(lambda: Trimmed(SGCN(1))),
        BLIND_WIDE: Rival(lambda: Trimmed(widened())),
        DISTANCES: Rival(lambda: Trimmed(DistanceGNN())),
        CONTACTS: Rival(lambda: Trimmed(ContactGCN(SHARE))),
        RELEASED: Rival(lambda: Trimmed(ContactGCN(SHARE, channels="last"))),
        KIND_MEANS: Rival(lambda: MeanScore(by_kind=True), prepare=taught, trains=False),
        MEAN: Rival(lambda: MeanScore(by_kind=False), prepare=taught, trains=False),
    }
    how = Training(
        squared_error,
        b.epochs,
        4,
        rates=(9e-3, 3e-3),
        optimizer=torch.optim.Adam,
        decay=DECAY,
        widen=3,
        keep="best",  # the last epoch has learned the families that train by heart
    )
    table = compare(
        "quality",
        rivals,
        lambda seed: drawn(seed, run.sizes(b.models), b.each),
        how,
        measure,
        best=MSE,
        run=run,
        larger=("spearman", "natives"),
        validate=validate,
    )

    def claim(name: str, rival: str, words: str, column: str = MSE, ours: str = OURS, strict: bool = False) -> Claim:
        what = {
            MSE: "Mean squared error of local scores",
            MISRANKED: "One minus Spearman's correlation of global scores among the decoys of a target",
            LOSS: "Score lost by the selection of the best decoy",
        }[column]
        kind = table.beats if strict else table.not_worse
        spoken = "S-GCN_r of order 5" if ours == RADIAL else "S-GCN of order 5"
        return kind(name, ours, rival, column, statement=f"{what}, proteins of new families, {spoken} over {words}.")

    blind, wide = (
        "the same network without directions (order 1)",
        "a wider one without directions and as many parameters",
    )
    base = "the authors' baseline on contacts, with as many parameters"
    return table.part(
        claim("directions-not-worse", BLIND, blind),
        claim("directions-not-worse-wide", BLIND_WIDE, wide),
        claim("directions-rank-not-worse", BLIND, blind, MISRANKED),
        claim("directions-rank-not-worse-wide", BLIND_WIDE, wide, MISRANKED),
        claim("beats-baseline", CONTACTS, base, strict=True),
        claim("beats-baseline-ranks", CONTACTS, base, MISRANKED, strict=True),
        claim("radial-beats-baseline", CONTACTS, base, ours=RADIAL, strict=True),
        claim("radial-beats-baseline-ranks", CONTACTS, base, MISRANKED, ours=RADIAL, strict=True),
        claim("beats-distances", DISTANCES, "a network of distances, as large", strict=True),
        claim("beats-means", KIND_MEANS, "the mean of the kind of amino acid", strict=True),
        claim("selects-not-worse-than-chance", MEAN, "a random choice", LOSS),
        Claim.not_measurable(
            "casp-benchmarks",
            "Comparable to the state of the art on CASP12 and CASP13.",
            published=None,
            reason="server models and scores of CASP are in no package; decoys here are made",
        ),
    )


def experiment(run: Run[Budget]) -> Result:
    """Properties and quality."""
    return Result.of(properties(run, *PROPERTIES), quality_part(run))


def figure(result: Result) -> Figure:
    """Errors of local scores."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] == "quality"]
    names = [str(row["model"]) for row in rows]
    values: dict[str, list[Any]] = {MSE: [row[MSE] for row in rows]}
    return plots.barh(values, names, MSE)

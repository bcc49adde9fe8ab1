"""What is measured of FFR: exact information of mixtures, worst groups of sixteen arms, what features tell of the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from erlangen.survey import Claim, Part, Result, Run, Sizes, Training, compare, properties
from erlangen.systems.learning.from_fake_to_real._groups import group_accuracies, worst_group_interval
from erlangen.systems.learning.from_fake_to_real._properties import PROPERTIES
from erlangen.systems.learning.from_fake_to_real.data import draw
from erlangen.systems.learning.from_fake_to_real.rivals import LOSSES, SETS, ResNet, arms

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        rates: shares r of the majority of each class.
        digits: that training, validation and test are made from.
        epochs: of each stage; a mixture has as many over all that it holds.
        width: channels of the first layer.
    """

    seeds: int
    rates: tuple[float, ...]
    digits: Sizes
    epochs: int
    width: int


BUDGETS = {
    "smoke": Budget(1, (0.95, 0.99), Sizes(400, 260, 200), 1, 4),
    "full": Budget(3, (0.95, 0.99), Sizes(6000, 1000, 2000), 5, 8),
    "paper": Budget(5, (0.9, 0.95, 0.97, 0.99, 0.999), Sizes(50_000, 10_000, 10_000), 50, 32),
}

CLAIMED = (0.95, 0.99)
"""Rates at which something is asked."""


# --- what is measured ------------------------------------------------------------------------------------------------
def validation_row(net: ResNet, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
    """The worst group, of a refitted network before that: it was refitted on these samples."""
    readout, net.readout = net.readout, None
    shares = group_accuracies(answers(net, x["x"]) == y, y, x["b"])
    net.readout = readout
    return {"worst group": 100 * float(shares.min())}


def row(net: ResNet, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
    """Groups of the real test digits; what features of real and synthetic ones tell; how far answers lean on the ground."""
    right = answers(net, x["x"]) == y
    real = x["g"] == 0
    y_, b_ = y[real], x["b"][real]
    shares = 100 * group_accuracies(right[real], y_, b_)
    low, high = worst_group_interval(right[real], y_, b_, generator=generator)
    lean = {
        source: float(own.mean() - other.mean())
        for source, part in (("real", real), ("synthetic", ~real))
        for found in [100 * group_accuracies(right[part], y[part], x["b"][part])]
        for own, other in [(found.diagonal(), found.flip(1).diagonal())]
    }
    with torch.no_grad():
        features = torch.cat([net.features(piece) for piece in x["x"].split(500)])
    even = evenly((4 * y + 2 * x["b"] + x["g"]), generator)
    pair = 2 * x["b"] + x["g"]
    found, due = linear_probe(features[even], pair[even])
    told = {
        "probe of (B, G)": 100 * float((found == due).double().mean()),
        "probe of G": 100 * float((found % 2 == due % 2).double().mean()),
    }
    interval = {"worst group, low": 100 * low, "worst group, high": 100 * high}
    means = {"worst group": float(shares.min()), "balanced": float(shares.mean())}
    leaning = {f"leaning on the ground, {source}": value for source, value in lean.items()}
    return {**net.told, **means, **interval, **told, **leaning}


@torch.no_grad()
def answers(net: ResNet, x: Tensor) -> Tensor:
    """The class of each picture."""
    return torch.cat([net(piece).argmax(1) for piece in x.split(500)])


def evenly(groups: Tensor, generator: Generator) -> Tensor:
    """Equally many random samples of each group, group after group in turn, so that both halves are even too."""
    n = int(torch.bincount(groups).min()) // 2 * 2
    rows = [(groups == value).nonzero()[:, 0] for value in groups.unique().tolist()]
    return torch.stack([part[torch.randperm(len(part), generator=generator)[:n]] for part in rows], 1).flatten()


def linear_probe(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Answers of a logistic regression that learned from the first half of the samples to the second, and the right ones."""
    half = len(labels) // 2
    z = features.double()
    z = (z - z[:half].mean(0)) / z[:half].std(0).clamp(min=1e-9)
    weight = torch.zeros(z.shape[1] + 1, int(labels.max()) + 1, dtype=torch.float64, requires_grad=True)
    z = torch.cat([z, torch.ones(len(z), 1, dtype=torch.float64)], 1)
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(z[:half] @ weight, labels[:half]) + 1e-3 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    return (z[half:] @ weight).argmax(1), labels[half:]


# --- digits ----------------------------------------------------------------------------------------------------------
def digits_part(run: Run[Budget], rate: float) -> Part:
    """Four sets, each with four ways to weigh groups, and real digits without a bias, at one rate."""
    b = run.budget
    # Of the authors: Adam at a constant rate without a schedule, decay 1e-5, batches of 128.
    how = Training(
        cross_entropy, b.epochs, 128, rates=(3e-3, 1e-3), optimizer=torch.optim.Adam, decay=1e-5, schedule=None
    )
    table = compare(
        f"digits, r = {rate:g}",
        arms(b.width),
        partial(draw, rate=rate, sizes=run.sizes(b.digits)),
        how,
        row,
        best="worst group",
        run=run,
        larger=("worst", "balanced"),
        validate=validation_row,
    )
    if rate not in CLAIMED:
        return table.part()
    key = f"{rate:g}".replace(".", "-")
    return table.part(
        *(
            table.not_worse(
                f"two-stages-beat-mixtures-{loss.lower()}-{key}",
                f"FFR + {loss}",
                [f"USB + {loss}", f"ASB + {loss}"],
                "worst group",
                published="up to 20 points more",
            )
            for loss in LOSSES
        ),
        table.beats(f"two-stages-hide-the-source-{key}", "FFR + ERM", ["USB + ERM", "ASB + ERM"], "probe of (B, G)"),
    )


# --- all -------------------------------------------------------------------------------------------------------------
ELSEWHERE = tuple(
    Claim.not_measurable(
        f"worst-group-on-{name.lower().replace(' ', '-')}",
        f"Worst-group accuracy of FFR on {name}, over that of the best of USB and ASB.",
        published="up to 20 points more",
        reason=f"{what} and pictures by Stable Diffusion, which need a download and a GPU",
    )
    for name, what in (
        ("UTKFace", "photographs of faces"),
        ("CelebA HQ", "photographs of faces under a licence"),
        ("SpuCoAnimals", "photographs of ImageNet"),
    )
)


def experiment(run: Run[Budget]) -> Result:
    """Properties, and digits at all rates."""
    rates = CLAIMED[-1:] if run.dry else run.budget.rates
    parts = [digits_part(run, rate) for rate in rates]
    return Result.of(properties(run, *PROPERTIES), *parts, Part(claims=ELSEWHERE))


def figure(result: Result) -> Figure:
    """The worst group of every set and loss, a panel for each rate."""
    from erlangen import plots

    found = {
        (str(row["part"]), str(row["model"])): float(str(row["worst group"]))
        for row in result.rows
        if "worst group" in row
    }
    kinds = list(dict.fromkeys(part for part, _ in found))
    whole, axes = plots.panels(len(kinds))
    for part, ax in zip(kinds, axes, strict=True):
        bars = {loss: [found[part, f"{which} + {loss}"] for which in SETS] for loss in LOSSES}
        plots.barh(bars, list(SETS), f"worst group, % ({part})", ax=ax)
    return whole

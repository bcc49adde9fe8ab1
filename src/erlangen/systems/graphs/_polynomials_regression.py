"""Penalised logP of drug-like molecules: networks of pairs of atoms with and without the polynomials that they lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import l1_loss

from erlangen.data import drug_like_smiles, molecular_graphs, penalized_logp
from erlangen.nn import GIN, mlp
from erlangen.survey.claims import Claim, averaged
from erlangen.systems.graphs._polynomials_network import PPGN, polynomial_features
from erlangen.training import fit, one_cycle

Row = dict[str, Any]
Model = TypeVar("Model", bound=nn.Module)
MODELS = ("GIN", "PPGN", "PPGN + random features", "PPGN++")


@dataclass(frozen=True)
class Budget:
    """Molecules, passes over them, and the widths of the networks, which give them about equally many parameters."""

    train: int
    validation: int
    test: int
    epochs: int
    features: int = 16
    gin_features: int = 40
    readout: int = 64
    layers: int = 3
    batch: int = 16
    rates: tuple[float, ...] = (5e-3, 1e-2)


class Molecules(NamedTuple):
    """All molecules, with what each model reads.

    Attributes:
        pairs: a channel for each kind of bond and, on the diagonal, each element, ``[G, n, n, C]``.
        polynomials: ``[G, n, n, K]``, those that are not zero on all molecules.
        mask: bool ``[G, n]``.
        target: ``[G]``, with mean 0 and variance 1 over the training molecules.
        unit: standard deviation of the target before.
    """

    pairs: Tensor
    polynomials: Tensor
    mask: Tensor
    target: Tensor
    unit: float


def molecules(count: int, train: int, degree: int) -> Molecules:
    """The first `count` molecules."""
    smiles = drug_like_smiles(count)
    dense = molecular_graphs(smiles).dense()
    exists = dense.mask[..., None]
    atoms = nn.functional.one_hot(dense.node_labels, int(dense.node_labels.max()) + 1) * exists
    atoms = atoms[..., atoms.flatten(0, 1).any(0)]
    bonds = nn.functional.one_hot(dense.adj, int(dense.adj.max()) + 1)[..., 1:]
    pairs = torch.cat([bonds, torch.diag_embed(atoms.mT).movedim(1, -1)], -1).float()
    polynomials = polynomial_features((dense.adj > 0).float(), degree, dense.mask)
    kept = polynomials.flatten(0, 2).any(0)
    target = penalized_logp(smiles).float()
    unit, mean = target[:train].std(), target[:train].mean()
    return Molecules(pairs, polynomials[..., kept], dense.mask, (target - mean) / unit, float(unit))


def inputs(name: str, data: Molecules, seed: int) -> dict[str, Tensor]:
    """What a model reads."""
    more = data.pairs[..., :0]
    if name == "PPGN++":
        more = data.polynomials
    elif name == "PPGN + random features":
        draw = torch.rand(data.polynomials.shape, generator=Generator().manual_seed(seed))
        both = (data.mask[:, :, None] & data.mask[:, None])[..., None]
        more = (draw + draw.transpose(1, 2)) * both / data.mask.sum(1)[:, None, None, None]
    return {"adj": torch.cat([data.pairs, more], -1), "mask": data.mask}


class BondGIN(nn.Module):
    """A `GIN` that knows of each atom its element and how many bonds of each kind it has."""

    def __init__(self, in_features: int, features: int, layers: int) -> None:
        super().__init__()
        self.gin = GIN(in_features, 1, features, layers=layers)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[G, 1]``."""
        joined = x["adj"].sum(2)  # of an element its one, of a kind of bond their number
        adj = (x["adj"][..., :4].sum(-1) > 0).to(joined.dtype)
        return self.gin(joined, adj)


def model_of(name: str, channels: int, budget: Budget) -> nn.Module:
    """A fresh network, see `conditioned` and `readout`; its parameters come from torch's global stream."""
    if name == "GIN":
        model = conditioned(BondGIN(channels, budget.gin_features, budget.layers))
        model.gin.decode = readout(budget.gin_features * budget.layers + channels, budget.readout)
    else:
        model = conditioned(PPGN(channels, 1, budget.features, layers=budget.layers))
        model.decode = readout(2 * budget.features * budget.layers, budget.readout)
    return model


def readout(in_features: int, features: int) -> nn.Sequential:
    """A number per molecule, from what is read of it in numbers of one size.

    Means over all pairs hardly differ between molecules, so without the normalisation most steps go into large weights.
    """
    return nn.Sequential(nn.BatchNorm1d(in_features), mlp([in_features, features, 1], nn.ReLU))


def conditioned(model: Model) -> Model:
    """The model with normal weights of variance ``2 / (inputs + outputs)`` and no biases.

    A bias gives all pairs without a bond a common number, and in products of matrices these many numbers drown the few bonds.
    """
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_normal_(part.weight)
            nn.init.zeros_(part.bias)
    return model


def trained(
    name: str,
    x: dict[str, Tensor],
    target: Tensor,
    rows: Sequence[slice],
    epochs: int,
    lr: float,
    budget: Budget,
    seed: int,
) -> tuple[nn.Module, float]:
    """A network fitted to the molecules of the first slice, and its mean absolute error on those of the second."""
    torch.manual_seed(seed)
    model = model_of(name, x["adj"].shape[-1], budget)
    fit(
        model,
        {key: value[rows[0]] for key, value in x.items()},
        target[rows[0]],
        loss=lambda output, y: l1_loss(output[:, 0], y),
        epochs=epochs,
        batch_size=budget.batch,
        lr=lr,
        schedule=one_cycle,
        clip=1.0,
        seed=seed,
        progress=False,
    )
    return model, error(model, {key: value[rows[1]] for key, value in x.items()}, target[rows[1]])


@torch.no_grad()
def error(model: nn.Module, x: dict[str, Tensor], target: Tensor) -> float:
    """Mean absolute error."""
    parts = [
        model({key: value[rows] for key, value in x.items()})[:, 0] for rows in torch.arange(len(target)).split(100)
    ]
    return float((torch.cat(parts) - target).abs().mean())


def _run(name: str, data: Molecules, rows: tuple[slice, ...], lr: float, budget: Budget, seed: int) -> Row:
    """Train a model and test it."""
    x = inputs(name, data, seed)
    model, wrong = trained(name, x, data.target, rows, budget.epochs, lr, budget, seed)
    return {
        "mean absolute error": wrong * data.unit,
        "parameters": sum(p.numel() for p in model.parameters()),
        "channels": x["adj"].shape[-1],
        "learning rate": f"{lr:g}",
        "epochs": budget.epochs,
        "molecules": budget.train,
    }


def _best_rate(name: str, data: Molecules, rows: tuple[slice, ...], budget: Budget, seed: int) -> float:
    """The learning rate with the smallest error on validation molecules after a third of the epochs."""
    first, *others = budget.rates
    if not others:
        return first
    x, short = inputs(name, data, seed), max(1, budget.epochs // 3)
    return min(budget.rates, key=lambda lr: trained(name, x, data.target, rows, short, lr, budget, seed)[1])


def regression_rows(budget: Budget, seeds: Sequence[int], degree: int = 6) -> list[Row]:
    """One row for each model, means over seeds; its learning rate by a third of the epochs of the first seed."""
    held = budget.train + budget.validation
    train, validation, test = slice(budget.train), slice(budget.train, held), slice(held, held + budget.test)
    data = molecules(held + budget.test, budget.train, degree)
    rows: list[Row] = []
    for name in MODELS:
        rate = _best_rate(name, data, (train, validation), budget, seeds[0])
        runs = [_run(name, data, (train, test), rate, budget, seed) for seed in seeds]
        rows.append(averaged(runs, part="regression", model=name))
    middle = data.target[: budget.train].median()
    guess = float((data.target[held : held + budget.test] - middle).abs().mean()) * data.unit
    return [*rows, {**dict.fromkeys(rows[0]), "part": "regression", "model": "median", "mean absolute error": guess}]


def regression_claims(rows: Sequence[Row], *, full: bool) -> list[Claim]:
    """Claims about molecules."""
    table = {row["model"]: row["mean absolute error"] for row in rows}
    claims = [
        Claim.ratio(
            "molecules-are-learned",
            "Error of PPGN++ over that of the median of the training molecules.",
            measured=table["PPGN++"] / table["median"],
            at_most=0.75 if full else 1.1,
        )
    ]
    if not full:
        return claims
    return [
        *claims,
        Claim.ratio(
            "polynomials-beat-none",
            "Error of PPGN++ on test molecules over that of PPGN, mean of three seeds.",
            measured=table["PPGN++"] / table["PPGN"],
            at_most=1,
            published=0.071 / 0.079,
        ),
        Claim.ratio(
            "polynomials-beat-random-features",
            "Error of PPGN++ over that of PPGN with as many random features.",
            measured=table["PPGN++"] / table["PPGN + random features"],
            at_most=1,
        ),
        *(
            Claim.ratio(
                f"{label}-beats-message-passing",
                f"Error of {name} over that of GIN.",
                measured=table[name] / table["GIN"],
                at_most=0.7,
            )
            for label, name in (("ppgn", "PPGN"), ("polynomials", "PPGN++"))
        ),
    ]

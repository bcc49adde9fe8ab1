"""Charged particles: the network on positions and orientations, its rivals, and how all of them are trained."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.enforce import symmetrize
from erlangen.groups import E, O
from erlangen.measure import equivariance_error, median_times
from erlangen.nn import EGNN, CentredMover, IrrepsNetwork, MessagePassing, SpeedEGNN
from erlangen.simulate.charges import Charges, charges_ahead
from erlangen.soft import augment
from erlangen.symmetry import Symmetry
from erlangen.systems.points._ponita_network import Ponita
from erlangen.training import fit, one_cycle

Row = dict[str, Any]

BODIES = {"pos": "points", "vel": "vectors", "charge": "invariant", "edge_attr": "invariant"}
"""How motions act on particles with velocities and charges, and on the products of two charges."""

MOTIONS = Symmetry(E(3), input=BODIES, output="points")

RATES = (1e-2, 2e-2)
"""Learning rates that are tried for every model."""

OURS = "PONITA, 12 directions"
STRAIGHT = "particles keep their velocity"


# --- data -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Budget:
    """What every model gets: systems to train, to choose the learning rate and to test; epochs, and those of a trial."""

    train: int
    validation: int
    test: int
    epochs: int
    trial_epochs: int
    batch_size: int = 100


def splits(budget: Budget, seed: int, charges: bool = False) -> tuple[Charges, Charges, Charges]:
    """Systems to train, to validate and to test."""
    first, second = budget.train, budget.train + budget.validation
    data = charges_ahead(second + budget.test, seed, charges)
    return part(data, 0, first), part(data, first, second), part(data, second, second + budget.test)


def part(data: Charges, first: int, last: int) -> Charges:
    """Systems from first to last."""
    return {key: value[first:last] for key, value in data[0].items()}, data[1][first:last]


@torch.no_grad()
def mean_square(model: nn.Module, data: Charges) -> float:
    """Mean squared error of the predicted coordinates."""
    model.eval()
    return float(mse_loss(model(data[0]), data[1]))


# --- models -----------------------------------------------------------------------------------------------------------
class Oriented(nn.Module):
    """`Ponita` on particles: their velocities are vectors, products of charges condition the kernels."""

    def __init__(self, net: Ponita) -> None:
        super().__init__()
        self.net = net

    def inputs(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network reads."""
        return {"pos": x["pos"], "vec": x["vel"][..., None, :], "edge_attr": x["edge_attr"]}

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]``."""
        return x["pos"] + self.net(self.inputs(x))["vec"][..., 0, :]


class Steered(nn.Module):
    """`IrrepsNetwork` on charges and velocities. It has no features of edges; charges of nodes say as much."""

    def __init__(self, net: IrrepsNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]``."""
        # The library's vectors of degree 1 are (x, y, z) as they stand.
        return x["pos"] + self.net(torch.cat([x["charge"], x["vel"]], -1), x["pos"])


def oriented(directions: int = 12, layer_scale: float = 1e-6, generator: Generator | None = None) -> Oriented:
    """`Ponita` in the size of the experiment."""
    net = Ponita(
        0,
        1,
        vectors_out=1,
        directions=directions,
        width=32,
        layers=3,
        basis=24,
        widening=2,
        edge_features=1,
        layer_scale=layer_scale,
        generator=generator,
    )
    return Oriented(net)


def plain() -> CentredMover:
    """Message passing on coordinates."""
    return CentredMover(MessagePassing(6, 3, 32, layers=3, edge_features=1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    OURS: oriented,
    "EGNN": lambda: SpeedEGNN(EGNN(1, 1, 28, layers=3, edge_features=1, velocity=True)),
    "irreps network": lambda: Steered(
        IrrepsNetwork(
            "1x0e+1x1o",
            "24x0e+16x1o+8x1e",
            "1x1o",
            lmax_edge=1,
            layers=3,
            cutoff=15.0,
            num_neighbors=4.0,
        )
    ),
    "FA-GNN": lambda: symmetrize(plain(), MOTIONS, on_degenerate="allow"),
    "GNN, augmented": plain,
}


# --- data and training ------------------------------------------------------------------------------------------------
def trained(name: str, data: Charges, epochs: int, batch_size: int, rate: float, seed: int) -> nn.Module:
    """One model, trained with a learning rate that rises, then falls to zero along a cosine."""
    torch.manual_seed(seed)
    model = MODELS[name]()
    if isinstance(model, Oriented):
        model.net.calibrate_(model.inputs(part(data, 0, batch_size)[0]))
    fit(
        model,
        *data,
        loss=mse_loss,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=lambda p: torch.optim.Adam(p, lr=rate, weight_decay=1e-12),
        schedule=one_cycle,
        transform=turned if name in (OURS, "GNN, augmented") else None,
        clip=1.0,
        seed=seed,
        progress=False,
    )
    return model


turned = augment(Symmetry(O(3), input=BODIES, output="points"))
"""Turns and mirrors every system anew in each step, for models that are not exact."""


def best_rate(name: str, train: Charges, validation: Charges, budget: Budget, seed: int) -> float:
    """The learning rate of the smallest error on validation data after a short training."""
    errors = {
        rate: mean_square(trained(name, train, budget.trial_epochs, budget.batch_size, rate, seed), validation)
        for rate in RATES
    }
    return min(errors, key=errors.__getitem__)


def step_milliseconds(model: nn.Module, data: Charges, batch_size: int, repeats: int = 7) -> float:
    """Median processor time of one step of training, without the optimiser."""
    x, y = part(data, 0, batch_size)
    model.train()
    step = median_times({"": lambda: mse_loss(model(x), y).backward()}, repeats, warmup=0, clock=time.process_time)[""]
    model.zero_grad()
    return 1e3 * step


def broken(model: nn.Module, x: dict[str, Tensor], seed: int) -> float:
    """Mean equivariance error under 20 motions, of predicted displacements: positions would hide errors behind their size."""

    def displacement(z: dict[str, Tensor]) -> Tensor:
        return model(z) - z["pos"]

    symmetry = Symmetry(O(3), input=BODIES, output="vectors")
    model.eval()
    return float(equivariance_error(displacement, symmetry, x, elements=20, chunk=5, seed=seed))


def nbody_runs(
    name: str, budget: Budget, seeds: Sequence[int], keep: Callable[[int, nn.Module], None] | None = None
) -> list[Row]:
    """What each seed measures; the learning rate is chosen on the first. `keep` is shown every trained model."""
    runs: list[Row] = []
    rate = 0.0
    for seed in seeds:
        train, validation, test = splits(budget, seed, charges=True)
        rate = rate or best_rate(name, train, validation, budget, seed)
        model = trained(name, train, budget.epochs, budget.batch_size, rate, seed)
        if keep is not None:
            keep(seed, model)
        runs.append(
            {
                "test mse": mean_square(model, test),
                "equivariance error": broken(model, part(test, 0, 50)[0], seed),
                "step, ms": step_milliseconds(model, train, budget.batch_size),
                "learning rate": str(rate),
                "parameters": sum(p.numel() for p in model.parameters()),
                "epochs": budget.epochs,
                "samples": budget.train,
            }
        )
    return runs


def straight_runs(budget: Budget, seeds: Sequence[int]) -> list[Row]:
    """The error of a guess without a network: particles keep their velocity for one unit of time."""
    tests = [splits(budget, seed, charges=True)[2] for seed in seeds]
    return [{"test mse": float(mse_loss(x["pos"] + x["vel"], y)), "parameters": 0} for x, y in tests]


# --- other grids ------------------------------------------------------------------------------------------------------
GRIDS = (6, 12, 20, 32, 64)


def grid_rows(models: Sequence[tuple[str, Oriented]], test: Charges, few: int, seed: int) -> list[Row]:
    """The same parameters on grids of more and more directions: equivariance error and test error, mean over models.

    Args:
        models: all of one kind, with the name of that kind.
        test: systems.
        few: systems for the equivariance error.
        seed: of the rotations.
    """
    rows: list[Row] = []
    kind = models[0][0]
    for count in GRIDS:
        nets = [Oriented(model.net.with_directions(count)) for _, model in models]
        rows.append(
            {
                "part": "grids",
                "model": f"{kind}, {count} directions",
                "directions": count,
                "equivariance error": statistics.mean(broken(net, part(test, 0, few)[0], seed) for net in nets),
                "test mse": statistics.mean(mean_square(net, test) for net in nets),
                "seeds": len(nets),
            }
        )
    return rows


def random_networks(count: int, data: Charges, seed: int) -> list[tuple[str, Oriented]]:
    """Networks with random parameters, calibrated, whose blocks count fully from the start."""
    found: list[tuple[str, Oriented]] = []
    for k in range(count):
        model = oriented(layer_scale=1.0, generator=Generator().manual_seed(seed + k))
        model.net.calibrate_(model.inputs(data[0]))
        found.append(("random", model.eval()))
    return found

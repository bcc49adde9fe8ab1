"""What the network with random parameters keeps: motions, shifts and the order of the points, and more on finer grids."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.groups import O, Symmetric, Translation
from erlangen.measure import equivariance_error
from erlangen.simulate import charges_ahead
from erlangen.survey import Run, bound, exact
from erlangen.symmetry import Symmetry
from erlangen.systems.points.ponita.method import Ponita
from erlangen.systems.points.ponita.rivals import BODIES, Oriented, oriented

SPACES: dict[str, dict[str, Any]] = {
    "positions": {"directions": 0},
    "positions, plane": {"directions": 0, "dim": 2},
    "6 directions": {"directions": 6},
    "8 directions": {"directions": 8},
    "12 directions": {"directions": 12},
    "20 directions": {"directions": 20},
    "8 directions, plane": {"directions": 8, "dim": 2},
    "edges": {"directions": "edges"},
    "edges, complete": {"directions": "edges", "complete": True},
    "edges, plane": {"directions": "edges", "dim": 2},
}


def network(options: dict[str, Any], seed: int) -> Ponita:
    """Random parameters, whose blocks count fully."""
    vectors = 0 if options["directions"] == 0 else 1
    net = Ponita(
        2,
        2 * vectors,
        scalars_out=2,
        vectors_out=vectors,
        edge_features=1,
        width=16,
        layers=2,
        basis=12,
        layer_scale=1.0,
        generator=Generator().manual_seed(seed),
        **options,
    )
    return net.eval()


def clouds(net: Ponita, count: int, dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """Complete graphs of 5 points, as the network reads them."""
    generator = Generator().manual_seed(seed)

    def randn(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    x = {"pos": randn(count, 5, net.dim), "x": randn(count, 5, 2), "edge_attr": randn(count, 5, 5, 1)}
    return x | ({"vec": randn(count, 5, 2, net.dim)} if net.sizes[1] else {})


def largest_under_motions(run: Run[Any], dtype: torch.dtype, names: Iterable[str]) -> float:
    """Largest error of four clouds, in these spaces, under all elements of finite groups, or as many as the budget says."""
    worst = 0.0
    for name in names:
        net = network(SPACES[name], run.seed).to(dtype)
        x = clouds(net, 4, dtype, run.seed)
        net.calibrate_(x)
        count = run.budget.elements if net.symmetry.group.order == math.inf else None
        found = equivariance_error(net, None, x, elements=count, reduce="max", chunk=20, seed=run.seed)
        worst = max(worst, float(found))
    return worst


@exact(tol=1e-12, float32=1e-5)
def grid_rotations_exact(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest error on grids of directions under all rotations that permute them, random parameters."""
    return largest_under_motions(run, dtype, [name for name in SPACES if name[0].isdigit()])


@exact(tol=1e-12, float32=1e-5)
def all_motions_exact(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest error on positions and on edges as oriented points under random motions, random parameters."""
    return largest_under_motions(run, dtype, [name for name in SPACES if not name[0].isdigit()])


@exact(tol=1e-12, float32=1e-5)
def shifts_and_order_exact(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest error of networks on all spaces under shifts, and when points change their order, random parameters."""
    worst = 0.0
    for options in SPACES.values():
        net = network(options, run.seed).to(dtype)
        x = clouds(net, 4, dtype, run.seed)
        net.calibrate_(x)
        shifts = Translation(net.dim).sample(10, generator=run.generator(), dtype=dtype)
        actions = {key: {"pos": "points", "vec": "vectors"}.get(key, "invariant") for key in x}
        results = {"x": "invariant"} | ({"vec": "vectors"} if net.sizes[3] else {})
        moving = Symmetry(Translation(net.dim), input=actions, output=results)
        shifted = float(equivariance_error(net, moving, x, elements=shifts, reduce="max", chunk=20))
        worst = max(worst, shifted, order_error(net, x, run.seed))
    return worst


@torch.no_grad()
def order_error(net: Ponita, x: dict[str, Tensor], seed: int) -> float:
    """Largest relative difference between answers in another order and the answers to points in that order."""
    order = Symmetric(5).sample(1, generator=Generator().manual_seed(seed + 1))[0]
    again = {key: value[:, order] for key, value in x.items()}
    again["edge_attr"] = again["edge_attr"][:, :, order]
    pairs = [(value[:, order], net(again)[key]) for key, value in net(x).items()]
    return max(float((a - b).norm() / a.norm()) for a, b in pairs)


# --- finer grids ------------------------------------------------------------------------------------------------------
GRIDS = (6, 12, 20, 32, 64)


def broken(model: nn.Module, x: dict[str, Tensor], seed: int) -> float:
    """Mean equivariance error under 20 motions, of predicted displacements: positions would hide errors behind their size."""

    def displacement(z: dict[str, Tensor]) -> Tensor:
        return model(z) - z["pos"]

    symmetry = Symmetry(O(3), input=BODIES, output="vectors")
    model.eval()
    return float(equivariance_error(displacement, symmetry, x, elements=20, chunk=5, seed=seed))


def random_network(seed: int) -> Oriented:
    """A network of particles with random parameters, calibrated, whose blocks count fully from the start."""
    few = charges_ahead(100, seed, True)[0]
    return oriented(layer_scale=1.0, calibrated_on=few, generator=Generator().manual_seed(seed)).eval()


@cache
def random_errors(networks: int, few: int, seed: int) -> tuple[float, ...]:
    """Equivariance errors on `GRIDS` of networks with random parameters, on a few systems, mean over networks."""
    x = {key: value[:few] for key, value in charges_ahead(100, seed + networks, True)[0].items()}
    nets = [random_network(seed + k).net for k in range(networks)]
    return tuple(
        statistics.mean(broken(Oriented(net.with_directions(count)), x, seed) for net in nets) for count in GRIDS
    )


def errors_on_grids(run: Run[Any]) -> tuple[float, ...]:
    """Equivariance errors on `GRIDS`, random parameters; in a dry run of one network and two systems."""
    return random_errors(1, 2, run.seed) if run.dry else random_errors(run.budget.networks, run.budget.few, run.seed)


@bound(at_most=0.25)
def more_directions_random(run: Run[Any]) -> float:
    """Equivariance error on 64 directions over that on 6, random parameters."""
    errors = errors_on_grids(run)
    return errors[-1] / errors[0]


@exact(tol=0)
def error_falls_with_directions(run: Run[Any]) -> float:
    """Steps from 6 to 12, 20, 32 and 64 directions on which the equivariance error does not fall, random parameters."""
    errors = errors_on_grids(run)
    return sum(after >= before for before, after in itertools.pairwise(errors))


PROPERTIES = (
    grid_rotations_exact,
    all_motions_exact,
    shifts_and_order_exact,
    more_directions_random,
    error_falls_with_directions,
)

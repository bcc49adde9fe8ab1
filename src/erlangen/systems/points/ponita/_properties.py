"""What holds without training: symmetries of the network, numbers that name classes of pairs, smaller errors on finer grids."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from erlangen.geometry import PairInvariants
from erlangen.groups import SO, O, Symmetric, Translation
from erlangen.measure import equivariance_error
from erlangen.simulate import charges_ahead
from erlangen.survey import Run, bound, exact, largest
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
        worst = largest(worst, float(found))
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
        worst = largest(worst, shifted, order_error(net, x, run.seed))
    return worst


@torch.no_grad()
def order_error(net: Ponita, x: dict[str, Tensor], seed: int) -> float:
    """Largest relative difference between answers in another order and the answers to points in that order."""
    order = Symmetric(5).sample(1, generator=Generator().manual_seed(seed + 1))[0]
    again = {key: value[:, order] for key, value in x.items()}
    again["edge_attr"] = again["edge_attr"][:, :, order]
    pairs = [(value[:, order], net(again)[key]) for key, value in net(x).items()]
    return largest(float((a - b).norm() / a.norm()) for a, b in pairs)


# --- numbers that name classes of pairs ------------------------------------------------------------------------------
CLASSES = ("R^n", "R^2xS^1", "R^3xS^2", "SE(2)", "SE(3)")


class Pairs(NamedTuple):
    """Pairs of points, ``r = x_j - x_i [M, n]``, with orientations: vectors ``[M, n]``, rotations ``[M, n, n]``, or none."""

    r: Tensor
    first: Tensor | None
    second: Tensor | None

    def turned(self, turns: Tensor) -> Pairs:
        """Every pair by a rotation ``[M, n, n]`` of its own."""
        others = [None if o is None else turns @ o if o.dim() == 3 else act(turns, o) for o in self[1:]]
        return Pairs(act(turns, self.r), others[0], others[1])

    def vectors(self) -> Tensor:
        """All that turns with the pair, as columns ``[M, n, K]``."""
        parts = [self.r[..., None]]
        parts += [o if o.dim() == 3 else o[..., None] for o in self[1:] if o is not None]
        return torch.cat(parts, -1)

    def numbers(self, space: str, *, complete: bool = True) -> Tensor:
        """The invariants of every pair, with x_i at the origin."""
        return PairInvariants(space, complete=complete)(torch.zeros_like(self.r), self.r, self.first, self.second)


def act(turns: Tensor, v: Tensor) -> Tensor:
    """Matrices ``[M, n, n]`` on vectors ``[M, n]``."""
    return (turns @ v[..., None])[..., 0]


def random_pairs(space: str, count: int, generator: Generator) -> Pairs:
    """Pairs in one of the spaces, in float64."""
    n = 2 if space in ("R^2xS^1", "SE(2)") else 3
    r = torch.randn(count, n, generator=generator, dtype=torch.float64)
    if space == "R^n":
        return Pairs(r, None, None)
    first, second = (SO(n).sample(count, generator=generator, dtype=torch.float64) for _ in range(2))
    return Pairs(r, first, second) if space.startswith("SE") else Pairs(r, first[..., 0], second[..., 0])


def pairs_named(space: str, numbers: Tensor) -> Pairs:
    """A pair in a standard place with these complete invariants, from nothing but them."""
    if space == "R^n":
        return Pairs(torch.nn.functional.pad(numbers, (0, 2)), None, None)
    if space.startswith("SE"):
        n = int(space[3])
        one = torch.eye(n).to(numbers).expand(len(numbers), n, n)
        return Pairs(numbers[:, :n], one, numbers[:, n:].unflatten(1, (n, n)))
    if space == "R^2xS^1":
        first = torch.tensor([1.0, 0.0]).to(numbers).expand(len(numbers), 2)
        return Pairs(numbers[:, :2], first, numbers[:, 2:])
    along, across, cosine, other, volume = numbers.unbind(1)
    zero, one = torch.zeros_like(along), torch.ones_like(along)
    # o_i is e_z and r = (across, 0, along); what is left of o_j follows from o_j.r and the determinant.
    second = torch.stack([(other - cosine * along) / across, -volume / across, cosine], 1)
    return Pairs(torch.stack([across, zero, along], 1), torch.stack([zero, zero, one], 1), second)


def apart(a: Pairs, b: Pairs) -> Tensor:
    """What is left ``[M]`` between two pairs after the rotation that brings them closest (Kabsch), over the length of r."""
    x, y = a.vectors(), b.vectors()
    u, _, vh = torch.linalg.svd(y @ x.mT)
    signs = torch.ones_like(u[:, 0])
    signs[:, -1] = torch.linalg.det(u @ vh)
    return ((u * signs[:, None]) @ vh @ x - y).flatten(1).norm(dim=1) / a.r.norm(dim=1)


@exact(tol=1e-12)
def invariants_unchanged(run: Run[Any]) -> float:
    """Largest change of the numbers of pairs, for positions, oriented points and the whole group, under 1000 rotations each."""
    worst = 0.0
    for space in CLASSES:
        pairs = random_pairs(space, 1000, run.generator())
        turns = SO(pairs.r.shape[1]).sample(1000, generator=run.generator(1), dtype=torch.float64)
        change = pairs.turned(turns).numbers(space) - pairs.numbers(space)
        worst = largest(worst, float(change.abs().max()))
    return worst


@exact(tol=1e-9)
def complete_numbers_name_the_class(run: Run[Any]) -> float:
    """Largest distance of 1000 pairs in each space to pairs built from their complete numbers alone, after the best rotation."""
    worst = 0.0
    for space in CLASSES:
        pairs = random_pairs(space, 1000, run.generator())
        worst = largest(worst, float(apart(pairs, pairs_named(space, pairs.numbers(space))).max()))
    return worst


def confused_pairs(angle: float) -> Pairs:
    """o_i = e_z, r = e_x, and o_j about e_z by an angle, which the paper's three numbers do not depend on."""
    r, first = torch.eye(3, dtype=torch.float64)[[0, 2]]
    second = torch.tensor([0.6 * math.cos(angle), 0.6 * math.sin(angle), 0.8], dtype=torch.float64)
    return Pairs(r[None], first[None], second[None])


@bound(at_least=0.1)
def three_numbers_are_not_enough(run: Run[Any]) -> float:
    """Distance after the best rotation of two pairs of oriented points in space that have the same three numbers of the paper."""
    a, b = confused_pairs(0.0), confused_pairs(2.0)
    same = float((a.numbers("R^3xS^2", complete=False) - b.numbers("R^3xS^2", complete=False)).abs().max()) < 1e-15
    return float(apart(a, b)) if same else 0.0


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
    few = charges_ahead(100, seed)[0]
    return oriented(layer_scale=1.0, calibrated_on=few, generator=Generator().manual_seed(seed)).eval()


@cache
def random_errors(networks: int, few: int, seed: int) -> tuple[float, ...]:
    """Equivariance errors on `GRIDS` of networks with random parameters, on a few systems, mean over networks."""
    x = {key: value[:few] for key, value in charges_ahead(100, seed + networks)[0].items()}
    nets = [random_network(seed + k).net for k in range(networks)]
    return tuple(
        statistics.mean(broken(Oriented(net.with_directions(count)), x, seed) for net in nets) for count in GRIDS
    )


def errors_on_grids(run: Run[Any]) -> tuple[float, ...]:
    """Equivariance errors on `GRIDS`, random parameters; in a dry run of one network and two systems."""
    return random_errors(1, 2, run.seed) if run.dry else random_errors(run.budget.networks, run.budget.few, run.seed)


@exact(tol=0)
def error_falls_with_directions(run: Run[Any]) -> float:
    """Steps from 6 to 12, 20, 32 and 64 directions on which the equivariance error does not fall, random parameters."""
    errors = errors_on_grids(run)
    return sum(after >= before for before, after in itertools.pairwise(errors))


PROPERTIES = (
    grid_rotations_exact,
    all_motions_exact,
    shifts_and_order_exact,
    invariants_unchanged,
    complete_numbers_name_the_class,
    three_numbers_are_not_enough,
    error_falls_with_directions,
)

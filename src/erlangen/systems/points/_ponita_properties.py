"""What the network with random parameters keeps exactly: motions, shifts and the order of the points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.groups import Symmetric, Translation
from erlangen.measure import equivariance_error
from erlangen.survey.claims import Claim
from erlangen.symmetry import Symmetry
from erlangen.systems.points._ponita_network import Ponita

Row = dict[str, Any]

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
PRECISIONS = (torch.float32, torch.float64)


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


def property_rows(elements: int, seed: int) -> list[Row]:
    """Largest errors, for every space and precision, of four clouds, under all elements of finite groups, or so many."""
    rows: list[Row] = []
    for name, options in SPACES.items():
        for dtype in PRECISIONS:
            net = network(options, seed).to(dtype)
            x = clouds(net, 4, dtype, seed)
            net.calibrate_(x)
            shifts = Translation(net.dim).sample(10, generator=Generator().manual_seed(seed), dtype=dtype)
            order = net.symmetry.group.order
            count = elements if order == math.inf else None  # of a finite group all
            actions = {key: {"pos": "points", "vec": "vectors"}.get(key, "invariant") for key in x}
            results = {"x": "invariant"} | ({"vec": "vectors"} if net.sizes[3] else {})
            moving = Symmetry(Translation(net.dim), input=actions, output=results)
            errors = {
                "motions": equivariance_error(net, None, x, elements=count, reduce="max", chunk=20, seed=seed),
                "shifts": equivariance_error(net, moving, x, elements=shifts, reduce="max", chunk=20),
                "order": order_error(net, x, seed),
            }
            row = {"part": "properties", "model": f"{name}, {str(dtype).removeprefix('torch.')}"}
            rows.append(
                {**row, "group": net.symmetry.group.name, **{f"error, {k}": float(v) for k, v in errors.items()}}
            )
    return rows


@torch.no_grad()
def order_error(net: Ponita, x: dict[str, Tensor], seed: int) -> float:
    """Largest relative difference between answers in another order and the answers to points in that order."""
    order = Symmetric(5).sample(1, generator=Generator().manual_seed(seed + 1))[0]
    again = {key: value[:, order] for key, value in x.items()}
    again["edge_attr"] = again["edge_attr"][:, :, order]
    pairs = [(value[:, order], net(again)[key]) for key, value in net(x).items()]
    return max(float((a - b).norm() / a.norm()) for a, b in pairs)


def property_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about exactness."""

    def worst(column: str, precision: str, start: tuple[str, ...] = ("",)) -> float:
        return max(r[column] for r in rows if r["model"].endswith(precision) and r["model"].startswith(start))

    on_grids = tuple(name for name in SPACES if name[0].isdigit())
    claims: list[Claim] = []
    for precision, tol in (("float32", 1e-5), ("float64", 1e-12)):
        claims += [
            Claim.exact(
                f"grid-rotations-exact-{precision}",
                f"Largest error on grids of directions under all rotations that permute them, random parameters, {precision}.",
                measured=worst("error, motions", precision, on_grids),
                tol=tol,
            ),
            Claim.exact(
                f"all-motions-exact-{precision}",
                f"Largest error on positions and on edges as oriented points under random motions, {precision}.",
                measured=worst("error, motions", precision, ("positions", "edges")),
                tol=tol,
            ),
            Claim.exact(
                f"shifts-and-order-exact-{precision}",
                f"Largest error of any of the networks under shifts, and when points change their order, {precision}.",
                measured=max(worst(f"error, {what}", precision) for what in ("shifts", "order")),
                tol=tol,
            ),
        ]
    return claims

"""Quasi-uniform, deterministic point sets on the circle, the sphere and SO(3), with equal weights.

Points are computed in float64 and cast; dtype defaults to torch's default dtype. On a grid of n points the
mean of a smooth function approaches its integral much faster than the ``n^(-1/2)`` of random points.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from torch import Tensor

from erlangen.errors import GroupError, is_whole

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
"""Turn from one point of the Fibonacci sphere to the next, in radians."""
SUPER_FIBONACCI_PSI = 1.533751168755204288118041
"""The positive root of ``psi^4 = psi + 4`` (Alexa 2022)."""


def circle_grid(n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
    """n equidistant unit vectors ``[n, 2]``, counter-clockwise from (1, 0).

    Integrates trigonometric polynomials up to degree n - 1 exactly.

    Raises:
        GroupError: n is not a positive integer.
    """
    theta = circle_angles(n)
    return _cast(torch.stack([theta.cos(), theta.sin()], -1), dtype, device)


def circle_angles(n: int) -> Tensor:
    """The n angles ``2 pi i / n`` of `circle_grid`, in radians, float64 ``[n]``."""
    check_count(n)
    return 2 * math.pi * torch.arange(n, dtype=torch.float64) / n


def sphere_grid(
    n: int,
    method: str = "fibonacci",
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """n unit vectors ``[n, 3]`` on the sphere.

    ==============  ==================================================================================================
    method          points
    ==============  ==================================================================================================
    ``fibonacci``   the Fibonacci lattice around the z axis, from north to south; each point has the same share of the
                    area (Gonzalez, "Measurement of areas on a sphere using Fibonacci and latitude-longitude lattices",
                    2010)
    ``repulsion``   equal charges at rest, from the Fibonacci lattice: a minimum of their Coulomb energy, not always the
                    lowest one (the problem of Thomson). For n = 4, 6 and 12 these are Platonic solids
    ``platonic``    the corners of a regular solid, for n = 4, 6, 8, 12 and 20, which the elements of `Tetrahedral`,
                    `Octahedral` (6, 8) and `Icosahedral` (12, 20) permute
    ``healpix``     middles of the cells of HEALPix, for n = 12 k^2, ring by ring from north to south; cells have equal
                    areas, and quarter turns about the z axis permute them (Gorski et al. 2005, equations 4 to 9)
    ==============  ==================================================================================================

    Raises:
        GroupError: n is not a positive integer, or not that of a regular solid or of HEALPix, or the method is unknown.
    """
    check_count(n)
    if method == "fibonacci":
        points = _fibonacci(n)
    elif method == "repulsion":
        points = _repelled(n)
    elif method == "platonic":
        points = _platonic(n)
    elif method == "healpix":
        z, phi = _healpix(n)
        radius = (1 - z.square()).sqrt()
        points = torch.stack([radius * phi.cos(), radius * phi.sin(), z], -1)
    else:
        raise GroupError(f"method = {method!r}: choose 'fibonacci', 'repulsion', 'platonic' or 'healpix'")
    return _cast(points, dtype, device)


def _fibonacci(n: int) -> Tensor:
    i = torch.arange(n, dtype=torch.float64)
    z = 1 - (2 * i + 1) / n
    radius, phi = (1 - z.square()).sqrt(), GOLDEN_ANGLE * i
    return torch.stack([radius * phi.cos(), radius * phi.sin(), z], -1)


@functools.cache
def _repelled(n: int) -> Tensor:
    """A minimum of ``sum 1 / |x_i - x_j|`` by L-BFGS (scipy), over free vectors whose length does not count."""
    if n < 3:
        return torch.tensor([[0.0, 0, 1], [0, 0, -1]], dtype=torch.float64)[:n]
    from scipy.optimize import minimize

    upper = np.triu_indices(n, 1)

    def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
        free = flat.reshape(n, 3)
        lengths = np.linalg.norm(free, axis=1, keepdims=True)
        x = free / lengths
        apart = x[:, None] - x
        inverse = np.zeros((n, n))
        inverse[upper] = 1 / np.linalg.norm(apart[upper], axis=-1)
        inverse += inverse.T
        slope = -(apart * inverse[..., None] ** 3).sum(1)
        slope -= (slope * x).sum(1, keepdims=True) * x
        return inverse.sum() / 2, (slope / lengths).ravel()

    start = _fibonacci(n).numpy().ravel()
    found = minimize(energy, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 0, "gtol": 1e-9})
    points = torch.from_numpy(found.x.reshape(n, 3))
    return points / points.norm(dim=-1, keepdim=True)


def _platonic(n: int) -> Tensor:
    golden = (1 + math.sqrt(5)) / 2
    cube = torch.tensor(list(itertools.product((1.0, -1.0), repeat=3)), dtype=torch.float64)

    def cycled(a: float, b: float) -> Tensor:
        """The cyclic permutations of (0, +-a, +-b)."""
        corners = [(0.0, s * a, t * b) for s in (1, -1) for t in (1, -1)]
        return torch.tensor([c[k:] + c[:k] for c in corners for k in range(3)], dtype=torch.float64)

    solids = {
        4: lambda: cube[cube.prod(-1) > 0],
        6: lambda: torch.cat([torch.eye(3), -torch.eye(3)]).double(),
        8: lambda: cube,
        12: lambda: cycled(1.0, golden),
        20: lambda: torch.cat([cube, cycled(golden, 1 / golden)]),
    }
    if n not in solids:
        raise GroupError(f"n = {n}: regular solids have 4, 6, 8, 12 or 20 corners; use method='repulsion' for others")
    points = solids[n]()
    return points / points.norm(dim=-1, keepdim=True)


def _healpix(n: int) -> tuple[Tensor, Tensor]:
    """Heights z and longitudes phi of the middles of n cells, in rings."""
    side = math.isqrt(n // 12)
    if 12 * side**2 != n:
        raise GroupError(
            f"n = {n}: HEALPix has 12 k^2 cells, such as {12 * max(side, 1) ** 2} or {12 * (side + 1) ** 2}"
        )
    ring = torch.arange(1, 4 * side, dtype=torch.float64)
    north = torch.minimum(ring, 4 * side - ring)  # the ring counted from the nearer pole
    cap = north < side
    z = torch.where(cap, (1 - north.square() / (3 * side**2)) * (2 * side - ring).sign(), (4 - 2 * ring / side) / 3)
    count = 4 * torch.where(cap, north, side).long()
    # In the belt every other ring is turned by half a cell; in the caps all are.
    first = torch.where(cap, 0.5, 0.5 * ((ring - side + 1) % 2))
    step = (2 * math.pi / count.double()).repeat_interleave(count)
    place = torch.cat([torch.arange(int(m), dtype=torch.float64) + f for m, f in zip(count, first, strict=True)])
    return z.repeat_interleave(count), place * step


def so3_grid(
    n: int,
    method: str = "super-fibonacci",
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """n rotations as unit quaternions ``[n, 4]`` (w, x, y, z).

    ===================  =============================================================================================
    method               rotations
    ===================  =============================================================================================
    ``super-fibonacci``  the spiral of Alexa, "Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3)", CVPR
                         2022, algorithm 1, with phi = sqrt 2 and psi^4 = psi + 4; `SO(3).grid` gives the same as matrices
    ``healpix``          for n = 72 * 8^k, cells of equal volume (Yershova et al. 2010): ``Y(a) X(b) Y(c)``, the y axis
                         turned to the 12 * 4^k middles of HEALPix about y, and 6 * 2^k angles c. Quarter turns about y from
                         the left permute it. Levels k = 2, 3, 5 lie about 15, 7.5 and 1.9 degrees apart
    ===================  =============================================================================================

    Raises:
        GroupError: n is not a positive integer, or not that of a level, or the method is unknown.
    """
    check_count(n)
    if method == "super-fibonacci":
        q = _super_fibonacci(n)
    elif method == "healpix":
        q = _healpix_rotations(n)
    else:
        raise GroupError(f"method = {method!r}: choose 'super-fibonacci' or 'healpix'")
    return _cast(q, dtype, device)


def _super_fibonacci(n: int) -> Tensor:
    s = torch.arange(n, dtype=torch.float64) + 0.5
    t = s / n
    alpha, beta = 2 * math.pi * s / math.sqrt(2), 2 * math.pi * s / SUPER_FIBONACCI_PSI
    r, rest = t.sqrt(), (1 - t).sqrt()
    return torch.stack([r * alpha.sin(), r * alpha.cos(), rest * beta.sin(), rest * beta.cos()], -1)


def _healpix_rotations(n: int) -> Tensor:
    level = round(math.log(n / 72, 8)) if n >= 72 else 0
    if 72 * 8**level != n:
        raise GroupError(
            f"n = {n}: the grid has 72 * 8^k rotations, such as {72 * 8**level} or {72 * 8 ** (level + 1)}"
        )
    turns = 6 * 2**level
    z, a = _healpix(12 * 4**level)
    c = circle_angles(turns)
    # Half angles of Y(a) X(b) Y(c), multiplied out.
    half = z.clamp(-1, 1).acos()[:, None] / 2
    plus, minus = (a[:, None] + c) / 2, (a[:, None] - c) / 2
    q = [half.cos() * plus.cos(), half.sin() * minus.cos(), half.cos() * plus.sin(), -half.sin() * minus.sin()]
    return torch.stack([part.expand(-1, turns).flatten() for part in q], -1)


def check_count(n: int) -> None:
    """Raise `GroupError` unless n is a positive integer."""
    if not is_whole(n, 1):
        raise GroupError(f"n must be a positive integer, got {n!r}")


def _cast(x: Tensor, dtype: torch.dtype | None, device: torch.device | str | None) -> Tensor:
    return x.to(dtype=dtype or torch.get_default_dtype(), device=device or torch.get_default_device())

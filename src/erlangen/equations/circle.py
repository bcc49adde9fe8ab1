"""Diffeomorphisms of the circle, the Schwarzian cocycle, and an invariant of the coadjoint orbits of the Virasoro group.

>>> import math, torch
>>> g = CircleMap.from_modes(sine=[0.3], cosine=[0.0, 0.1])  # phi + 0.3 sin(phi) + 0.1 cos(2 phi)
>>> back = g.inverse().compose(g)
>>> float(back.shift.abs().max()) < 1e-12
True
>>> theta = torch.full((256,), -0.25, dtype=torch.float64)
>>> abs(float(hill_trace(theta)) - 2 * math.cos(math.pi / 2)) < 1e-9
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, ShapeError, check_finite, check_integer

POINTS = 256
"""Grid points of a circle, by default."""


def circle_points(points: int = POINTS) -> Tensor:
    """Angles ``2 pi k / points``, float64 ``[points]``."""
    return torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)


@dataclass(frozen=True, eq=False)
class CircleMap:
    """An increasing smooth map of the circle to itself, ``g(phi) = phi + shift(phi)``, from values on an even grid.

    Between the grid points it is the trigonometric interpolation of these values: exact for maps whose modes are below half
    the number of points, and with an error that falls faster than any power of it for smooth ones. Whether a map is smooth and
    periodic cannot be seen from its values, but `tail` of them tells where the grid does not hold it.

    Args:
        shift: ``g(phi) - phi`` at ``2 pi k / n``, periodic and without jumps by whole turns, float64 ``[n]``.

    Raises:
        DtypeError, ShapeError, NotFiniteError: `shift` is no finite float64 ``[n]``, n at least 4.
        ErlangenError: the map is not increasing, so that it has no inverse.
    """

    shift: Tensor

    def __post_init__(self) -> None:
        _check("shift", self.shift)
        fine = _finer(1 + derivative(self.shift), 4)
        if float(fine.min()) <= 0:
            raise ErlangenError(
                f"shift: g' falls to {float(fine.min()):.3g}; a map of the circle must increase. Shrink it, or, if"
                " it does, see that the values are g(phi) - phi, without jumps by whole turns"
            )

    @classmethod
    def from_modes(
        cls, sine: Sequence[float] = (), cosine: Sequence[float] = (), turn: float = 0.0, points: int = POINTS
    ) -> CircleMap:
        """``phi + turn + sum_n sine[n-1] sin(n phi) + cosine[n-1] cos(n phi)``.

        Raises:
            ErlangenError: more modes than the points can tell apart, or the map is not increasing.
        """
        check_integer("points", points, 4)
        if 2 * max(len(sine), len(cosine)) >= points:
            raise ErlangenError(
                f"points = {points} cannot hold {max(len(sine), len(cosine))} modes; give more than twice as many"
            )
        phi = circle_points(points)
        shift = torch.full_like(phi, turn)
        for wave, sizes in ((torch.sin, sine), (torch.cos, cosine)):
            for n, value in enumerate(sizes, 1):
                shift = shift + value * wave(n * phi)
        return cls(shift)

    @property
    def points(self) -> int:
        """Of the grid."""
        return len(self.shift)

    def __call__(self, phi: Tensor) -> Tensor:
        """``g(phi)`` at any angles, float64 ``[...]``."""
        return phi + interpolate(self.shift, phi)

    def values(self, f: Tensor) -> Tensor:
        """``f(g(phi))`` on the grid, of a function by its values ``[n]``."""
        return interpolate(f, self(circle_points(self.points)))

    def slopes(self) -> tuple[Tensor, Tensor, Tensor]:
        """``g', g'', g'''`` on the grid, each ``[n]``."""
        first = derivative(self.shift)
        second = derivative(first)
        return 1 + first, second, derivative(second)

    def schwarzian(self) -> Tensor:
        """``{g; phi} = g'''/g' - 3/2 (g''/g')^2`` on the grid, ``[n]``."""
        first, second, third = self.slopes()
        return third / first - 1.5 * (second / first).square()

    def compose(self, other: CircleMap) -> CircleMap:
        """``self(other(phi))``.

        Raises:
            ShapeError: another number of points.
        """
        if self.points != other.points:
            raise ShapeError(f"maps have {self.points} and {other.points} points; give both the same grid")
        return CircleMap(other.shift + other.values(self.shift))

    def inverse(self) -> CircleMap:
        """The map with ``g(inverse(phi)) = phi``, by Newton's method.

        Raises:
            ErlangenError: it does not converge, as where g' is nearly zero.
        """
        phi = circle_points(self.points)
        found, slope = phi - self.shift, derivative(self.shift)
        for _ in range(100):
            rest = self(found) - phi
            if float(rest.abs().max()) < 1e-14:
                break
            # A step of more than a quarter of a turn would leave the branch.
            found = found - (rest / (1 + interpolate(slope, found)).clamp(min=1e-3)).clamp(-0.8, 0.8)
        if float((self(found) - phi).abs().max()) > 1e-11:
            raise ErlangenError(
                "the inverse was not found in 100 steps; the slope of this map is nearly zero somewhere"
            )
        return CircleMap(found - phi)


def derivative(f: Tensor) -> Tensor:
    """The derivative of a function on the circle by its values on an even grid, ``[..., n]``, through its modes."""
    n = f.shape[-1]
    waves = torch.fft.rfftfreq(n, 1 / n, dtype=torch.float64)
    if n % 2 == 0:
        waves[-1] = 0  # the highest mode stands for a cosine alone, whose slope is zero on the grid
    return torch.fft.irfft(1j * waves * torch.fft.rfft(f), n)


def tail(f: Tensor) -> float:
    """The largest mode in the upper quarter of those that a grid ``[n]`` holds, over the largest of all but the mean.

    >>> angle = circle_points()
    >>> tail(angle.cos().exp()) < 1e-12  # smooth and periodic
    True
    >>> tail(angle) > 1e-3  # not periodic: it jumps by a whole turn
    True

    Near rounding where the values are those of a function that is smooth and periodic; where it is not small, take more points,
    or look for jumps. Zero for constants.
    """
    modes = torch.fft.rfft(f)[1:].abs()
    whole = float(modes.max())
    return float(modes[3 * len(modes) // 4 :].max()) / whole if whole else 0.0


def interpolate(f: Tensor, phi: Tensor) -> Tensor:
    """Values at any angles ``[...]`` of the trigonometric interpolation of ``f [n]``."""
    n = len(f)
    modes = torch.fft.rfft(f) / n
    weights = torch.full((len(modes),), 2.0, dtype=torch.float64)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    angles = phi[..., None] * torch.arange(len(modes), dtype=torch.float64)
    return ((modes.real * angles.cos() - modes.imag * angles.sin()) * weights).sum(-1)


def hill_trace(theta: Tensor, steps: int = 4) -> Tensor:
    """The trace of the monodromy of Hill's equation ``psi'' = theta/4 psi`` once around the circle.

    It is the same for all functions of one coadjoint orbit of the Virasoro group, ``(g')^2 theta(g) - 2 {g; phi}``: 2 cos(pi a)
    for ``theta = -a^2``.

    Args:
        theta: on an even grid, float64 ``[n]``.
        steps: of Gauss-Legendre's method of order six in each interval of the grid.

    Raises:
        DtypeError, ShapeError, NotFiniteError: `theta` is no finite float64 ``[n]``, n at least 4.
    """
    _check("theta", theta)
    check_integer("steps", steps, 1)
    count = len(theta) * steps
    width = 2 * math.pi / count
    nodes = torch.tensor([0.5 - math.sqrt(0.15), 0.5, 0.5 + math.sqrt(0.15)], dtype=torch.float64)
    q = interpolate(theta, (torch.arange(count, dtype=torch.float64)[:, None] + nodes) * width) / 4
    # Magnus' expansion of order six for matrices A = [[0, 1], [q, 0]] (Blanes, Casas, Oteo and Ros, 2009, equation 253).
    zero, one = torch.zeros_like(q), torch.ones_like(q)
    A = torch.stack([torch.stack([zero, one], -1), torch.stack([q, zero], -1)], -2)
    first = width * A[:, 1]
    second = math.sqrt(15) / 3 * width * (A[:, 2] - A[:, 0])
    third = 10 / 3 * width * (A[:, 2] - 2 * A[:, 1] + A[:, 0])

    def bracket(a: Tensor, b: Tensor) -> Tensor:
        return a @ b - b @ a

    inner = bracket(first, second)
    outer = -bracket(first, 2 * third + inner) / 60
    exponent = first + third / 12 + bracket(-20 * first - third + inner, second + outer) / 240
    moves = torch.linalg.matrix_exp(exponent)
    while len(moves) > 1:
        if len(moves) % 2:
            moves = torch.cat([moves[:-2], (moves[-1] @ moves[-2])[None]])
            continue
        moves = moves[1::2] @ moves[::2]
    return moves[0].diagonal().sum()


def _finer(f: Tensor, times: int) -> Tensor:
    """Values on a grid with so many times the points."""
    return interpolate(f, circle_points(times * len(f)))


def _check(name: str, f: Tensor) -> None:
    if f.dtype != torch.float64:
        raise DtypeError(f"{name} has dtype {f.dtype}; pass float64")
    if f.ndim != 1 or len(f) < 4:
        raise ShapeError(f"{name} has shape {tuple(f.shape)}; pass [n], at least 4 values")
    check_finite(f, name)

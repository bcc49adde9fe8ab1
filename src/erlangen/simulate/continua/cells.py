"""A hyper-elastic unit cell with a void, clamped below and pulled above, by quadratic finite elements (scikit-fem)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from erlangen.errors import ErlangenError, MissingExtraError, NotFiniteError, ShapeError, check_finite, check_sizes

__all__ = ["ElasticCell", "elastic_cell", "void_radii"]

Array = NDArray[np.float64]

NEWTON = 1e-10
"""Of the residual, relative to the load: where Newton's method stops."""

STEPS = 40
"""Most iterations of Newton's method at one load."""


@dataclass(frozen=True)
class ElasticCell:
    """What `elastic_cell` found, at the nodes of the undeformed mesh: rings from the void to the square, angles running first.

    Attributes:
        pos: ``[rings * angles, 2]`` nodes in the unit square.
        displacement: ``[rings * angles, 2]``.
        stress: von Mises' equivalent of Cauchy's stress, ``[rings * angles]``, of the means of the elements that meet.
        shape: rings and angles.
        iterations: of Newton's method, at all loads together.
    """

    pos: Tensor
    displacement: Tensor
    stress: Tensor
    shape: tuple[int, int]
    iterations: int

    def refined(self, values: Tensor) -> Tensor:
        """Values between the nodes, ``[(2 rings - 1) * 2 angles, ...]``: the same piecewise quadratic functions, finer.

        Args:
            values: ``[rings * angles, ...]``, such as `pos` or `stress`.

        Raises:
            ShapeError: these are not as many as there are nodes.
        """
        rings, angles = self.shape
        if values.shape[:1] != (rings * angles,):
            raise ShapeError(f"values has shape {tuple(values.shape)}, but the cell has {rings * angles} nodes")
        grid = values.reshape(rings, angles, -1)
        grid = _halved(torch.cat([grid, grid[:, :1]], 1).transpose(0, 1)).transpose(0, 1)[:, :-1]
        return _halved(grid).reshape(-1, *values.shape[1:])


def void_radii(count: int, points: int = 64, *, generator: Generator | None = None) -> Tensor:
    """Smooth random outlines of voids: radii in 0.2..0.4 at equal angles, ``[count, points]`` in float64.

    >>> radii = void_radii(5, generator=torch.Generator().manual_seed(0))
    >>> radii.shape, bool((radii > 0.2).all() and (radii < 0.4).all())
    (torch.Size([5, 64]), True)

    ``0.2 + 0.2 / (1 + exp g)`` with g Gaussian of the spectrum ``3 / (k^2 + 9)``, as the benchmark of Li et al. (Geo-FNO, JMLR
    2023) has it up to scale.

    Args:
        count: number of voids.
        points: angles; at most so many are told apart.
        generator: source; torch's global stream without it.
    """
    check_sizes(count=count, points=points)
    k = torch.arange(1, 11, dtype=torch.float64)
    angles = 2 * math.pi * torch.arange(points, dtype=torch.float64) / points
    waves = torch.cat([torch.ones(1, points), (k[:, None] * angles).cos(), (k[:, None] * angles).sin()])
    sizes = torch.cat([torch.ones(1), *[3 * 2**0.5 * 3 / (k**2 + 9)] * 2])
    g = (torch.randn(count, 21, generator=generator, dtype=torch.float64) * sizes) @ waves
    return 0.2 + 0.2 / (1 + g.exp())


def elastic_cell(
    radii: Tensor,
    *,
    traction: float = 0.04,
    young: float = 1.0,
    poisson: float = 0.3,
    rings: int = 12,
    angles: int = 20,
    linear: bool = False,
    prescribed: Tensor | None = None,
) -> ElasticCell:
    """A unit square with a void around its middle, in plane strain: the lower side is clamped, the upper one is pulled.

    >>> cell = elastic_cell(torch.full((16,), 0.25))                                               # doctest: +SKIP
    >>> cell.stress.shape                                                                      # doctest: +SKIP
    torch.Size([1000])

    Compressible neo-Hookean, ``P = mu (F - F^-T) + lambda ln(J) F^-T``, by Newton's method on curved elements of second order,
    the load in as many parts as it takes. Nodes lie on rays from the middle, so that node i of two cells is the same material
    point of a reference cell.

    Args:
        radii: of the void at equal angles from the first axis, ``[m]``, in 0..0.5, joined by a trigonometric polynomial.
        traction: force on the upper side over its length, of dead load.
        young, poisson: moduli at small strain.
        rings, angles: elements from the void to the square, and around, a multiple of 4; there are twice as many nodes.
        linear: small strains instead, Hooke's law.
        prescribed: a matrix A ``[2, 2]``: the displacement is A x on the whole boundary, that of the void too; nothing pulls.

    Returns:
        Fields at ``(2 rings + 1) * 2 angles`` nodes.

    Raises:
        ErlangenError: `angles` is no multiple of 4, a modulus or a radius is out of range.
        NotFiniteError: Newton's method fails even with small parts of the load.
        MissingExtraError: scikit-fem is not installed.
    """
    check_sizes(rings=rings, angles=angles)
    if angles % 4:
        raise ErlangenError(f"angles = {angles}: give a multiple of 4, so that corners are nodes")
    if radii.ndim != 1 or len(radii) < 3:
        raise ShapeError(f"radii has shape {tuple(radii.shape)}; give one radius for each of 3 or more angles")
    check_finite(radii, "radii")
    if young <= 0 or not -1 < poisson < 0.5:
        raise ErlangenError(f"young = {young}, poisson = {poisson}: give a positive modulus, and a ratio in -1..0.5")
    spectrum = np.fft.rfft(radii.double().numpy()) / len(radii)
    spectrum[1 : (len(radii) + 1) // 2] *= 2

    def radius(theta: Array) -> Array:
        waves = np.exp(1j * np.arange(len(spectrum))[:, None] * theta)
        return (spectrum[:, None] * waves).real.sum(0)

    around = radius(np.linspace(0, 2 * np.pi, 720))
    if around.min() <= 0 or around.max() >= 0.5:
        raise ErlangenError(f"radii give a void of {around.min():.3g} to {around.max():.3g}; stay within 0..0.5")
    return _Cell(radius, young, poisson, rings, angles).solve(traction, linear, prescribed)


class _Cell:
    """The mesh, the elements and the material of one cell."""

    def __init__(self, radius: Callable[[Array], Array], young: float, poisson: float, rings: int, angles: int) -> None:
        try:
            import skfem
        except ImportError as error:
            raise MissingExtraError("scikit-fem", "physics", "elastic_cell") from error
        self.fem: Any = skfem
        self.mu, self.lam = young / (2 + 2 * poisson), young * poisson / (1 + poisson) / (1 - 2 * poisson)
        self.rings, self.angles = rings, angles
        ring, turn = np.meshgrid(np.arange(rings + 1), np.arange(angles), indexing="ij")
        rays = np.exp(2j * np.pi * turn / angles) * (1 + ring)
        node = ring * angles + turn
        following = np.roll(node, -1, 1)
        corners = np.stack([node[:-1], node[1:], following[1:], following[:-1]]).reshape(4, -1)
        flat = skfem.MeshQuad(np.stack([rays.real.ravel(), rays.imag.ravel()]), corners)
        annulus = skfem.MeshQuad2.from_mesh(flat)
        mesh = skfem.MeshQuad2(self._placed(annulus.doflocs, radius), annulus.t)
        element = skfem.ElementQuad2()
        self.scalar: Any = skfem.Basis(mesh, element, intorder=5)
        self.vector: Any = skfem.Basis(mesh, skfem.ElementVector(element), intorder=5)
        # Stresses are known at 3 x 3 points of each element; biquadratic functions carry them to its nodes.
        self.to_nodes = _squares(element.doflocs) @ np.linalg.inv(_squares(self.vector.quadrature[0].T))
        ring, turn = self._indices(skfem.Basis(annulus, element).doflocs)
        self.order = np.empty(len(ring), dtype=int)
        self.order[ring * 2 * angles + turn] = np.arange(len(ring))
        places = self.scalar.doflocs
        self.edges = {
            "bottom": np.flatnonzero(places[1] < 1e-9),
            "whole": np.flatnonzero((ring == 0) | (ring == 2 * rings)),
        }
        facets = mesh.facets_satisfying(lambda x: np.abs(x[1] - 1) < 1e-9, boundaries_only=True)
        self.top: Any = skfem.FacetBasis(mesh, skfem.ElementVector(element), facets=facets, intorder=5)

    def _indices(self, places: Array) -> tuple[Any, Any]:
        """Half rings and half turns of nodes of the annulus; between two rays nodes lie on chords, nearer to the middle."""
        turn = np.round(np.angle(places[0] + 1j * places[1]) / np.pi * self.angles).astype(int) % (2 * self.angles)
        length = np.hypot(*places) / np.where(turn % 2, np.cos(np.pi / self.angles), 1.0)
        return np.round(2 * (length - 1)).astype(int), turn

    def _placed(self, places: Array, radius: Callable[[Array], Array]) -> Array:
        """Nodes of the annulus, moved to the rays of the cell; turns are equal parts of the outline of the square."""
        ring, turn = self._indices(places)
        quarter = self.angles // 2
        side, part = turn // quarter, 2 * (turn % quarter) / quarter - 1
        outer = (1 + 1j * part) * 1j**side * np.exp(0j) / 2  # from the lower end of the right side on
        theta = np.angle(outer)
        inner = radius(theta) * np.exp(1j * theta)
        share = ring / (2 * self.rings)
        found = 0.5 + 0.5j + inner + (outer - inner) * share * (1 + share) / 2  # closer together at the void
        return np.stack([found.real, found.imag])

    def solve(self, traction: float, linear: bool, prescribed: Tensor | None) -> ElasticCell:
        fem, basis = self.fem, self.vector
        u = np.zeros(basis.N)
        places = self.scalar.doflocs
        which = self.edges["bottom" if prescribed is None else "whole"]
        fixed = np.concatenate([self._dofs(axis)[which] for axis in (0, 1)])
        target = np.zeros(basis.N)
        if prescribed is not None:
            moved = prescribed.double().numpy() @ places
            for axis in (0, 1):
                target[self._dofs(axis)] = moved[axis]
        force = fem.LinearForm(lambda v, w: traction * v[1]).assemble(self.top) if prescribed is None else 0 * u
        done, part, iterations = 0.0, 1.0, 0
        while done < 1:
            if part < 1 / 256:
                raise NotFiniteError(
                    "elastic_cell: Newton's method fails even with 1/256 of the load; take a smaller traction"
                )
            load = min(done + part, 1.0)
            found = self._newton(u, load * force, fixed, load * target, linear)
            if found is None:
                part /= 2
                continue
            u, count = found
            done, iterations = load, iterations + count
        moved = np.stack([u[self._dofs(axis)] for axis in (0, 1)], -1)
        fields = (places.T[self.order], moved[self.order], self._stress(u, linear)[self.order])
        pos, displacement, stress = (torch.from_numpy(np.ascontiguousarray(f)) for f in fields)
        return ElasticCell(pos, displacement, stress, (2 * self.rings + 1, 2 * self.angles), iterations)

    def _dofs(self, axis: int) -> Any:
        """Places in the vector of displacements of one component, in the order of the scalar basis."""
        dofs = np.empty(self.scalar.N, dtype=int)
        dofs[self.scalar.element_dofs] = self.vector.element_dofs[axis::2]
        return dofs

    def _newton(self, u: Array, force: Array, fixed: Any, target: Array, linear: bool) -> tuple[Array, int] | None:
        """Displacements at equilibrium and the number of steps; None where it does not settle."""
        fem, basis = self.fem, self.vector
        u = u.copy()
        u[fixed] = target[fixed]
        free = np.ones(basis.N, dtype=bool)
        free[fixed] = False
        scale = max(float(np.abs(force).max()), float(np.abs(u[fixed]).max()), 1e-30)
        tangent, internal = _forms(fem, self.mu, self.lam, linear)
        for step in range(STEPS):
            with np.errstate(invalid="ignore", divide="ignore"):
                w = basis.interpolate(u)
                residual = internal.assemble(basis, prev=w) - force
            size = float(np.abs(residual[free]).max(initial=0.0))
            if not math.isfinite(size):
                return None
            if size <= NEWTON * scale:
                return u, step
            K = tangent.assemble(basis, prev=w)
            u = u + fem.solve(*fem.condense(K, -residual, D=fixed))
        return None

    def _stress(self, u: Array, linear: bool) -> Array:
        """Von Mises' stress at the nodes, of components that are the means of the elements that meet there."""
        F = _gradient(self.vector.interpolate(u).grad)
        eye = np.eye(2)[..., None, None]
        if linear:
            strain = (F + F.transpose(1, 0, 2, 3)) / 2 - eye
            trace = strain[0, 0] + strain[1, 1]
            s, across = 2 * self.mu * strain + self.lam * trace * eye, self.lam * trace
        else:
            J, _ = _inverse(F)
            b = np.einsum("ik...,jk...->ij...", F, F)
            s, across = (self.mu * (b - eye) + self.lam * np.log(J) * eye) / J, self.lam * np.log(J) / J
        dofs = self.scalar.element_dofs.T.ravel()
        count = np.bincount(dofs)
        parts = (s[0, 0], s[1, 1], across, s[0, 1])
        x, y, z, xy = (np.bincount(dofs, (part @ self.to_nodes.T).ravel()) / count for part in parts)
        return np.sqrt(((x - y) ** 2 + (y - z) ** 2 + (z - x) ** 2) / 2 + 3 * xy**2)


def _squares(places: Array) -> Array:
    """The monomials of biquadratic functions at places ``[k, 2]``, ``[k, 9]``."""
    powers = places[:, :, None] ** np.arange(3)
    return (powers[:, 0, :, None] * powers[:, 1, None, :]).reshape(len(places), 9)


def _gradient(grad: Array) -> Array:
    """F = 1 + du/dx, ``[2, 2, elements, points]``."""
    return grad + np.eye(2)[..., None, None]


def _inverse(F: Array) -> tuple[Array, Array]:
    J = F[0, 0] * F[1, 1] - F[0, 1] * F[1, 0]
    return J, np.array([[F[1, 1], -F[0, 1]], [-F[1, 0], F[0, 0]]]) / J


def _forms(fem: Any, mu: float, lam: float, linear: bool) -> tuple[Any, Any]:
    """The derivative of the inner forces, and these."""

    def hooke(grad: Array) -> Array:
        trace = grad[0, 0] + grad[1, 1]
        return mu * (grad + grad.transpose(1, 0, 2, 3)) + lam * trace * np.eye(2)[..., None, None]

    def tangent(u: Any, v: Any, w: Any) -> Array:
        if linear:
            return np.einsum("ij...,ij...", hooke(u.grad), v.grad)
        J, inverse = _inverse(_gradient(w["prev"].grad))
        turned = np.einsum("ik...,kl...,lj...->ij...", inverse, u.grad, inverse).transpose(1, 0, 2, 3)
        trace = np.einsum("ij...,ji...->...", inverse, u.grad)
        P = mu * u.grad + (mu - lam * np.log(J)) * turned + lam * trace * inverse.transpose(1, 0, 2, 3)
        return np.einsum("ij...,ij...", P, v.grad)

    def internal(v: Any, w: Any) -> Array:
        if linear:
            return np.einsum("ij...,ij...", hooke(w["prev"].grad), v.grad)
        F = _gradient(w["prev"].grad)
        J, inverse = _inverse(F)
        back = inverse.transpose(1, 0, 2, 3)
        return np.einsum("ij...,ij...", mu * (F - back) + lam * np.log(J) * back, v.grad)

    return fem.BilinearForm(tangent), fem.LinearForm(internal)


def _halved(values: Tensor) -> Tensor:
    """Values ``[2 n + 1, ...]`` of quadratic pieces, ``[4 n + 1, ...]``."""
    a, b, c = values[:-2:2], values[1:-1:2], values[2::2]
    first, second = (3 * a + 6 * b - c) / 8, (3 * c + 6 * b - a) / 8
    whole = torch.stack([a, first, b, second], 1).flatten(0, 1)
    return torch.cat([whole, values[-1:]])

"""Initial representations of points: coordinates that depend on distances alone, and a wrapper that feeds them to a network.

Zhang, Wang, Zhang, Cui and Zhu (2021); equations are numbered as there where they have numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from erlangen.actions import tree_map
from erlangen.enforce import PCAFrame
from erlangen.enforce.calls import Repeat
from erlangen.enforce.cloud import largest
from erlangen.enforce.frames import ROUNDING
from erlangen.errors import (
    DegenerateFrameError,
    GroupError,
    ModelError,
    OnDegenerate,
    ShapeError,
    UnknownNameError,
    check_finite,
    check_floating,
    check_on_degenerate,
    first_index,
    tell_degenerate,
)
from erlangen.groups import CSO, SE, SO, E, Group, O, Scaling, Similarity, Translation
from erlangen.numerics import eigh
from erlangen.symmetry import Symmetry

Invariance = Literal["translation", "rotation", "reflection", "scale"]
Signs = Literal["moment", "average", "abs_net"]
Output = Literal["invariant", "vectors", "points"]
EUCLIDEAN: frozenset[Invariance] = frozenset({"translation", "rotation", "reflection"})

# Keys: translation, rotation, scale. Reflections are only a sign, so frames of rotations serve them too.
_FRAMES: dict[tuple[bool, bool, bool], type[Group]] = {
    (True, True, True): Similarity,
    (True, True, False): SE,
    (False, True, True): CSO,
    (False, True, False): SO,
    (True, False, True): Similarity,  # for centre and size; its axes are not used
    (True, False, False): Translation,
    (False, False, True): Scaling,
}


# --- from distances --------------------------------------------------------------------------------------------------
class Scaled(NamedTuple):
    """Result of `classical_mds`.

    Attributes:
        coordinates: ``[..., n, dim]``, columns by descending extent, each up to its sign; centred.
        values: ``[..., n]`` all eigenvalues of the doubly centred matrix, descending.
        strain: ``[...]`` relative error ``|B - H H^T| / |B|`` (Frobenius), 0 where `dim` coordinates reproduce D.
        negative: ``[...]`` most negative eigenvalue over the largest absolute one, 0 if there is none: how far D is from
            distances of points in any space.
    """

    coordinates: Tensor
    values: Tensor
    strain: Tensor
    negative: Tensor


def classical_mds(D: Tensor, dim: int) -> Scaled:
    """Points whose distances are, or come close to, a matrix: classical multidimensional scaling (Torgerson 1952).

    ``B = -1/2 J D^2 J`` with ``J = I - 1 1^T / n`` and ``B = Q diag(l) Q^T``; the coordinates are ``Q_k diag(l_k)^(1/2)`` of
    the largest positive eigenvalues; columns beyond them are zero. Computed in float64; costs O(n^3), so use
    `InitialRepresentation` where the points are known. Gradients flow through the eigenvectors, finite at equal eigenvalues.

    Args:
        D: distances ``[..., n, n]`` (not squared), symmetric, zero on the diagonal, not negative.
        dim: number of coordinates; more than n - 1 are padded with zeros.

    Raises:
        ShapeError: D is not square, has no points, or is no matrix of distances (names the entry); dim < 1.
        DtypeError, NotFiniteError: D is not floating point, or holds NaN or Inf.
    """
    _check_distances(D, dim)
    squares = D.double().square()
    rows = squares - squares.mean(-1, keepdim=True)
    values, vectors, _ = eigh(-(rows - rows.mean(-2, keepdim=True)) / 2)
    values, vectors = values.flip(-1), vectors.flip(-1)
    n = D.shape[-1]
    size = values.detach().abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    kept = values[..., :dim]
    positive = kept > n * torch.finfo(D.dtype).eps * size
    roots = torch.where(positive, torch.where(positive, kept, 1.0).sqrt(), 0.0)
    coordinates = nn.functional.pad(vectors[..., :dim] * roots[..., None, :], (0, max(dim - n, 0)))
    # In the eigenbasis, H H^T is diag(l_k) where it was kept and zero elsewhere.
    lost = values.detach().clone()
    lost[..., :dim] -= roots.detach().square()
    total = torch.linalg.vector_norm(values.detach(), dim=-1).clamp(min=torch.finfo(torch.float64).tiny)
    strain = torch.linalg.vector_norm(lost, dim=-1) / total
    negative = (values.detach()[..., -1:] / size).clamp(max=0)[..., 0]
    return Scaled(*(t.to(D.dtype) for t in (coordinates, values, strain, negative)))


def _check_distances(D: Tensor, dim: int) -> None:
    check_floating(D, "D")
    if D.ndim < 2 or D.shape[-1] != D.shape[-2] or D.shape[-1] == 0:
        raise ShapeError(f"D has shape {tuple(D.shape)}; give distances [..., n, n] of n >= 1 points")
    if dim < 1:
        raise ShapeError(f"dim = {dim}: give at least one coordinate")
    check_finite(D, "D")
    noise = 8 * torch.finfo(D.dtype).eps * D.abs().amax((-2, -1), keepdim=True) if D.numel() else 0.0
    diagonal = torch.diag_embed(D.diagonal(dim1=-2, dim2=-1))
    checks = (
        ((D - D.mT).abs() > noise, "is not symmetric", "average it with its transpose, if that is what you mean"),
        (diagonal.abs() > noise, "has a diagonal that is not zero", "distances of points to themselves are zero"),
        (D < 0, "is negative", "pass distances, not similarities"),
    )
    for bad, what, remedy in checks:
        if bool(bad.any()):
            index = first_index(bad)
            raise ShapeError(f"D {what} at {index}: {D[index].item():.6g}; {remedy}")


# --- from points -----------------------------------------------------------------------------------------------------
class Representation(NamedTuple):
    """Result of `InitialRepresentation`; ``x = centre + scale coordinates axes^T``.

    Attributes:
        coordinates: ``[B, n, d]`` in the dtype of x.
        axes: ``[B, d, d]`` float64, orthogonal, in columns.
        centre: ``[B, d]`` float64.
        scale: ``[B]`` float64.
        ambiguous: ``[B, d]`` boolean: columns whose sign the points do not determine.
        gap: ``[B]`` smallest relative distance of neighbouring eigenvalues; infinite without rotations.
    """

    coordinates: Tensor
    axes: Tensor
    centre: Tensor
    scale: Tensor
    ambiguous: Tensor
    gap: Tensor


class InitialRepresentation:
    """Coordinates of points that do not change under the chosen transformations and keep all distances (up to scale).

    ``H = (x - mean) V`` with V the principal axes by descending extent: equal to `classical_mds` of the distances up to
    the signs of columns, at the cost of a d x d instead of an n x n eigenproblem. Computed in float64.

    Signs: a column points to where ``sum_i h_i^3`` is positive, or else ``sum_i r_i^2 h_i``, r the distance to the centre;
    where both vanish (relative to the sums of absolute values, below the square root of the machine epsilon of x) it is
    `Representation.ambiguous`. Both depend on no order of the points. Without "reflection" the last column follows from
    the others, so that mirror images differ. Columns without extent count as zero, with any sign.

    Args:
        dim: d, the number of coordinates. More than n - 1 give zero columns.
        invariances: what H must not notice. "translation" subtracts the mean; "rotation" turns to the principal axes;
            "reflection", which needs "rotation" (unless d = 1), frees the sign of the last axis; "scale" divides by the
            root mean square distance to the centre (sqrt(1/2) of that between points, when centred).
        on_degenerate: for points with equal eigenvalues (relative gap below the square root of the machine epsilon of x;
            regular polygons, cubes), whose axes are arbitrary, and for points that all coincide: "warn" is a
            `DegenerateFrameWarning` and for coincident points an error, "error" an error for both, "allow" neither.
        differentiable: gradients flow through the axes too, with `erlangen.numerics.eigh`'s finite gradient.

    Raises:
        UnknownNameError: a name of an invariance, or `on_degenerate`, is not known.
        GroupError: no invariances; "reflection" without "rotation".
        ShapeError: dim < 1.
    """

    def __init__(
        self,
        dim: int,
        invariances: Collection[Invariance] = EUCLIDEAN,
        *,
        on_degenerate: OnDegenerate = "warn",
        differentiable: bool = False,
    ) -> None:
        self.dim, self.invariances, self.on_degenerate = dim, frozenset(invariances), on_degenerate
        unknown = self.invariances - set(get_args(Invariance))
        if unknown:
            raise UnknownNameError(
                f"invariances = {sorted(unknown)}: known are translation, rotation, reflection, scale"
            )
        check_on_degenerate(on_degenerate)
        if dim < 1:
            raise ShapeError(f"dim = {dim}: give at least one coordinate")
        if not self.invariances:
            raise GroupError("invariances is empty; name at least one, or use the network as it is")
        if "reflection" in self.invariances and "rotation" not in self.invariances and dim > 1:
            raise GroupError(
                "invariances has 'reflection' without 'rotation': axes are only found up to a rotation; add it"
            )
        self.turns = dim > 1 and "rotation" in self.invariances
        self.centred, scales = "translation" in self.invariances, "scale" in self.invariances
        axes = self.turns or (dim == 1 and "reflection" in self.invariances)
        kind = _FRAMES.get((self.centred, axes, scales), SO)
        # On a line, the frame is that of the plane, with a second coordinate that is zero.
        symmetry = Symmetry(kind(max(dim, 2)), input="points", output="invariant")  # pyright: ignore[reportCallIssue]
        self.frame = PCAFrame(symmetry, differentiable=differentiable)

    @property
    def free(self) -> tuple[bool, ...]:
        """Which columns have a sign of their own."""
        mirror = "reflection" in self.invariances
        return (self.turns,) * (self.dim - 1) + (mirror,) if self.dim > 1 else (mirror,)

    @property
    def group(self) -> Group:
        """The largest group of the library under which H does not change; reflections are left out beside scale.

        Raises:
            GroupError: on a line, reflections without translations or scale are no group of the library.
        """
        translation, scale, mirror = (name in self.invariances for name in ("translation", "scale", "reflection"))
        if not self.turns:
            kind = Translation if translation else Scaling
            if not translation and not scale:
                raise GroupError("reflections of a line are no group of the library; add 'translation' or 'scale'")
            return kind(self.dim)
        if scale:
            return Similarity(self.dim) if translation else CSO(self.dim)
        if mirror:
            return E(self.dim) if translation else O(self.dim)
        return SE(self.dim) if translation else SO(self.dim)

    def __call__(self, x: Tensor) -> Representation:
        """The representation of points ``x [B, n, d]``, float32 or float64.

        Raises:
            ShapeError: another shape, or no points.
            DtypeError, NotFiniteError: x is not floating point, or holds NaN or Inf.
            DegenerateFrameError: see `on_degenerate`.
        """
        check_floating(x, "x")
        if x.ndim != 3 or x.shape[-1] != self.dim:
            raise ShapeError(f"x has shape {tuple(x.shape)}; give points [B, n, {self.dim}]")
        if not torch.compiler.is_compiling():
            check_finite(x, "x")
        flat = nn.functional.pad(x, (0, 1)) if self.dim == 1 else x
        frames, group = self.frame(flat), self.frame.symmetry.group
        first = frames.elements[:, 0]  # the one whose signs are all positive
        linear = group.linear(first)
        scale = torch.linalg.vector_norm(linear[..., 0], dim=-1)
        moved = group.translation(first)
        centre = linear.new_zeros(len(x), self.dim) if moved is None else moved[:, : self.dim]
        local = (x.double() - centre[:, None]) / scale[:, None, None]
        gap = frames.gap if self.turns else torch.full_like(frames.gap, math.inf)
        self._judge(gap, frames.spectrum, x)
        axes = torch.eye(self.dim, dtype=local.dtype, device=x.device).expand(len(x), self.dim, self.dim)
        ambiguous = torch.zeros(len(x), self.dim, dtype=torch.bool, device=x.device)
        if self.turns:
            axes = (linear / scale[:, None, None]).flip(-1)
            local = local @ axes
        if any(self.free):
            noise = ROUNDING * torch.finfo(x.dtype).eps * largest(x.double()) / scale.detach()
            signs, ambiguous = self._signs(local.detach(), noise, torch.finfo(x.dtype).eps ** 0.5)
            local, axes = local * signs[:, None], axes * signs[:, None]
        return Representation(local.to(x.dtype), axes, centre, scale, ambiguous, gap)

    def _signs(self, h: Tensor, noise: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """Signs and ambiguity ``[B, d]`` of the columns of ``h [B, n, d]``."""
        cubes = _skewness(h, h.square())
        other = _skewness(h, h.square().sum(-1, keepdim=True))
        skewness = torch.where(cubes.abs() > tolerance, cubes, other)
        null = h.abs().amax(1) <= noise[:, None]
        free = torch.tensor(self.free, device=h.device)
        ambiguous = (skewness.abs() <= tolerance) & ~null & free
        signs = torch.where((skewness < 0) & ~null & free, -1.0, 1.0).to(h)
        return self.with_determinant(signs), ambiguous

    def with_determinant(self, signs: Tensor) -> Tensor:
        """Signs ``[..., d]`` whose last one makes the determinant positive, where reflections are told apart."""
        if self.free[-1] or not self.turns:
            return signs
        return torch.cat([signs[..., :-1], signs[..., :-1].prod(-1, keepdim=True)], -1)

    def _judge(self, gap: Tensor, spectrum: Tensor | None, x: Tensor) -> None:
        if self.on_degenerate == "allow" or torch.compiler.is_compiling():
            return
        if spectrum is not None:
            absent = (spectrum == 0).all(-1)
            if bool(absent.any()):
                raise DegenerateFrameError(
                    f"sample {first_index(absent)[0]} of x: all its {x.shape[1]} points coincide, so that it has neither "
                    "axes nor a scale; remove it, or pass on_degenerate='allow' for zeros"
                )
        tolerance = torch.finfo(x.dtype).eps ** 0.5
        close = gap < tolerance
        if not bool(close.any()):
            return
        index = first_index(close)[0]
        message = (
            f"sample {index} of x ({int(close.sum())} of {len(close)}) has equal eigenvalues: relative gap "
            f"{float(gap[index]):.2g}, below {tolerance:.2g}, so its axes are arbitrary and the representation may turn with "
            "x; break the symmetry, average with er.symmetrize(how='orbit'), or pass on_degenerate='allow'"
        )
        tell_degenerate(message, self.on_degenerate, stacklevel=3)


def _skewness(h: Tensor, weights: Tensor) -> Tensor:
    """``sum w h / sum w |h|`` over points, in [-1, 1]; 0 for columns that are zero."""
    size = (weights * h.abs()).sum(1)
    return (weights * h).sum(1) / torch.where(size == 0, 1.0, size)


# --- networks --------------------------------------------------------------------------------------------------------
class TinvNN(nn.Module):
    """A network that sees the initial representation in place of the coordinates, and is otherwise unchanged.

    Args:
        net: ``net(h, *args)`` on coordinates ``[B, n, d]``; with ``sign="abs_net"`` on features ``[B, n, d k]``.
        dim: d.
        invariances, on_degenerate, differentiable: see `InitialRepresentation`.
        sign: "moment" takes the signs of `InitialRepresentation` and averages the outputs over both signs of each
            ambiguous column, so one pass serves almost every input. "average" averages over the signs of all columns:
            frame averaging (Puny et al., ICLR 2022), continuous where signs change. "abs_net" feeds
            ``phi(h_c) + phi(-h_c)`` of every column c (SignNet, Lim et al., ICLR 2023).
        phi: for "abs_net": a network from ``[B', n, 1]`` to ``[B', n, k]``.
        output: what the net's output is: "invariant", or "vectors" or "points" ``[B, ..., d]`` that are mapped back by
            the axes (and the scale, and for points the centre), so that they move with x.

    Raises:
        ModelError: `phi` is missing, or given where it has no meaning; "abs_net" with an output that moves.
        GroupError: "abs_net" without "reflection": columns without sign cannot tell mirror images apart.
        UnknownNameError: `sign` or `output` is not known.
    """

    def __init__(
        self,
        net: nn.Module,
        dim: int,
        invariances: Collection[Invariance] = EUCLIDEAN,
        *,
        sign: Signs = "moment",
        phi: nn.Module | None = None,
        output: Output = "invariant",
        on_degenerate: OnDegenerate = "warn",
        differentiable: bool = False,
    ) -> None:
        super().__init__()
        for name, value, known in (("sign", sign, Signs), ("output", output, Output)):
            if value not in get_args(known):
                raise UnknownNameError(f"{name} = {value!r}: choose one of {', '.join(get_args(known))}")
        self.represent = InitialRepresentation(
            dim, invariances, on_degenerate=on_degenerate, differentiable=differentiable
        )
        if (phi is None) == (sign == "abs_net"):
            raise ModelError(f"sign = {sign!r} and phi = {phi!r}: sign='abs_net' needs phi=, and only that does")
        if sign == "abs_net" and output != "invariant":
            raise ModelError(f"sign = 'abs_net' forgets the axes, so output = {output!r} cannot be mapped back")
        if sign == "abs_net" and "reflection" not in self.represent.invariances:
            raise GroupError("sign = 'abs_net' cannot tell mirror images apart; add 'reflection' to invariances")
        self.net, self.phi, self.sign, self.output = net, phi, sign, output

    @property
    def symmetry(self) -> Symmetry:
        """The group of `InitialRepresentation.group`, points, and the output."""
        return Symmetry(self.represent.group, input="points", output=self.output)

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """The net's output for points ``x [B, n, d]``; tensors among `args` with leading axis B go along."""
        found = self.represent(x)
        if self.phi is not None:
            columns = found.coordinates.mT.flatten(0, 1)[..., None]  # [B d, n, 1]
            features = (self.phi(columns) + self.phi(-columns)).unflatten(0, (len(x), -1))
            return self.net(features.transpose(1, 2).flatten(2), *args)
        signs = self._patterns(found).to(x)
        count = signs.shape[1]
        copies = (found.coordinates[:, None] * signs[:, :, None]).flatten(0, 1)
        out = self.net(copies, *tree_map(Repeat(len(x), count), args))
        out = out.unflatten(0, (len(x), count))
        return (out if self.output == "invariant" else self._back(out, signs, found)).mean(1)

    def _patterns(self, found: Representation) -> Tensor:
        """Signs ``[B, K, d]`` to average over; samples with fewer choices meet each of theirs equally often."""
        if self.sign == "average":
            free = torch.tensor(self.represent.free, device=found.axes.device)
            open_columns, most = free.expand_as(found.ambiguous), sum(self.represent.free)
        else:
            open_columns = found.ambiguous
            most = int(open_columns.sum(-1).amax()) if len(open_columns) else 0
        choices = found.axes.new_tensor(list(itertools.product((1.0, -1.0), repeat=most)))  # [K, most]
        choices = nn.functional.pad(choices, (1, 0), value=1.0)  # choice 0 keeps the sign
        which = torch.where(open_columns, open_columns.cumsum(-1), 0)
        return self.represent.with_determinant(choices[:, which].transpose(0, 1))

    def _back(self, out: Tensor, signs: Tensor, found: Representation) -> Tensor:
        """Outputs ``[B, K, ..., d]`` in the frame of x."""
        axes = (found.axes[:, None] * signs[:, :, None]).mT * found.scale[:, None, None, None]
        moved = torch.einsum("bk...i,bkij->bk...j", out, axes.to(out))
        if self.output == "vectors":
            return moved
        return moved + found.centre.to(out).reshape(len(out), *[1] * (out.ndim - 2), -1)

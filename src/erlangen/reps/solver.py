"""Invariant vectors of any representation from the generators of its group.

A vector x is invariant if and only if ``drho(a_i) x = 0`` for a basis of the Lie algebra and ``rho(h_j) x = x`` for the
discrete generators (Finzi, Welling and Wilson 2021, theorem 1). Three roads to that nullspace:

- *eigen* (orthogonal representations): x is a matrix of the two halves of the tensor product; it intertwines them, so it
  maps eigenspaces of one random symmetric element of the group algebra to those of equal eigenvalue. A few matched pairs
  remain, and the constraints are solved on these.
- *dense*: singular value decomposition of the constraints, one generator after the other on what is left.
- *krylov*: random vectors minus their least-squares part, by conjugate gradients (CGLS) that only ever apply generators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from erlangen.errors import RepresentationError
from erlangen.groups import MAX_ENUMERATION
from erlangen.reps.base import Product, Rep, generators
from erlangen.reps.leaves import Scalar

EIGEN_LIMIT = 10_000
"""Largest number of unknowns of the eigen road (its matrices are as large as the halves, about the square root)."""
DENSE_LIMIT = 1_200
"""Largest number of unknowns of the dense road without orthogonality: a square SVD of that size takes two seconds."""
NULL_TOL = 1e-9
"""Singular values below this fraction of the largest (or of 1) count as zero."""
MATCH_TOL = 1e-4
"""Eigenvalues, of matrices with norm about 1, that are paired. Pairs too many cost time, not exactness."""
POLISH_TOL = 1e-13
"""Constraint residuals of unit vectors above this are corrected once more."""
MAX_ITERATIONS = 20_000
"""Steps of CGLS after which a basis is declared out of reach."""
MAX_ENTRIES = 20_000_000
"""Largest number of entries of a basis, 160 MB in float64."""


def invariant_vectors(rep: Rep, road: str | None = None) -> Tensor:
    """Orthonormal basis of the invariant vectors, float64 ``[dims, size]``.

    The basis depends on the space alone, not on the road or the machine (up to rounding): see `canonical`.

    Args:
        rep: any representation.
        road: "eigen", "dense" or "krylov"; by default the fastest for the size.

    Raises:
        RepresentationError: the basis is too large, the road does not apply, or CGLS does not converge.
    """
    road = road or _choose(rep)
    constraints = Constraints(rep)
    if road == "eigen":
        basis = constraints.reduce(_matched_pairs(rep))
    elif road == "dense":
        basis = constraints.reduce(torch.eye(rep.size, dtype=torch.float64))
    elif road == "krylov":
        basis = _krylov(constraints, rep)
    else:
        raise RepresentationError(f"road = {road!r}: known are 'eigen', 'dense' and 'krylov'")
    return canonical(constraints.polish(basis))


def _choose(rep: Rep) -> str:
    if rep.is_orthogonal and rep.size <= EIGEN_LIMIT:
        return "eigen"
    return "dense" if rep.size <= DENSE_LIMIT else "krylov"


class Constraints:
    """The stacked constraint operator of a representation, applied without its matrix.

    Vectors are kept as matrices ``[k, left, right]`` of the two halves of the tensor product, on which generators act by
    two products with small matrices.

    Args:
        rep: the representation; its halves (a leaf, or about half of the factors) must have matrices of fewer than
            20 million entries for all generators together.
    """

    def __init__(self, rep: Rep) -> None:
        self.rep = rep
        left, right = halves(rep)
        a, h = generators(rep.group)
        for half in (left, right):
            check_entries((len(a) + len(h)) * half.size, half.size, rep)
        self.algebra = list(zip(left.drho(a), right.drho(a), strict=True))
        self.discrete = list(zip(*(half.rho(h, dtype=torch.float64).double() for half in (left, right)), strict=True))
        self.sizes = (left.size, right.size)
        self.count = len(self.algebra) + len(self.discrete)

    def apply(self, x: Tensor) -> Tensor:
        """``[k, size]`` to ``[generators, k, size]``."""
        X = x.unflatten(-1, self.sizes)
        parts = [left @ X + X @ right.mT for left, right in self.algebra]
        parts += [left @ X @ right.mT - X for left, right in self.discrete]
        return torch.stack(parts).flatten(-2) if parts else x.new_zeros(0, *x.shape)

    def transpose(self, y: Tensor) -> Tensor:
        """``[generators, k, size]`` to ``[k, size]``."""
        Y = y.unflatten(-1, self.sizes)
        total = torch.zeros_like(Y[0])
        for (left, right), part in zip(self.algebra, Y, strict=False):
            total += left.mT @ part + part @ right
        for (left, right), part in zip(self.discrete, Y[len(self.algebra) :], strict=True):
            total += left.mT @ part @ right - part
        return total.flatten(-2)

    def reduce(self, basis: Tensor) -> Tensor:
        """Orthonormal rows of the part of the row space of `basis` that every constraint sends to zero."""
        for left, right in self._mixed_algebra():
            x = basis.unflatten(-1, self.sizes)
            basis = _null_rows((left @ x + x @ right.mT).flatten(-2)) @ basis
        for left, right in self.discrete:
            x = basis.unflatten(-1, self.sizes)
            basis = _null_rows((left @ x @ right.mT - x).flatten(-2)) @ basis
        return basis

    def _mixed_algebra(self) -> list[tuple[Tensor, Tensor]]:
        """Two random elements of the algebra, which leave little or nothing to the others, then the basis."""
        if not self.algebra:
            return []
        mix = torch.randn(2, len(self.algebra), generator=_generator(), dtype=torch.float64)
        stacks = [torch.stack(matrices) for matrices in zip(*self.algebra, strict=True)]
        random = [torch.einsum("mk,kij->mij", mix, stack) for stack in stacks]
        return [*zip(*random, strict=True), *self.algebra]

    def polish(self, basis: Tensor) -> Tensor:
        """Take out what rounding left of other vectors, and make the rows orthonormal."""
        if not len(basis) or not self.count:
            return basis
        residual = self.apply(basis)
        if float(residual.abs().max()) > POLISH_TOL:
            basis = basis - self.least_squares(residual, tol=1e-3)
        return torch.linalg.qr(basis.mT).Q.mT

    def least_squares(self, y: Tensor, tol: float) -> Tensor:
        """Least-norm x with ``apply(x) = y`` for y in the range: CGLS on all k right-hand sides at once.

        Stops when every residual of the normal equations has shrunk by `tol`.
        """
        x = torch.zeros_like(y[0])
        residual, gradient = y.clone(), self.transpose(y)
        direction, square = gradient.clone(), gradient.square().sum(-1, keepdim=True)
        goal = tol**2 * square
        for _ in range(MAX_ITERATIONS):
            active = square > goal.clamp(min=torch.finfo(x.dtype).tiny)
            if not bool(active.any()):
                return x
            moved = self.apply(direction)
            length = moved.square().sum(0).sum(-1, keepdim=True)
            step = torch.where(active, square / torch.where(length > 0, length, 1.0), 0.0)
            x += step * direction
            residual -= step * moved
            gradient = self.transpose(residual)
            fresh = gradient.square().sum(-1, keepdim=True)
            direction = gradient + torch.where(active, fresh / torch.where(square > 0, square, 1.0), 0.0) * direction
            square = fresh
        raise RepresentationError(
            f"{self.rep!r}: conjugate gradients did not converge in {MAX_ITERATIONS:,} steps on {self.rep.size:,} "
            "unknowns; the generators are too close to the identity. Use a smaller group or representation"
        )


def _matched_pairs(rep: Rep) -> Tensor:
    """Orthonormal rows that contain all invariants of an orthogonal representation."""
    if not rep.is_orthogonal:
        raise RepresentationError(f"{rep!r} is not orthogonal, as the eigen road needs; use 'dense' or 'krylov'")
    left, right = halves(rep)
    (u, U), (v, W) = (torch.linalg.eigh(S) for S in _symmetric_elements(left, right))
    i, j = ((u[:, None] - v).abs() < MATCH_TOL).nonzero().unbind(-1)
    check_entries(len(i), rep.size, rep)
    return (U.mT[i][:, :, None] * W.mT[j][:, None, :]).flatten(1)


def halves(rep: Rep) -> tuple[Rep, Rep]:
    """The tensor product split in two between its factors, as equal in size as can be."""
    factors = rep.factors()
    sizes = [f.size for f in factors]
    cut = min(range(len(sizes) + 1), key=lambda i: max(math.prod(sizes[:i]), math.prod(sizes[i:])))
    return _product(rep, factors[:cut]), _product(rep, factors[cut:])


def _product(rep: Rep, factors: Sequence[Rep]) -> Rep:
    return Scalar(rep.group) if not factors else factors[0] if len(factors) == 1 else Product(factors)


def _symmetric_elements(*reps: Rep) -> list[Tensor]:
    """One random symmetric element of the group algebra with norm about 1, as a matrix of each representation."""
    a, h = generators(reps[0].group)
    letters = [torch.cat([rep.drho(a), rep.rho(h, dtype=torch.float64), _unit(rep)]) for rep in reps]
    norms = torch.stack([part.norm(dim=(-2, -1)) for part in letters]).amax(0)
    generator = _generator()
    words = [torch.zeros_like(part[0]) for part in letters]
    for _ in range(4):
        weights = torch.randn(3, len(norms), generator=generator, dtype=torch.float64)
        for word, part in zip(words, letters, strict=True):
            x, y, z = torch.einsum("wk,kij->wij", weights / torch.where(norms > 0, norms, 1.0), part)
            word += x @ y @ z + x @ y + z
    scale = max(float(torch.linalg.matrix_norm(word, 2)) for word in words)
    return [(word + word.mT) / (2 * scale) for word in words]


def _null_rows(y: Tensor) -> Tensor:
    """Orthonormal rows c ``[dims, k]`` with ``c @ y = 0`` for y ``[k, N]``: singular vectors of the triangular factor."""
    if not len(y):
        return y.new_zeros(0, 0)
    R = torch.linalg.qr(y.mT, mode="r").R
    _, values, right = torch.linalg.svd(R)
    values = torch.cat([values, values.new_zeros(len(right) - len(values))])
    return right[values <= NULL_TOL * max(1.0, float(values[0]))]


def _unit(rep: Rep) -> Tensor:
    return torch.eye(rep.size, dtype=torch.float64)[None]


def _krylov(constraints: Constraints, rep: Rep) -> Tensor:
    """Project random vectors until fewer invariants than vectors come out."""
    count = 16
    if rep.group.order <= MAX_ENUMERATION:
        # Their number is the mean of the character over the group.
        dims = round(float(rep.character(rep.group.elements(), dtype=torch.float64).mean()))
        check_entries(dims, rep.size, rep)
        count = dims + 1
    while True:
        count = min(count, rep.size)
        check_entries(count, rep.size, rep)
        x = torch.randn(count, rep.size, generator=_generator(), dtype=torch.float64) / math.sqrt(rep.size)
        for _ in range(2):  # the second pass takes out what the first one left by rounding
            x = x - constraints.least_squares(constraints.apply(x), tol=1e-11)
        _, values, right = torch.linalg.svd(x, full_matrices=False)
        rank = int((values > 1e-6 * max(1e-3, float(values[0]))).sum())
        if rank < count or count == rep.size:
            return right[:rank]
        count *= 4


def canonical(basis: Tensor) -> Tensor:
    """The same row space with rows that depend on that space alone, up to rounding.

    Rows are the Gram-Schmidt orthonormalisation of projected unit vectors, each chosen as the first whose remainder is
    not much shorter than the longest one. Coefficients on the basis then mean the same on every machine.
    """
    rank = len(basis)
    if rank == 0:
        return basis
    columns, pivots = basis.clone(), list[int]()
    for _ in range(rank):
        lengths = columns.square().sum(0)
        pivot = int((lengths > 0.37 * lengths.max()).nonzero()[0])
        unit = columns[:, pivot] / lengths[pivot].sqrt()
        columns = columns - unit[:, None] * (unit @ columns)
        pivots.append(pivot)
    Q, R = torch.linalg.qr(basis[:, pivots])
    return (Q * R.diagonal().sign()).mT @ basis


def check_entries(rows: int, columns: int, rep: Rep) -> None:
    """Raise `RepresentationError` for a basis of more than `MAX_ENTRIES` numbers."""
    if rows * columns > MAX_ENTRIES:
        raise RepresentationError(
            f"{rep!r}: a basis of {rows:,} rows with {columns:,} entries has {rows * columns:,} numbers, more than the "
            f"{MAX_ENTRIES:,} that are kept. Write the representations as direct sums (each pair of parts is solved "
            "by itself; see hom_basis), or use smaller tensors"
        )


def _generator() -> torch.Generator:
    """A fixed stream: the same representation gives the same basis in every run."""
    return torch.Generator().manual_seed(1872)

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
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from erlangen.errors import RepresentationError
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
    """The stacked constraint operator of a representation, applied without its matrix."""

    def __init__(self, rep: Rep) -> None:
        self.rep, self.dual = rep, rep.dual
        self.a, self.h = generators(rep.group)
        self.inverses = rep.group.inverse(self.h) if len(self.h) else self.h

    def apply(self, x: Tensor) -> Tensor:
        """``[k, size]`` to ``[generators, k, size]``."""
        parts = [self.rep._dapply(a, x) for a in self.a] + [self.rep._apply(h, x) - x for h in self.h]
        return torch.stack(parts) if parts else x.new_zeros(0, *x.shape)

    def transpose(self, y: Tensor) -> Tensor:
        """``[generators, k, size]`` to ``[k, size]``; rho(h)^T is the dual at h^-1."""
        total = torch.zeros_like(y[0])
        for a, part in zip(self.a, y, strict=False):
            total -= self.dual._dapply(a, part)
        for h, part in zip(self.inverses, y[len(self.a) :], strict=True):
            total += self.dual._apply(h, part) - part
        return total

    def reduce(self, basis: Tensor) -> Tensor:
        """Orthonormal rows of the part of the row space of `basis` that every constraint sends to zero."""
        mix = torch.randn(2, len(self.a), generator=_generator(), dtype=torch.float64)
        # Two random elements of the algebra leave little, or nothing, for the others to do.
        steps: list[Callable[[Tensor], Tensor]] = []
        steps += [lambda x, a=a: self.rep._dapply(a, x) for a in (*mix, *self.a) if len(self.a)]
        steps += [lambda x, h=h: self.rep._apply(h, x) - x for h in self.h]
        for step in steps:
            if not len(basis):
                break
            left, values, _ = torch.linalg.svd(step(basis), full_matrices=False)
            basis = left[:, values <= NULL_TOL * max(1.0, float(values.max()))].mT @ basis
        return basis

    def polish(self, basis: Tensor) -> Tensor:
        """Take out what rounding left of other vectors, and make the rows orthonormal."""
        if not len(basis) or not len(self.a) + len(self.h):
            return basis
        residual = float(self.apply(basis).abs().max())
        if residual > 1e-14:
            basis = basis - self.least_squares(self.apply(basis), tol=1e-4)
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
    left, right = _halves(rep)
    (u, U), (v, W) = (torch.linalg.eigh(S) for S in _symmetric_elements(left, right))
    i, j = ((u[:, None] - v).abs() < MATCH_TOL).nonzero().unbind(-1)
    check_entries(len(i), rep.size, rep)
    return (U.mT[i][:, :, None] * W.mT[j][:, None, :]).flatten(1)


def _halves(rep: Rep) -> tuple[Rep, Rep]:
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


def _unit(rep: Rep) -> Tensor:
    return torch.eye(rep.size, dtype=torch.float64)[None]


def _krylov(constraints: Constraints, rep: Rep) -> Tensor:
    """Project random vectors until fewer invariants than vectors come out."""
    count = 16
    while True:
        count = min(count, rep.size)
        check_entries(count, rep.size * (1 + len(constraints.a) + len(constraints.h)), rep)
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

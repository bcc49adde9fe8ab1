"""Lie algebras of fields: structure constants, Jacobi and cocycle identities, and one-parameter groups that act on data."""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp
import torch
from torch import Tensor

from erlangen.equations.jets import VectorField
from erlangen.errors import ErlangenError, ShapeError
from erlangen.groups import Affine, Group, Subgroup, Translation


def structure_constants(fields: Sequence[VectorField]) -> Tensor:
    """``[v_i, v_j] = sum_k c[i, j, k] v_k``, float64 ``[d, d, d]``.

    >>> from erlangen.equations import JetSpace, VectorField
    >>> jets = JetSpace("t", "x")
    >>> t, x = jets.symbols
    >>> shift, boost, turn = VectorField(jets, (1,), (0,)), VectorField(jets, (0,), (t,)), VectorField(jets, (0,), (1,))
    >>> structure_constants([shift, boost, turn])[0, 1].tolist()
    [0.0, 0.0, 1.0]

    Raises:
        ErlangenError: a bracket is no combination of the fields, the fields are not independent, or their components are not
            polynomials whose coefficients are real numbers.
    """
    if not fields:
        raise ErlangenError("fields is empty; give the fields of an algebra")
    symbols = fields[0].jets.symbols

    def numbers(field: VectorField) -> dict[tuple[int, tuple[int, ...]], sp.Expr]:
        whole = (*field.xi, *field.phi)
        if not all(part.is_polynomial(*symbols) and part.free_symbols <= set(symbols) for part in whole):
            raise ErlangenError(
                f"{field} is no polynomial in {', '.join(map(str, symbols))} with numbers; put numbers in for constants"
            )
        parts = [sp.Poly(part, *symbols) for part in whole]
        return {(k, power): value for k, part in enumerate(parts) for power, value in part.terms() if value != 0}

    table = [numbers(field) for field in fields]
    brackets = [[numbers(a.bracket(b)) for b in fields] for a in fields]
    keys = sorted({key for row in (*table, *(b for line in brackets for b in line)) for key in row})
    basis = sp.Matrix([[row.get(key, 0) for row in table] for key in keys])
    if basis.rank() < len(fields):
        raise ErlangenError("fields are not independent; drop those that others make up")
    # Independent columns have an exact left inverse.
    left = (basis.T * basis).inv() * basis.T
    constants = torch.zeros(len(fields), len(fields), len(fields), dtype=torch.float64)
    for i, line in enumerate(brackets):
        for j, row in enumerate(line):
            vector = sp.Matrix([row.get(key, 0) for key in keys])
            found = (left * vector).applyfunc(sp.radsimp)
            if any(sp.simplify(rest) != 0 for rest in basis * found - vector):
                raise ErlangenError(
                    f"the bracket of fields {i} and {j} is no combination of the fields; they are no algebra"
                )
            if not all(value.is_real for value in found):
                raise ErlangenError(f"the bracket of fields {i} and {j} has complex constants; take real fields")
            constants[i, j] = torch.tensor([float(value) for value in found], dtype=torch.float64)
    return constants


def jacobi_error(constants: Tensor) -> float:
    """The largest entry of ``[[i, j], k] + [[j, k], i] + [[k, i], j]``; zero for a Lie algebra.

    Raises:
        ShapeError: the constants are no ``[d, d, d]``.
    """
    _check(constants)
    nested = torch.einsum("ijm,mkl->ijkl", constants, constants)
    return float((nested + nested.permute(1, 2, 0, 3) + nested.permute(2, 0, 1, 3)).abs().max())


def cocycle_error(constants: Tensor, central: Tensor) -> float:
    """The largest failure of a central term ``K [d, d]`` to be antisymmetric and to obey ``K([i, j], k) + cyclic = 0``.

    Raises:
        ShapeError: the shapes are not ``[d, d, d]`` and ``[d, d]``.
    """
    _check(constants)
    if central.shape != constants.shape[:2]:
        raise ShapeError(f"central has shape {tuple(central.shape)}; pass {tuple(constants.shape[:2])}")
    nested = torch.einsum("ijm,mk->ijk", constants, central)
    cyclic = nested + nested.permute(1, 2, 0) + nested.permute(2, 0, 1)
    return max(float((central + central.mT).abs().max()), float(cyclic.abs().max()))


def one_parameter_group(field: VectorField, name: str | None = None) -> Group:
    """The motions of the variables along a field whose components are affine: a group that acts on points.

    >>> import torch
    >>> import erlangen as er
    >>> from erlangen.equations import JetSpace, VectorField
    >>> jets = JetSpace("t", "x y")
    >>> t, x, y = jets.symbols
    >>> turn = one_parameter_group(VectorField(jets, (0,), (-y, x)))
    >>> turn.space_dim, turn.dim
    (3, 1)
    >>> symmetry = er.Symmetry(turn, input="points", output="invariant")
    >>> points = torch.randn(8, 5, 3)  # of (t, x, y)
    >>> float(er.equivariance_error(lambda p: p[..., 1:].square().sum((1, 2)), symmetry, points).max()) < 1e-5
    True

    Args:
        field: with components of degree one at most, in independent and dependent variables.
        name: of the group; by default the field.

    Raises:
        ErlangenError: the field depends on derivatives, or is not affine with real numbers, so that its flow is no group of
            matrices.
    """
    symbols = field.jets.symbols
    parts = (*field.xi, *field.phi)
    if not field.is_point or any(
        not part.is_polynomial(*symbols) or sp.total_degree(part, *symbols) > 1 for part in parts
    ):
        raise ErlangenError(
            f"{field} is not affine in {', '.join(map(str, symbols))}; its flow is no group of matrices"
        )
    constants = {s for part in parts for s in part.free_symbols} - set(symbols)
    if constants or any(part.has(sp.I) for part in parts):
        raise ErlangenError(
            f"{field} holds {', '.join(sorted(map(str, constants))) or 'I'}; put real numbers in for it"
        )
    n = len(symbols)
    matrix = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    for i, part in enumerate(parts):
        for j, x in enumerate(symbols):
            matrix[i, j] = float(sp.diff(part, x))
        matrix[i, n] = float(part.subs(dict.fromkeys(symbols, 0)))

    def embed(shift: Tensor) -> Tensor:
        time = shift[..., 0, 1]
        return torch.linalg.matrix_exp(time[..., None, None] * matrix.to(time))

    return Subgroup(Affine(n), Translation(1), embed, name=name or f"Flow({field})")


def _check(constants: Tensor) -> None:
    if constants.ndim != 3 or len(set(constants.shape)) != 1:
        raise ShapeError(f"constants has shape {tuple(constants.shape)}; pass [d, d, d]")

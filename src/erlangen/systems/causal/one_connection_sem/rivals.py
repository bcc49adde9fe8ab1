"""Other ways to the same answers: sympy's inverses and fraction-free elimination, sums over permutations; likelihood ratios."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from scipy import stats
from torch import Generator, Tensor

from erlangen.causal import MixedGraph
from erlangen.systems.causal.one_connection_sem._ideals import jacobian

Edge = tuple[int, int]
Table = list[list[Any]]


# --- determinant and adjugate of I - Lambda --------------------------------------------------------------------------
def matrix_of_sympy(graph: MixedGraph) -> Any:
    """``I - Lambda`` as a matrix of sympy's expressions, with the names of `symbolic`."""
    from sympy import Matrix, Symbol

    edges = set(graph.directed)
    n = graph.nodes
    return Matrix(n, n, lambda i, j: int(i == j) - (Symbol(f"l{i}_{j}") if (i, j) in edges else 0))


def adjugate_of_sympy(graph: MixedGraph) -> tuple[Any, Any]:
    """``det`` and ``adjugate`` of ``I - Lambda`` by Berkowitz's algorithm on expressions, both expanded."""
    from sympy import expand

    matrix = matrix_of_sympy(graph)
    return expand(matrix.det(method="berkowitz")), matrix.adjugate(method="berkowitz").applyfunc(expand)


def inverse_of_sympy(graph: MixedGraph) -> Any:
    """``inv`` of ``I - Lambda`` by LU; its entries are neither cancelled nor expanded, which takes longer than this."""
    return matrix_of_sympy(graph).inv(method="LU")


def domain_matrix(nodes: int, weights: Mapping[Edge, Any], ring: Any) -> Any:
    """``I - Lambda`` as a matrix over a sparse ring of polynomials."""
    from sympy.polys.matrices import DomainMatrix

    rows = [
        [ring.one if i == j else -weights[i, j] if (i, j) in weights else ring.zero for j in range(nodes)]
        for i in range(nodes)
    ]
    return DomainMatrix(rows, (nodes, nodes), ring.to_domain())


def fraction_free(nodes: int, weights: Mapping[Edge, Any], ring: Any) -> tuple[Any, Table]:
    """det and adjugate by fraction-free elimination over polynomials (Bareiss; sympy's ``inv_den``)."""
    numerator, denominator = domain_matrix(nodes, weights, ring).inv_den(method="rref")
    # det and adjugate up to a common factor; the constant term of the determinant is one.
    constant = denominator.coeff(1)
    return denominator * constant, (numerator * (ring.one * constant)).to_list()


def characteristic(nodes: int, weights: Mapping[Edge, Any], ring: Any) -> tuple[Any, Table]:
    """det and adjugate by the characteristic polynomial over polynomials (Berkowitz; sympy's ``adj_det``)."""
    adjugate, det = domain_matrix(nodes, weights, ring).adj_det()
    return det, adjugate.to_list()


def permutation_sum(matrix: Table, i: int, j: int, one: Any) -> Any:
    """The entry i, j of the adjugate: the sum over permutations s with s(j) = i of sign(s) times the other entries.

    The path of a one-connection, closed from j to i, and its cycles are those of the permutation.
    """
    total = one - one
    for s in itertools.permutations(range(len(matrix))):
        if s[j] == i:
            odd = sum(s[a] > s[b] for a, b in itertools.combinations(range(len(s)), 2)) % 2
            product = -one if odd else one
            for k, to in enumerate(s):
                if k != j:
                    product = product * matrix[k][to]
            total = total + product
    return total


def trek_sum(
    graph: MixedGraph, weights: Mapping[Edge, Any], omega: Mapping[Edge, Any], i: int, j: int, zero: Any
) -> Any:
    """The trek rule on an acyclic graph: all treks from i to j, one by one, each a walk back from i, a turn, a walk to j."""
    total = zero
    for (k, l), turn in omega.items():
        for start, end in {(k, l), (l, k)}:
            for left in _walks(graph, start, i):
                for right in _walks(graph, end, j):
                    product = turn
                    for edge in (*left, *right):
                        product = product * weights[edge]
                    total = total + product
    return total


def _walks(graph: MixedGraph, start: int, end: int) -> list[list[Edge]]:
    """Directed walks of an acyclic graph, as lists of edges."""
    found: list[list[Edge]] = [[]] if start == end else []
    for a, b in graph.directed:
        if a == start:
            found += [[(a, b), *rest] for rest in _walks(graph, b, end)]
    return found


# --- tests of a model ------------------------------------------------------------------------------------------------
class LikelihoodRatio(NamedTuple):
    """Result of `likelihood_ratio_test`.

    Attributes:
        p: p-values ``[B]``.
        statistic: twice the difference of the log-likelihoods ``[B]``.
        gradient: largest entry of the gradient at the end, in units of its standard deviation, ``[B]``.
    """

    p: Tensor
    statistic: Tensor
    gradient: Tensor


def likelihood_ratio_test(
    graph: MixedGraph, S: Tensor, n: int, codimension: int, *, starts: int = 3, steps: int = 60, generator: Generator
) -> LikelihoodRatio:
    """Normal likelihood of a mixed graph, fitted by damped Fisher scoring from several starts, against no model.

    Args:
        graph: with |D| + nodes + |B| parameters that are generically finite-to-one.
        S: sample covariances ``[B, d, d]``, float64.
        n: samples behind each.
        codimension: degrees of freedom.
        starts: the first has small weights, the others random ones; the best end counts.
        steps: at most so many, for each.
        generator: of the starts.
    """
    saturated = torch.linalg.slogdet(S).logabsdet + S.shape[-1]
    best = torch.full(S.shape[:1], float("inf"), dtype=S.dtype)
    slope = torch.full_like(best, float("inf"))
    for start in range(starts):
        scale = 0.05 if start == 0 else 0.5
        theta = scale * torch.randn(len(S), _size(graph), generator=generator, dtype=S.dtype)
        k = len(graph.directed)
        theta[:, k : k + len(graph.bidirected)] *= 0.1
        theta[:, k + len(graph.bidirected) :] = S.diagonal(dim1=-2, dim2=-1)
        value, gradient = _scored(graph, theta, S, steps)
        better = value < best
        best, slope = torch.where(better, value, best), torch.where(better, gradient, slope)
    statistic = n * (best - saturated)
    return LikelihoodRatio(torch.as_tensor(stats.chi2.sf(statistic.numpy(), codimension)), statistic, slope * n**0.5)


def _size(graph: MixedGraph) -> int:
    return len(graph.directed) + len(graph.bidirected) + graph.nodes


def _model(graph: MixedGraph, theta: Tensor) -> tuple[Tensor, Tensor]:
    """``(I - Lambda)^-1`` and Sigma of parameters ``[B, k]``: directed edges, bidirected edges, variances, as `jacobian`."""
    n, (d, b) = graph.nodes, (len(graph.directed), len(graph.bidirected))
    matrix = torch.eye(n, dtype=theta.dtype).repeat(len(theta), 1, 1)
    for k, (i, j) in enumerate(graph.directed):
        matrix[:, i, j] = -theta[:, k]
    omega = torch.diag_embed(theta[:, d + b :])
    for k, (i, j) in enumerate(graph.bidirected):
        omega[:, i, j] = omega[:, j, i] = theta[:, d + k]
    effects = torch.linalg.inv_ex(matrix).inverse
    return effects, effects.mT @ omega @ effects


def _value(sigma: Tensor, S: Tensor) -> Tensor:
    """``log det Sigma + tr S Sigma^-1``, infinite where Sigma is not positive definite."""
    root, info = torch.linalg.cholesky_ex(sigma)
    logdet = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    value = logdet + torch.linalg.inv_ex(sigma).inverse.mul(S).sum((-2, -1))
    return torch.where((info == 0) & value.isfinite(), value, float("inf"))


def _scored(graph: MixedGraph, theta: Tensor, S: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Fisher scoring with a damping of its own for every matrix of the batch."""
    n = graph.nodes
    i, j = torch.triu_indices(n, n)
    damping = torch.full(S.shape[:1], 1e-2, dtype=S.dtype)
    effects, sigma = _model(graph, theta)
    value = _value(sigma, S)
    slope = torch.full_like(value, float("inf"))
    for _ in range(steps):
        packed = jacobian(graph, effects, sigma)  # [B, n (n + 1) / 2, k]
        J = packed.new_zeros(len(S), n, n, packed.shape[-1])
        J[:, i, j] = J[:, j, i] = packed
        inverse = torch.linalg.inv(sigma)
        scaled = torch.einsum("bij,bjlk->bilk", inverse, J)  # Sigma^-1 dSigma
        information = torch.einsum("bijk,bjil->bkl", scaled, scaled) / 2
        residual = inverse @ S - torch.eye(n, dtype=S.dtype)
        gradient = torch.einsum("bijk,bji->bk", scaled, residual) / 2
        unit = information.diagonal(dim1=-2, dim2=-1).clamp(min=1e-12)
        slope = (gradient / unit.sqrt()).abs().amax(-1)
        if float(slope.max()) < 1e-8:
            break
        step = torch.linalg.solve(information + torch.diag_embed(unit * damping[:, None] + 1e-12), gradient[..., None])[
            ..., 0
        ]
        new_effects, new_sigma = _model(graph, theta + step)
        new = _value(new_sigma, S)
        good = new <= value
        theta = torch.where(good[:, None], theta + step, theta)
        effects, sigma = (
            torch.where(good[:, None, None], a, b) for a, b in ((new_effects, effects), (new_sigma, sigma))
        )
        value = torch.where(good, new, value)
        damping = torch.where(good, damping / 5, damping * 5).clamp(1e-10, 1e10)
    return value, slope

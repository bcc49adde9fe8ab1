"""Equivariant polynomials: rank graph networks by the degree of the polynomials they compute, and add those they lack.

Polynomials of a graph's adjacency matrix that do not depend on the order of the nodes have an explicit basis, one for each small
multigraph. Those of degree 5 and 6 that products of matrices lack are few; given to PPGN as features, they make it PPGN++.
"""

from erlangen.survey import System
from erlangen.systems.graphs.equivariant_polynomials.method import (
    PPGN,
    missing_polynomials,
    pair_means,
    pair_sums,
    polynomial_features,
)

__all__ = ["PPGN", "SYSTEM", "missing_polynomials", "pair_means", "pair_sums", "polynomial_features"]

SYSTEM = System(
    title="Equivariant Polynomials for Graph Neural Networks",
    authors=("Omri Puny", "Derek Lim", "Bobak T. Kiani", "Haggai Maron", "Yaron Lipman"),
    venue="ICML",
    year=2023,
    arxiv="2302.11556",
    abstract_claims=(
        "Networks on graphs can be ranked by the largest degree of equivariant polynomials that they compute in full.",
        "A concrete basis of these polynomials generalises earlier results, and tells which of them an architecture computes.",
        "Adding features or operations that an architecture lacks raises its degree; the result does well on graph benchmarks.",
    ),
    method=(
        "erlangen.nn.GraphPolynomials",
        "erlangen.geometry.is_computable",
        "erlangen.systems.equivariant_polynomials.polynomial_features",
        "erlangen.systems.equivariant_polynomials.PPGN",
    ),
)

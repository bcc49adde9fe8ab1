"""The one-connection rule: covariances of linear structural equation models with cycles, as sums over paths and disjoint cycles.

With it models are counted by ranks over a prime field, and the polynomials that vanish on them are found.
"""

from erlangen.survey import System
from erlangen.systems.causal.one_connection_sem._ideals import (
    Relation,
    is_generically_finite,
    model_dimension,
    relation_test,
    vanishing_polynomials,
)
from erlangen.systems.causal.one_connection_sem.method import (
    OneConnections,
    covariance,
    linear_subgraphs,
    mixed_graph,
    one_connections,
    symbolic,
)

__all__ = [
    "SYSTEM", "OneConnections", "Relation", "covariance", "is_generically_finite",
    "linear_subgraphs", "mixed_graph", "model_dimension", "one_connections", "relation_test", "symbolic",
    "vanishing_polynomials",
]  # fmt: skip

SYSTEM = System(
    title="One-connection rule for structural equation models",
    authors=("Bibhas Adhikari", "Elizabeth Gross", "Marc Härkönen", "Elias Tsigaridas"),
    venue="arXiv",
    year=2022,
    arxiv="2210.00239",
    abstract_claims=(
        "The covariance matrix of a model with directed cycles is a sum over one-connections, as the trek rule is over treks.",
        "Simple mixed graphs are generically finite-to-one.",
        "The formula serves to look for polynomial constraints of a model.",
    ),
    method=(
        "erlangen.systems.one_connection_sem.OneConnections", "erlangen.systems.one_connection_sem.symbolic",
        "erlangen.systems.one_connection_sem.covariance", "erlangen.systems.one_connection_sem.model_dimension",
        "erlangen.systems.one_connection_sem.vanishing_polynomials", "erlangen.systems.one_connection_sem.relation_test",
    ),
)  # fmt: skip

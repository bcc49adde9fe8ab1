"""TOPO: graphs of causes by a search over topological orders, in which acyclicity says which pairs to swap.

For a fixed order the best weights are regressions of every node on those before it. Pairs whose forbidden edge would close
least of a cycle are swapped where that improves the score, until no candidate does; any other method's graph may be the start.
"""

from erlangen.survey import System
from erlangen.systems.causal.notears_topo._networks import NetworkOrdered, Networks, NetworkScore, network_topo
from erlangen.systems.causal.notears_topo._scores import CovarianceScore, PenalizedScore, Score
from erlangen.systems.causal.notears_topo.method import (
    Ordered,
    candidates,
    kkt_violation,
    post_process,
    promising,
    topo,
)

__all__ = [
    "SYSTEM", "CovarianceScore", "NetworkOrdered", "NetworkScore", "Networks", "Ordered", "PenalizedScore", "Score",
    "candidates", "kkt_violation", "network_topo", "post_process", "promising", "topo",
]  # fmt: skip

SYSTEM = System(
    title="Optimizing NOTEARS Objectives via Topological Swaps",
    authors=("Chang Deng", "Kevin Bello", "Bryon Aragam", "Pradeep Ravikumar"),
    venue="ICML",
    year=2023,
    arxiv="2305.17277",
    abstract_claims=(
        "A search over topological orders by swaps ends at a local minimum or a KKT point under weaker conditions than before.",
        "It finds solutions with lower scores than other methods do.",
        "The gradient of acyclicity gives an effective set of candidate pairs.",
        "As post-processing it significantly improves the scores of other methods.",
    ),
    method=(
        "erlangen.systems.notears_topo.topo",
        "erlangen.systems.notears_topo.candidates",
        "erlangen.systems.notears_topo.post_process",
        "erlangen.systems.notears_topo.kkt_violation",
        "erlangen.systems.notears_topo.network_topo",
    ),
)

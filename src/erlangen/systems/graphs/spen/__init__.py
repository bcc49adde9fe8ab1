"""Subgraph permutation equivariant networks: equivariant layers on ego-networks, with weights by their size.

The general linear maps that commute with renumbering are applied to the ego-network of every node instead of the whole graph;
after each layer, a pair or node that is in several ego-networks gets the mean.
"""

from erlangen.nn import SPEN, SubgraphLinear, ego_subgraphs, spen_separator
from erlangen.survey import System

__all__ = ["SPEN", "SYSTEM", "SubgraphLinear", "ego_subgraphs", "spen_separator"]

SYSTEM = System(
    title="Subgraph Permutation Equivariant Networks",
    authors=("Joshua Mitton", "Roderick Murray-Smith"),
    venue="Transactions on Machine Learning Research",
    year=2023,
    arxiv="2111.11840",
    abstract_claims=(
        "Equivariant layers on ego-networks, with a choice of representations of their automorphisms, make a graph network.",
        "Sub-graphs make the network scale better than one that is equivariant on the whole graph, and save GPU memory.",
        "Higher-order representations make it more expressive than message passing.",
        "On six of seven benchmarks of graph classification it is statistically not different from the best methods.",
    ),
    method=("erlangen.nn.SPEN", "erlangen.nn.ego_subgraphs", "erlangen.nn.spen_separator"),
)

"""Causes: directed graphs, structural equation models, interventions, acyclicity, and how far two graphs are apart.

>>> from torch import Generator
>>> g = Generator().manual_seed(0)
>>> model = random_linear_sem(random_dag(5, 6, generator=g), generator=g)
>>> X = model.sample(1000, generator=g)  # [1000, 5]
>>> order = topological_order(model.weights)
>>> structure_scores(model.weights != 0, model.weights != 0).shd
0

Everywhere ``W[i, j]`` is the weight of the edge i -> j, so that samples, which are rows, satisfy ``X = X W + noise``. Names of
nodes mean nothing: S_d acts by renaming them, on samples by columns and on graphs by rows and columns, and a method that knows
nothing else must commute with it.
"""

from erlangen.causal.cycles import acyclicity, walk_sums
from erlangen.causal.equations import Intervention, LinearSEM, NonlinearSEM, random_linear_sem, random_nonlinear_sem
from erlangen.causal.families import InterventionFamily, Interventions
from erlangen.causal.graphs import (
    MixedGraph,
    ancestors,
    is_dag,
    order_mask,
    random_dag,
    relabelled,
    threshold_to_dag,
    topological_order,
)
from erlangen.causal.scores import StructureScores, structure_scores, varsortability

__all__ = [
    "Intervention",
    "InterventionFamily",
    "Interventions",
    "LinearSEM",
    "MixedGraph",
    "NonlinearSEM",
    "StructureScores",
    "acyclicity",
    "ancestors",
    "is_dag",
    "order_mask",
    "random_dag",
    "random_linear_sem",
    "random_nonlinear_sem",
    "relabelled",
    "structure_scores",
    "threshold_to_dag",
    "topological_order",
    "varsortability",
    "walk_sums",
]

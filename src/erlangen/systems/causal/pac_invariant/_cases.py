"""Random models with a target in the middle, and families of interventions on few sites; predictors that stay fixed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from erlangen.causal import InterventionFamily, LinearSEM, ancestors, random_linear_sem

IN_DEGREE, SITES = 3, 3


class Case(NamedTuple):
    """A model, its target, and interventions."""

    family: InterventionFamily
    target: int

    @property
    def model(self) -> LinearSEM:
        """Without interventions."""
        return self.family.model

    def features(self, nodes: Tensor) -> tuple[int, ...]:
        """Nodes as indices of features, which leave out the target."""
        return tuple(int(k) - (int(k) > self.target) for k in nodes)

    @property
    def parents(self) -> tuple[int, ...]:
        """Causes of the target, as features."""
        return self.features(self.model.weights[:, self.target].nonzero()[:, 0])


def bounded_dag(nodes: int, in_degree: int, generator: Generator) -> Tensor:
    """A random acyclic graph ``[nodes, nodes]``, bool: each node but the first has 1 to `in_degree` causes before it."""
    graph = torch.zeros(nodes, nodes, dtype=torch.bool)
    for j in range(1, nodes):
        count = int(torch.randint(1, min(j, in_degree) + 1, (), generator=generator))
        graph[torch.randperm(j, generator=generator)[:count], j] = True
    return graph


def random_case(nodes: int, generator: Generator, *, effect: bool = False) -> Case:
    """A model on a bounded graph, its target in the middle, and soft interventions on three other nodes.

    With `effect` one of the sites is a child of the target.
    """
    target = nodes // 2
    while True:
        graph = bounded_dag(nodes, IN_DEGREE, generator)
        children = graph[target].nonzero()[:, 0]
        if len(children) or not effect:
            break
    omega = 0.5 + torch.rand(nodes, generator=generator, dtype=torch.float64)
    omega[target] = 1
    model = random_linear_sem(graph, low=0.4, high=0.9, omega=omega, generator=generator, dtype=torch.float64)
    others = [k for k in torch.randperm(nodes, generator=generator).tolist() if k != target]
    if effect:
        first = int(children[torch.randint(len(children), (), generator=generator)])
        others = [first, *(k for k in others if k != first)]
    return Case(InterventionFamily(model, tuple(others[:SITES]), "soft", weights=(0.2, 1.5)), target)


def descendants(case: Case) -> tuple[int, ...]:
    """Effects of the target, as features."""
    return case.features(ancestors(case.model.weights)[case.target].nonzero()[:, 0])

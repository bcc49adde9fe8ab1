"""What is compared: estimates of the gradient on one network, with and without homeostasis or decay."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from erlangen.systems.learning.equilibrium_propagation.method import EquilibriumNetwork, Propagation


@dataclass(frozen=True)
class Decayed:
    """An objective with the squares of all weights between states, over the number of units, times `weight`."""

    of: Propagation
    weight: float

    def __call__(self, net: EquilibriumNetwork, x: Tensor, y: Tensor) -> Tensor:
        """The mean loss of a batch, and the decay."""
        return self.of(net, x, y) + self.weight * net.matrix().square().sum() / net.states


estimate = partial(Propagation, on_unsettled="allow")
"""Of networks that are measured: how many samples do not rest is a column of the table."""

RECIPROCAL: dict[str, tuple[float, Propagation | Decayed]] = {
    "RBP": (90, estimate("recurrent")),
    "back-propagation through time": (90, estimate("time")),
    "RBP + homeostasis": (90, estimate("recurrent", homeostasis=1)),
    "EP": (90, estimate()),
    "EP N=2": (90, estimate(points=2, beta=0.05)),
    "EP + homeostasis": (90, estimate(homeostasis=1)),
    "EP N=2 + homeostasis": (90, estimate(points=2, beta=0.05, homeostasis=1)),
    "EP + decay": (90, Decayed(estimate(), 1)),
    "EP from symmetric weights": (0, estimate()),
}
"""Degrees between backward and forward weights at the start, and the objective."""

LOOP: dict[str, Propagation | Decayed] = {
    "RBP": estimate("recurrent"),
    "EP": estimate(),
    "EP + homeostasis": estimate(homeostasis=0.1),
    "EP + decay": Decayed(estimate(), 0.1),
}

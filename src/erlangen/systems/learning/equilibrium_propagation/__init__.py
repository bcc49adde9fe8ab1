"""Equilibrium propagation: gradients from how a resting network answers to a nudge, with and without symmetric weights.

Complex nudges remove the bias of their size; a penalty on the antisymmetric part of the Jacobian removes that of the weights.
"""

from erlangen.survey import System
from erlangen.systems.learning.equilibrium_propagation.method import (
    EquilibriumNetwork,
    Propagation,
    exact_nudge,
    limits,
    nudged_error,
    online_error,
    recurrent_error,
)

__all__ = [
    "SYSTEM", "EquilibriumNetwork", "Propagation", "exact_nudge", "limits", "nudged_error", "online_error",
    "recurrent_error",
]  # fmt: skip

SYSTEM = System(
    title="Improving equilibrium propagation without weight symmetry through Jacobian homeostasis",
    authors=("Axel Laborieux", "Friedemann Zenke"),
    venue="ICLR",
    year=2024,
    arxiv="2309.02214",
    abstract_claims=(
        "Equilibrium propagation needs symmetric weights and infinitesimal nudges to be unbiased.",
        "The finite size of nudges poses no problem: exact derivatives can be had by a Cauchy integral.",
        "Weight asymmetry leaves a bias that lowers performance, because gradients are misaligned.",
        "A homeostatic loss on the Jacobian at the fixed point reduces asymmetry and improves learning without shared weights.",
        "It scales to ImageNet 32 x 32.",
    ),
    method=(
        "erlangen.systems.equilibrium_propagation.Propagation",
        "erlangen.systems.equilibrium_propagation.nudged_error",
        "erlangen.systems.equilibrium_propagation.recurrent_error",
    ),
)

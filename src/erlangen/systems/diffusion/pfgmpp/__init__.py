"""PFGM++: data are charges in N + D dimensions, and following the field lines from afar generates them.

By the rotations of the D additional dimensions one number, the norm there, is enough. D = 1 is PFGM, D to infinity diffusion; in
between lies a family that trades robustness of the sampler against rigidity of the network's task.
"""

from erlangen.survey import System
from erlangen.systems.diffusion.pfgmpp.method import (
    PoissonFlow,
    poisson_field,
    radius,
    rounded_weights,
    sample_radius,
)

__all__ = ["SYSTEM", "PoissonFlow", "poisson_field", "radius", "rounded_weights", "sample_radius"]

SYSTEM = System(
    title="PFGM++: Unlocking the Potential of Physics-Inspired Generative Models",
    authors=("Yilun Xu", "Ziming Liu", "Yonglong Tian", "Shangyuan Tong", "Max Tegmark", "Tommi Jaakkola"),
    venue="ICML",
    year=2023,
    arxiv="2302.04265",
    abstract_claims=(
        "Poisson flows in N + D dimensions unify diffusion models (D to infinity) and PFGM (D = 1).",
        "An objective by perturbation, unbiased, replaces the targets that PFGM takes from large batches.",
        "Settings of diffusion models carry over to any D by aligning the norm r with sigma sqrt(D).",
        "Models with a finite D beat diffusion models on CIFAR-10 and FFHQ 64 x 64.",
        "Models with a smaller D are more robust against errors of the model.",
    ),
    method=(
        "erlangen.systems.pfgmpp.PoissonFlow",
        "erlangen.systems.pfgmpp.poisson_field",
        "erlangen.systems.pfgmpp.sample_radius",
        "erlangen.systems.pfgmpp.rounded_weights",
    ),
)

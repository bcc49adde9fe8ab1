"""Invariant predictors: those that are optimal in all sampled interventions, and how likely they stay so in unseen ones.

Population risks of linear structural equation models in closed form, certificates for finite classes, sample sizes, and
search for subsets and linear representations.
"""

from erlangen.survey import System
from erlangen.systems.causal.pac_invariant._bounds import (
    excess_interval,
    samples_agnostic,
    samples_finite,
    samples_vc,
    tau_finite,
    vc_bound,
)
from erlangen.systems.causal.pac_invariant._finite import SubsetClass, certify
from erlangen.systems.causal.pac_invariant._search import search_linear, search_subsets
from erlangen.systems.causal.pac_invariant.method import (
    Environments,
    Predictor,
    excess_risk,
    half_gradient,
)

__all__ = [
    "SYSTEM", "Environments", "Predictor", "SubsetClass", "certify", "excess_interval", "excess_risk", "half_gradient",
    "samples_agnostic", "samples_finite", "samples_vc", "search_linear", "search_subsets", "tau_finite", "vc_bound",
]  # fmt: skip

SYSTEM = System(
    title="PAC Generalization via Invariant Representations",
    authors=("Advait Parulekar", "Karthikeyan Shanmugam", "Sanjay Shakkottai"),
    venue="ICML",
    year=2023,
    arxiv="2205.15196",
    abstract_claims=(
        "What is nearly invariant in enough sampled interventions stays so in most unseen ones, without faithfulness.",
        "Bounds do not grow with the number of variables where interventions have few sites of bounded in-degree.",
        "The same holds where latent variables are observed through a linear map.",
    ),
    method=tuple(
        f"erlangen.systems.pac_invariant.{name}"
        for name in ("certify", "excess_risk", "search_subsets", "search_linear", "samples_finite", "samples_vc", "vc_bound")
    ),
)  # fmt: skip

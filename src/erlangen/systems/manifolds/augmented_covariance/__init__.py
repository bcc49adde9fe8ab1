"""Augmented covariance matrices: Riemannian classifiers of signals that see the past beside the present.

A trial is embedded by delays (Takens), so that its covariance holds what a vector autoregression would need; order and lag are
chosen on training trials.
"""

from erlangen.survey import System
from erlangen.systems.manifolds.augmented_covariance._mdop import mdop_choice
from erlangen.systems.manifolds.augmented_covariance.method import AugmentedCovarianceClassifier

__all__ = ["SYSTEM", "AugmentedCovarianceClassifier", "mdop_choice"]

SYSTEM = System(
    title="Classification of BCI-EEG based on augmented covariance matrix",
    authors=("Igor Carrara", "Theodore Papadopoulo"),
    venue="arXiv",
    year=2023,
    arxiv="2302.04508",
    abstract_claims=(
        "Covariances that are augmented by delays, as an autoregressive model has them, improve motor imagery classification.",
        "Order and lag are found by a nested grid search, or from the signals as in the theory of delay embeddings.",
        "The method does better than the Riemannian state of the art on several data sets, within and across sessions.",
    ),
    method=(
        "erlangen.systems.augmented_covariance.AugmentedCovarianceClassifier",
        "erlangen.systems.augmented_covariance.mdop_choice",
        "erlangen.signals.DelayCovariances",
        "erlangen.signals.vector_autoregression",
    ),
)

"""NERO evaluation: a metric becomes a function on the group, and a model is judged on whole orbits of its inputs.

The one number of a test set is replaced by a curve: the metric of g x against g y for all elements g of a group. Flat curves tell
of equivariance, dips of what a model has not seen. In this library the method is `erlangen.audit`.
"""

from erlangen.measure import AuditReport, Orbit, audit, orbit
from erlangen.survey import System

__all__ = ["SYSTEM", "AuditReport", "Orbit", "audit", "orbit"]

SYSTEM = System(
    title="Evaluating Machine Learning Models with NERO: Non-Equivariance Revealed on Orbits",
    authors=("Zhuokai Zhao", "Takumi Matsuzawa", "William Irvine", "Michael Maire", "Gordon L. Kindlmann"),
    venue="arXiv",
    year=2023,
    arxiv="2305.19889",
    abstract_claims=(
        "Scalar metrics hide where and how a model fails; its behaviour along orbits of a group shows both.",
        "One workflow serves digit recognition, object detection, particle image velocimetry and point clouds.",
        "Plots on orbits show at a glance how equivariant different models are, and explain what they do.",
        "The consensus of a model's answers replaces ground truth, so that data without labels can be evaluated.",
    ),
    method=("erlangen.measure.audit", "erlangen.measure.AuditReport", "erlangen.measure.orbit"),
)

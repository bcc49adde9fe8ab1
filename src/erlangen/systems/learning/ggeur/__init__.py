"""GGEUR: the shape of a class in embedding space is shared between clients, and each draws what it lacks from it.

Clients send counts, means and covariances of frozen embeddings; the server adds them up and sends back shapes; every client
fills its classes up around its own rows, and around the class means of other domains.
"""

from erlangen.survey import System
from erlangen.systems.learning.ggeur.method import (
    aggregate,
    collect,
    draw,
    fill,
    fill_across_domains,
    guide_set,
    shapes,
)

__all__ = ["SYSTEM", "aggregate", "collect", "draw", "fill", "fill_across_domains", "guide_set", "shapes"]

SYSTEM = System(
    title="Geometric Knowledge-Guided Localized Global Distribution Alignment for Federated Learning",
    authors=("Yanbiao Ma", "Wei Dai", "Wenke Huang", "Jiayi Chen"),
    venue="CVPR",
    year=2025,
    arxiv="2503.06457",
    abstract_claims=(
        "The geometric shape of a class's embeddings is shared across domains.",
        "Shapes can be put together on the server without samples leaving the clients.",
        "Local samples drawn in the global shape improve federated methods under label skew, domain skew and both.",
    ),
    method=(
        "erlangen.systems.ggeur.aggregate",
        "erlangen.systems.ggeur.shapes",
        "erlangen.systems.ggeur.fill",
        "erlangen.systems.ggeur.fill_across_domains",
    ),
)

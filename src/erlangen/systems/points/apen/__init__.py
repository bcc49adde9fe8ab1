"""Approximately piecewise E(3) equivariant networks: a motion for each part, although nobody says what the parts are.

The network starts with many small cells, is exact for motions of each of them, and merges cells from layer to layer.
"""

from erlangen.survey import System
from erlangen.systems.points.apen.method import APEN, SegmentNet, apen_loss, vote_targets

__all__ = ["APEN", "SYSTEM", "SegmentNet", "apen_loss", "vote_targets"]

SYSTEM = System(
    title="Approximately Piecewise E(3) Equivariant Point Networks",
    authors=("Matan Atzmon", "Jiahui Huang", "Francis Williams", "Or Litany"),
    venue="ICLR",
    year=2024,
    arxiv="2402.08529",
    abstract_claims=(
        "Networks can respect motions of the parts of a cloud when the parts have to be predicted.",
        "The error of the equivariance is bounded by the uncertainty of the partition and the chance that it fails.",
        "Partitions that start fine and grow coarser from layer to layer keep both small.",
        "Generalises better than earlier methods on scans of rooms and on articulated human motion.",
    ),
    method=("erlangen.systems.apen.APEN", "erlangen.enforce.PiecewiseFrameAverage"),
)

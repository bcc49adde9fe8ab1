"""Frame averaging: any network becomes exactly symmetric, by an average over a few group elements that the input chooses.

The average is `erlangen.symmetrize`; here are the rest of the paper, latent frames among it, and what it is compared with.
"""

from erlangen.enforce import FrameGNN, NamedNodes
from erlangen.nn import NamedGIN
from erlangen.survey import System
from erlangen.systems.points.frame_averaging.method import FlatMLP, Lines, LocalFrames

__all__ = ["SYSTEM", "FlatMLP", "FrameGNN", "Lines", "LocalFrames", "NamedGIN", "NamedNodes"]

SYSTEM = System(
    title="Frame Averaging for Invariant and Equivariant Network Design",
    authors=(
        "Omri Puny",
        "Matan Atzmon",
        "Heli Ben-Hamu",
        "Ishan Misra",
        "Aditya Grover",
        "Edward J. Smith",
        "Yaron Lipman",
    ),
    venue="ICLR",
    year=2022,
    arxiv="2110.03336",
    abstract_claims=(
        "Averaging over a small frame that depends on the input makes any network exactly invariant or equivariant.",
        "What the network can express is kept: averaged networks approximate every invariant or equivariant function.",
        "Averaged networks on graphs are more expressive than message passing.",
        "Frames for motions of space give universal networks for point clouds that do as well as or better than special ones.",
    ),
    method=(
        "erlangen.symmetrize",
        "erlangen.enforce.FrameGNN",
        "erlangen.systems.frame_averaging.LocalFrames",
    ),
)

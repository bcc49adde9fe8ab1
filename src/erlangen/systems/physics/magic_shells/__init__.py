"""Magic sizes of programmable shells: the symmetry of a design decides which vertices can go wrong.

Kinds of subunits are orbits of a subgroup of the rotations of the icosahedron; the largest whose axes meet no vertex is best.
"""

from erlangen.survey import System
from erlangen.systems.physics.magic_shells.method import ShellDesign, best_symmetry, is_magic, unsafe_axes

__all__ = ["SYSTEM", "ShellDesign", "best_symmetry", "is_magic", "unsafe_axes"]

SYSTEM = System(
    title="Magic sizes enable minimal-complexity, high-fidelity assembly of programmable shells",
    authors=(
        "Botond Tyukodi", "Daichi Hayakawa", "Douglas M. Hall", "W. Benjamin Rogers", "Gregory M. Grason", "Michael F. Hagan",
    ),
    venue="Phys. Rev. Lett.",
    year=2025,
    arxiv="2411.03720",
    abstract_claims=(
        "The design with the fewest kinds of subunits that has no vertex on an axis of its symmetry assembles best.",
        "At magic sizes it needs twelve times fewer interactions than one in which every subunit is another.",
        "The best complexity does not grow with the size of the shell.",
        "Defects are disclinations at vertices on axes of the design's symmetry.",
    ),
    method=(
        "erlangen.systems.magic_shells.ShellDesign",
        "erlangen.systems.magic_shells.best_symmetry",
        "erlangen.simulate.Assembly",
    ),
)  # fmt: skip

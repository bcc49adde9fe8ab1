"""Irreps of O(3): harmonics, Wigner matrices, coupling coefficients, grids and conventions.

Conventions are those of e3nn: polar axis y, degree 1 is (x, y, z), order m = -l..l, no Condon-Shortley sign.
`Conventions` records them and the converters lead to and from other libraries.
"""

from erlangen.irreps._sphericart import use_sphericart
from erlangen.irreps.conventions import (
    ERLANGEN,
    Z_POLAR,
    Conventions,
    RecordsConventions,
    change_of_harmonics,
    convert_harmonics,
    convert_input_weight,
    from_z_polar,
    to_z_polar,
)
from erlangen.irreps.coupling import SparseCoupling, gaunt, gaunt_tensor, sparse, wigner_3j
from erlangen.irreps.grids import (
    LebedevGrid,
    S2Grid,
    SO3Grid,
    at_rotations,
    from_s2_grid,
    from_so3_grid,
    to_s2_grid,
    to_so3_grid,
)
from erlangen.irreps.harmonics import MAX_DEGREE, spherical_harmonics
from erlangen.irreps.irreps import Irrep, Irreps, MulIrrep, SortedIrreps
from erlangen.irreps.wigner import wigner_D, wigner_D_all

__all__ = [
    "Conventions",
    "ERLANGEN",
    "Irrep",
    "Irreps",
    "LebedevGrid",
    "MAX_DEGREE",
    "MulIrrep",
    "RecordsConventions",
    "S2Grid",
    "SO3Grid",
    "SortedIrreps",
    "SparseCoupling",
    "Z_POLAR",
    "at_rotations",
    "change_of_harmonics",
    "convert_harmonics",
    "convert_input_weight",
    "from_s2_grid",
    "from_so3_grid",
    "from_z_polar",
    "gaunt",
    "gaunt_tensor",
    "sparse",
    "spherical_harmonics",
    "to_s2_grid",
    "to_so3_grid",
    "to_z_polar",
    "use_sphericart",
    "wigner_3j",
    "wigner_D",
    "wigner_D_all",
]

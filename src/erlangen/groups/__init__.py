"""Groups: what can act. Elements are plain tensors; `group("SE(3) x S5")` builds a group from its name."""

from erlangen.groups.affine import SE, Affine, E, SemidirectProduct, Similarity, Translation
from erlangen.groups.base import MAX_ENUMERATION, Group
from erlangen.groups.conjugacy import SubgroupClass, burnside, orbits, subgroups_up_to_conjugacy
from erlangen.groups.decompositions import SVD, Iwasawa, Polar, PolarSqrt, iwasawa, polar, polar_sqrt, svd
from erlangen.groups.finite import (
    Cyclic,
    Dihedral,
    FiniteMatrixGroup,
    Icosahedral,
    Octahedral,
    Tetrahedral,
)
from erlangen.groups.flows import Flow
from erlangen.groups.generated import Generated, GeneratedGroup
from erlangen.groups.grids import circle_grid, so3_grid, sphere_grid
from erlangen.groups.linear import CSO, SL, SO, GLPlus, Lorentz, O, Scaling, TrivialGroup
from erlangen.groups.matrix import MatrixGroup
from erlangen.groups.monomial import Hyperoctahedral, Monomial
from erlangen.groups.names import domain, group
from erlangen.groups.permutations import Shifts, Symmetric
from erlangen.groups.polar_charts import GroupSamples, LinearGroup, PolarChart, PolarSampler
from erlangen.groups.products import DirectProduct
from erlangen.groups.ranges import Domain, ProductRange, Range, SimpleRange
from erlangen.groups.rotations import (
    axis_angle_to_matrix,
    euler_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    planar_rotation,
    quaternion_from_xyzw,
    quaternion_to_matrix,
    quaternion_to_xyzw,
    random_rotations,
    rotation_angle,
)
from erlangen.groups.subgroups import Stabilizer, StabilizerGroup, Subgroup
from erlangen.groups.symplectic import Sp
from erlangen.groups.wreath import Wreath

__all__ = [
    "Affine",
    "CSO",
    "Cyclic",
    "Dihedral",
    "DirectProduct",
    "Domain",
    "E",
    "FiniteMatrixGroup",
    "Flow",
    "GLPlus",
    "Generated",
    "GeneratedGroup",
    "Group",
    "GroupSamples",
    "Hyperoctahedral",
    "Icosahedral",
    "Iwasawa",
    "LinearGroup",
    "Lorentz",
    "MAX_ENUMERATION",
    "MatrixGroup",
    "Monomial",
    "O",
    "Octahedral",
    "Polar",
    "PolarChart",
    "PolarSampler",
    "PolarSqrt",
    "ProductRange",
    "Range",
    "SE",
    "SL",
    "SO",
    "SVD",
    "Scaling",
    "SemidirectProduct",
    "Shifts",
    "Similarity",
    "SimpleRange",
    "Sp",
    "Stabilizer",
    "StabilizerGroup",
    "Subgroup",
    "SubgroupClass",
    "Symmetric",
    "Tetrahedral",
    "Translation",
    "TrivialGroup",
    "Wreath",
    "axis_angle_to_matrix",
    "burnside",
    "circle_grid",
    "domain",
    "euler_to_matrix",
    "group",
    "iwasawa",
    "matrix_to_axis_angle",
    "matrix_to_quaternion",
    "orbits",
    "planar_rotation",
    "polar",
    "polar_sqrt",
    "quaternion_from_xyzw",
    "quaternion_to_matrix",
    "quaternion_to_xyzw",
    "random_rotations",
    "rotation_angle",
    "so3_grid",
    "sphere_grid",
    "subgroups_up_to_conjugacy",
    "svd",
]

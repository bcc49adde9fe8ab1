"""Symmetries of equations: what moves solutions to solutions, what leaves an action alone, and what is conserved for it.

>>> jets = JetSpace("t", "x")
>>> t, x = jets.symbols
>>> fall = jets(x, t) ** 2 / 2 - x  # the Lagrangian of a stone
>>> found = variational_symmetries(jets, fall, degree=3)
>>> len(found)
5
>>> later = next(field for field in found if field.xi == (1,) and field.phi == (0,))
>>> noether_current(later, fall)  # the energy
(x + x_t**2/2,)

A field that was found is a group for audits and augmentations: see `one_parameter_group`.
"""

from erlangen.equations.algebras import (
    cocycle_error,
    jacobi_error,
    one_parameter_group,
    structure_constants,
)
from erlangen.equations.circle import CircleMap
from erlangen.equations.jets import JetSpace, VectorField
from erlangen.equations.noether import as_divergence, noether_current
from erlangen.equations.symmetries import point_symmetries, variational_symmetries

__all__ = [
    "CircleMap",
    "JetSpace",
    "VectorField",
    "as_divergence",
    "cocycle_error",
    "jacobi_error",
    "noether_current",
    "one_parameter_group",
    "point_symmetries",
    "structure_constants",
    "variational_symmetries",
]

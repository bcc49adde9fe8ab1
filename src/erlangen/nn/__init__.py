"""Equivariant layers. Each carries its symmetry as ``.symmetry`` and passes `erlangen.testing.check_layer`."""

from erlangen.nn.linear import EquivariantLinear

__all__ = ["EquivariantLinear"]

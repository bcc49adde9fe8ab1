"""Layers between representations of any group: linear, bilinear, gates, and the networks made of them."""

from erlangen.nn.reps.bilinear import BilinearLayer
from erlangen.nn.reps.emlp import EMLP, hidden_rep
from erlangen.nn.reps.gates import Gate, NormActivation, gated
from erlangen.nn.reps.linear import EquivariantLinear

__all__ = ["BilinearLayer", "EMLP", "EquivariantLinear", "Gate", "NormActivation", "gated", "hidden_rep"]

"""Steady states of continua around given shapes: potential flow past airfoils, a stretched cell with a void."""

from erlangen.simulate.continua.airfoils import joukowski, naca4, outline_distance
from erlangen.simulate.continua.cells import ElasticCell, elastic_cell, void_radii
from erlangen.simulate.continua.panels import AirfoilFlow, airfoil_flow

__all__ = [
    "AirfoilFlow",
    "ElasticCell",
    "airfoil_flow",
    "elastic_cell",
    "joukowski",
    "naca4",
    "outline_distance",
    "void_radii",
]

"""Gaunt tensor products: couple irreps of O(3) by multiplying functions on the sphere.

Features of degrees 0..L are the coefficients of a function on the sphere; two of them are coupled by the product of their
functions. The product is `TensorProduct` with ``rule="gaunt"``, its powers are `ManyBodyProduct`, and products with the
harmonics of edges are `edge_gaunt`.
"""

from erlangen.nn import ManyBodyProduct, TensorProduct, edge_gaunt
from erlangen.survey import System

__all__ = ["SYSTEM", "ManyBodyProduct", "TensorProduct", "edge_gaunt"]

SYSTEM = System(
    title="Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products",
    authors=("Shengjie Luo", "Tianlang Chen", "Aditi S. Krishnapriyan"),
    venue="ICLR",
    year=2024,
    arxiv="2401.10216",
    abstract_claims=(
        "Tensor products of irreps are products of spherical functions, computed in L^3 instead of L^6 by a Fourier basis.",
        "One approach serves feature interactions, equivariant convolutions and many-body interactions.",
        "On OC20 and 3BPA it is faster and at least as accurate as the products that it replaces.",
    ),
    method=("erlangen.nn.TensorProduct", "erlangen.nn.ManyBodyProduct", "erlangen.nn.edge_gaunt"),
)

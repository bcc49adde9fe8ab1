"""The Price of Freedom: what the operations that are all called "tensor product" can do, and what they cost.

Fast products of irreps of O(3) are not faster ways to the same result: they compute less. Expressivity is the dimension of the
set of bilinear maps that a product reaches; interactability says which triples of degrees can be non-zero at all.
"""

from erlangen.nn import TensorProduct
from erlangen.nn.products.measures import expressivity, flops, interacts
from erlangen.survey import System

__all__ = ["SYSTEM", "TensorProduct", "expressivity", "flops", "interacts"]

SYSTEM = System(
    title="The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products",
    authors=("YuQing Xie", "Ameya Daigavane", "Mit Kotak", "Tess Smidt"),
    venue="ICML",
    year=2025,
    arxiv="2506.13523",
    abstract_claims=(
        "Operations called tensor product do not all compute the same; reported speed is usually paid for in expressivity.",
        "Expressivity and interactability measure the difference.",
        "The Gaunt product can be computed on a grid on the sphere, at no cost in asymptotic time.",
        "The grid is faster in benchmarks, and trains the MACE potential 30 % faster.",
        "Asymptotic cost and measured time can differ widely.",
    ),
    method=(
        "erlangen.nn.TensorProduct",
        "erlangen.nn.products.measures.expressivity",
        "erlangen.nn.products.measures.interacts",
    ),
)

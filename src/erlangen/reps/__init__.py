"""Linear representations: how groups act on vectors, and all linear maps that respect the action.

>>> from erlangen.groups import SO
>>> from erlangen.reps import Scalar, V, equivariant_basis
>>> G = SO(3)
>>> features = 2 * Scalar(G) + V(G)
>>> features
2*Scalar + V of SO(3)
>>> equivariant_basis(V(G) @ V(G) >> features).shape    # the trace twice, and the cross product
torch.Size([3, 5, 9])
"""

from erlangen.irreps import Irreps
from erlangen.reps.base import Hom, Product, Rep, Sum
from erlangen.reps.cache import cache_dir
from erlangen.reps.decompose import Decomposition
from erlangen.reps.embedding import embedding
from erlangen.reps.irreducible import Frequency, Irreducible
from erlangen.reps.leaves import (
    Homogeneous,
    MatrixRep,
    PermutationTensor,
    Pseudovector,
    Quotient,
    Regular,
    Scalar,
    T,
    TableRep,
    V,
)
from erlangen.reps.maps import HomBasis, equivariant_basis, equivariant_projector, hom_basis, invariant_basis
from erlangen.reps.transfer import about_y

__all__ = [
    "Decomposition",
    "Frequency",
    "Hom",
    "HomBasis",
    "Homogeneous",
    "Irreducible",
    "Irreps",
    "MatrixRep",
    "PermutationTensor",
    "Product",
    "Pseudovector",
    "Quotient",
    "Regular",
    "Rep",
    "Scalar",
    "Sum",
    "T",
    "TableRep",
    "V",
    "about_y",
    "cache_dir",
    "embedding",
    "equivariant_basis",
    "equivariant_projector",
    "hom_basis",
    "invariant_basis",
]

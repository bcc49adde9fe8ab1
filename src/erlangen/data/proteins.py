"""Real proteins that come with the library: backbones of chains of several families."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Backbone(NamedTuple):
    """A chain's amino acids and backbone.

    Attributes:
        name: of the entry in the Protein Data Bank, and of the chain.
        family: what it is related to.
        kind: numbers in `AMINO_ACIDS`, int64 ``[N]``.
        pos: N, CA, C and O of each residue ``[N, 4, 3]`` in Angstrom, float64, centred.
    """

    name: str
    family: str
    kind: Tensor
    pos: Tensor


def backbones() -> list[Backbone]:
    """Chains of the Protein Data Bank, without breaks; any two of a family agree in less than 90 % of their residues.

    >>> chains = backbones()
    >>> sorted({chain.family for chain in chains})[:3]
    ['Kunitz domain', 'OB fold', 'chemokine']

    Source and licence lie beside the file in the package. Side chains are in the files of the source, see `pdb_protein`.
    """
    with as_file(files("erlangen.data") / "files" / "proteins.npz") as path, np.load(path) as arrays:
        kinds = torch.from_numpy(arrays["kind"]).long()
        pos = torch.from_numpy(arrays["pos"]).double() / 1000
        lengths = arrays["length"].tolist()
        labels = zip(arrays["name"].tolist(), arrays["family"].tolist(), strict=True)
    return [
        Backbone(str(name), str(family), kind, places)
        for (name, family), kind, places in zip(labels, kinds.split(lengths), pos.split(lengths), strict=True)
    ]

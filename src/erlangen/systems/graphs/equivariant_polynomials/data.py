"""Drug-like molecules and their penalised logP, with all that any of the networks reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from erlangen.data import drug_like_smiles, molecular_graphs, penalized_logp
from erlangen.survey import Sizes, Split
from erlangen.systems.graphs.equivariant_polynomials.method import polynomial_features
from erlangen.systems.graphs.equivariant_polynomials.rivals import BONDS


@dataclass(frozen=True)
class Molecules:
    """All molecules, with what each model reads.

    Attributes:
        pairs: a channel for each kind of bond and, on the diagonal, each element, ``[G, n, n, C]``.
        polynomials: ``[G, n, n, K]``, those that are not zero on all molecules.
        mask: bool ``[G, n]``.
        target: ``[G, 1]``, with mean 0 and variance 1 over the training molecules.
        unit: standard deviation of the target before.
        sizes: how many train, choose the learning rate, and are reported.
    """

    pairs: Tensor
    polynomials: Tensor
    mask: Tensor
    target: Tensor
    unit: float
    sizes: Sizes

    def split(self, seed: int) -> Split:
        """The molecules with random features of a seed, symmetric and of the size of means over nodes."""
        draw = torch.rand(self.polynomials.shape, generator=Generator().manual_seed(seed))
        both = (self.mask[:, :, None] & self.mask[:, None])[..., None]
        random = (draw + draw.transpose(1, 2)) * both / self.mask.sum(1)[:, None, None, None]
        x = {"pairs": self.pairs, "polynomials": self.polynomials, "random": random, "mask": self.mask}
        return Split.of(x, self.target, self.sizes)

    def median(self) -> Tensor:
        """The middle one of the training targets."""
        return self.target[: self.sizes.train].median()


def molecules(sizes: Sizes, degree: int = 6) -> Molecules:
    """The first ``sizes.total`` molecules, with the polynomials up to a degree."""
    smiles = drug_like_smiles(sizes.total)
    dense = molecular_graphs(smiles).dense()
    atoms = nn.functional.one_hot(dense.node_labels, int(dense.node_labels.max()) + 1) * dense.mask[..., None]
    atoms = atoms[..., atoms.flatten(0, 1).any(0)]
    bonds = nn.functional.one_hot(dense.adj, BONDS + 1)[..., 1:]
    pairs = torch.cat([bonds, torch.diag_embed(atoms.mT).movedim(1, -1)], -1).float()
    polynomials = polynomial_features((dense.adj > 0).float(), degree, dense.mask)
    kept = polynomials.flatten(0, 2).any(0)
    target = penalized_logp(smiles).float()[:, None]
    unit, mean = target[: sizes.train].std(), target[: sizes.train].mean()
    return Molecules(pairs, polynomials[..., kept], dense.mask, (target - mean) / unit, float(unit), sizes)

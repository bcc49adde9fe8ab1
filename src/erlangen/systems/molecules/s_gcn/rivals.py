"""What the paper compares with, the authors' network of contacts, and rivals that see distances, kinds, or nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from erlangen.errors import ErlangenError
from erlangen.systems.molecules.s_gcn.method import INPUTS, KINDS, SGCN, gathered, normalized


class ContactGCN(nn.Module):
    """The authors' baseline: messages weighted by areas of contact, in six channels by the distance along the sequence.

    ``h' = ELU(h W_0 + sum_r ELU(A_r h W_r) + b)``, A with rows of sum one.

    Args:
        share: of the authors' widths, which are 23-32-64-128, eight layers from 128 to 8, and 8-16-32-64-32-16-1.
        channels: by separation 1, 2, 3, 4, 5 and more; with "last" all pairs are in the last one, as in the authors' loader.
    """

    def __init__(self, share: float = 1.0, *, channels: str = "six") -> None:
        super().__init__()

        def scaled(widths: Sequence[int]) -> list[int]:
            return [max(1, round(share * width)) for width in widths]

        first = [INPUTS, *scaled((32, 64, 128))]
        middle = [first[-1], *scaled((113, 98, 83, 68, 53, 38, 23, 8))]
        last = [middle[-1], *scaled((16, 32, 64, 32, 16)), 1]
        self.channels = channels
        self.begin = nn.Sequential(*(m for a, b in itertools.pairwise(first) for m in (nn.Linear(a, b), nn.ELU())))
        pairs = list(itertools.pairwise(middle))
        self.own = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.others = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairs for _ in range(6))
        head = [m for a, b in itertools.pairwise(last) for m in (nn.Linear(a, b), nn.ELU())]
        self.head = nn.Sequential(*head[:-1])

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Quality ``[B, N]``; x as for `SGCN`, with "separation"."""
        neighbors = x["neighbors"].clamp(min=0)
        share = x["area"] / x["area"].sum(-1, keepdim=True).clamp(min=1e-9)
        which = (x["separation"] - 1).clamp(0, 5) if self.channels == "six" else torch.full_like(x["separation"], 5)
        A = nn.functional.one_hot(which, 6) * share[..., None]  # [B, N, K, 6]
        h = self.begin(x["features"])
        for k, own in enumerate(self.own):
            near = A.mT @ gathered(h, neighbors)  # [B, N, 6, d]
            new = own(h)
            for r, other in enumerate(self.others[6 * k : 6 * k + 6]):
                new = new + nn.functional.elu(other(near[..., r, :]))
            h = nn.functional.elu(new)
        return self.head(h)[..., 0].sigmoid() * x["mask"]


class DistanceGNN(nn.Module):
    """As `SGCN`, with Gaussians of the distance of CA in place of harmonics of the direction.

    Args:
        bases: how many; with 25 it has as many parameters as order 5.
        reach: distance of the last one, in Angstrom.
    """

    def __init__(self, bases: int = 25, reach: float = 15.0) -> None:
        super().__init__()
        self.inner = SGCN(max(2, math.isqrt(bases)))
        if self.inner.order**2 != bases:
            raise ErlangenError(f"bases = {bases}; give a square number")
        self.register_buffer("centers", torch.linspace(3.0, reach, bases))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Quality ``[B, N]``; x as for `SGCN`."""
        inner, mask, neighbors = self.inner, x["mask"], x["neighbors"].clamp(min=0)
        ca = x["pos"][..., 1, :]
        real = (x["neighbors"] >= 0) & mask[..., None]
        far = torch.where(real, (gathered(ca, neighbors) - ca[..., None, :]).square().sum(-1), 1.0).sqrt()
        centers = torch.as_tensor(self.centers)
        width = centers[1] - centers[0]
        B = (-((far[..., None] - centers) / width).square() / 2).exp() * real[..., None]
        h = x["features"]
        last = len(inner.layers) - 1
        for k, layer in enumerate(inner.layers):
            h = layer(h, B, neighbors)
            if k < last:
                h = nn.functional.elu(h)
            if str(k) in inner.norms:
                h = normalized(inner.norms[str(k)], h, mask)
            if k < last:
                h = inner.dropout(h)
        return h[..., 0].sigmoid() * mask


class MeanScore(nn.Module):
    """The mean score of training data, of all residues or of each kind of amino acid."""

    def __init__(self, *, by_kind: bool) -> None:
        super().__init__()
        self.by_kind = by_kind
        self.register_buffer("means", torch.full((KINDS,), 0.5))

    def learn(self, x: dict[str, Tensor], y: dict[str, Tensor]) -> None:
        """Take the means of training data; a kind that is not there gets the mean of all."""
        score, kinds = y["score"][y["mask"]], x["features"][y["mask"]][:, :KINDS]
        means = torch.full((KINDS,), float(score.mean()))
        if self.by_kind:
            count = kinds.sum(0)
            means = torch.where(count > 0, (kinds * score[:, None]).sum(0) / count.clamp(min=1), means)
        self.means = means

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Quality ``[B, N]``."""
        return (x["features"][..., :KINDS] @ torch.as_tensor(self.means)) * x["mask"]

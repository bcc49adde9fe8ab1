"""Capsules: parts with an activation, which says whether they are there, and a pose, which says how they lie."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, check_integer
from erlangen.symmetry import Symmetry
from erlangen.tracing import is_traced

__all__ = ["SelfRouting"]


class SelfRouting(nn.Module):
    """Capsules of a whole map from those at its places: each sends its vote where it wants, without iterations.

    >>> layer = SelfRouting(8, 4, size=6, pose=9)
    >>> seen, pose = layer((torch.rand(2, 8, 6, 6), torch.randn(2, 8, 9, 6, 6)))
    >>> seen.shape, pose.shape
    (torch.Size([2, 4]), torch.Size([2, 4, 9]))

    Capsule i at its place with activation ``a_i`` and pose ``u_i`` votes ``W1_i u_i`` for the poses of all capsules j, and
    routes by ``r_ij = softmax_j(W2_i u_i + b_i)``. Then ``a_j = sum_i a_i r_ij / sum_i a_i``, which sums to 1 over j, and the
    pose is the mean of the votes with the weights ``a_i r_ij`` (Hahn et al., "Self-Routing Capsule Networks", NeurIPS 2019).
    Routing is uniform at the start. Activations may have any scale, which is the symmetry that the layer declares.

    Args:
        in_capsules, out_capsules: kinds of capsules.
        size: rows and columns of the map.
        pose: numbers of a pose; 9 or 16 for matrices, row by row.
        generator: source of the initial weights; torch's global stream without it.

    Raises:
        ErlangenError: a number is no positive integer.
    """

    def __init__(
        self, in_capsules: int, out_capsules: int, size: int, pose: int, *, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.in_capsules = check_integer("in_capsules", in_capsules, 1)
        self.out_capsules = check_integer("out_capsules", out_capsules, 1)
        self.size, self.pose = check_integer("size", size, 1), check_integer("pose", pose, 1)
        n = in_capsules * size**2
        votes = torch.randn(n, pose, out_capsules * pose, generator=generator)
        self.votes = nn.Parameter(votes * math.sqrt(2 / (out_capsules * pose**2)))
        self.routes = nn.Parameter(torch.zeros(n, pose, out_capsules))
        self.bias = nn.Parameter(torch.zeros(n, out_capsules))
        self.symmetry = Symmetry("Scaling(1)", input=("scaled", "invariant"), output="invariant")

    def forward(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Activations ``[B, out_capsules]`` and poses ``[B, out_capsules, pose]``.

        Args:
            x: activations ``[B, in_capsules, size, size]``, not negative, and poses ``[B, in_capsules, pose, size, size]``.

        Raises:
            ShapeError: tensors of another form.
            ErlangenError: a sample none of whose capsules is active.
        """
        activations, poses = x
        k, s, d = self.in_capsules, self.size, self.pose
        if activations.ndim != 4 or activations.shape[1:] != (k, s, s) or poses.shape != (len(activations), k, d, s, s):
            raise ShapeError(
                f"activations and poses have shapes {tuple(activations.shape)} and {tuple(poses.shape)}; give "
                f"[B, {k}, {s}, {s}] and [B, {k}, {d}, {s}, {s}]"
            )
        a = activations.flatten(1)
        u = poses.movedim(2, -1).flatten(1, 3)
        if not is_traced() and bool((a.sum(1) <= 0).any()):
            raise ErlangenError(
                f"activations of sample {int((a.sum(1) <= 0).nonzero()[0])} are all zero; then no pose is defined"
            )
        route = (torch.einsum("bnd,ndk->bnk", u, self.routes) + self.bias).softmax(-1)
        share = a[..., None] * route / a.sum(1)[:, None, None]
        votes = torch.einsum("bnd,nde->bne", u, self.votes).unflatten(-1, (self.out_capsules, d))
        seen = share.sum(1)
        return seen, torch.einsum("bnk,bnkd->bkd", share, votes) / seen[..., None].clamp_min(1e-12)

    @override
    def extra_repr(self) -> str:
        return f"{self.in_capsules} -> {self.out_capsules}, size={self.size}, pose={self.pose}"

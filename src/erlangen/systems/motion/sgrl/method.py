"""SubEquivariant Transformer (Chen et al., ICML 2023), after the authors' code, ``alpc91/SGRL``.

Every limb has a stack Z of vectors and scalars h; the geometric directions D, gravity and the way to the target, are put into
every stack again. Turns of vectors and directions together turn Z and leave h: with D as part of the world, what is left of
O(3) is the subgroup that fixes gravity. Inside of networks stacks are ``[B, limbs, 3, channels]``, a vector in each column.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.groups import O
from erlangen.nn import mlp
from erlangen.numerics import safe_norm
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.sgrl._observations import LIMBS, MOVES, SCALARS, VECTORS, Observed

__all__ = ["SubEquivariantActor", "SubEquivariantCritic", "SubEquivariantTransformer", "Widths"]


class Widths(NamedTuple):
    """Sizes of a network; the defaults are the authors'.

    Attributes:
        width: of scalars and channels of vectors of a limb.
        heads, layers: of attention.
        kept: vectors in a stack whose products are taken, the directions among them.
        directions: number of vectors in D: two, gravity and target.
    """

    width: int = 128
    heads: int = 2
    layers: int = 3
    kept: int = 32
    directions: int = 2


class Stack(nn.Module):
    """``[Z W, D]``, the matrix ``M`` of its products as a vector, and ``s = |M| + 1``."""

    def __init__(self, channels: int, of: Widths) -> None:
        super().__init__()
        self.mix = nn.Linear(channels, of.kept - of.directions, bias=False)

    def forward(self, Z: Tensor, D: Tensor) -> Tensor:
        """``[B, limbs, 3, kept]`` of ``[B, limbs, 3, channels]`` and ``[B, limbs, 3, directions]``."""
        return torch.cat([self.mix(Z), D], -1)

    def products(self, Z: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
        """vec M ``[B, limbs, kept^2]`` and s ``[B, limbs, 1]``; both are invariant."""
        stack = self(Z, D)
        M = (stack.mT @ stack).flatten(-2)
        return M, safe_norm(M, -1, keepdim=True) + 1


class SubEquivariantAttention(nn.Module):
    """The same weights, from invariants, mix scalars and vectors of all limbs."""

    def __init__(self, of: Widths, relations: bool) -> None:
        super().__init__()
        w, inner = of.width, of.heads * of.width
        self.heads, self.width = of.heads, w
        self.stack = Stack(w, of)
        self.read = mlp([of.kept**2, 2 * w, w], nn.ReLU)
        self.query, self.key, self.value = (nn.Linear(2 * w, inner) for _ in range(3))
        self.vectors = nn.Linear(w, inner - of.heads * of.directions, bias=False)
        self.bias = nn.Linear(3, of.heads) if relations else None
        self.to_scalars = nn.Linear(inner, w)
        self.to_vectors = nn.Linear(inner, w, bias=False)

    def forward(self, Z: Tensor, h: Tensor, D: Tensor, relations: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to Z and h."""
        M, s = self.stack.products(Z, D)
        e = torch.cat([self.read(M), h], -1)
        q, k, v = ((one(e) / s).unflatten(-1, (self.heads, -1)) for one in (self.query, self.key, self.value))
        logits = torch.einsum("bihc,bjhc->bhij", q, k) / math.sqrt(self.width)
        if self.bias is not None:
            logits = logits + self.bias(relations).movedim(-1, 1)
        logits = logits.masked_fill(~mask[:, None, None], -torch.inf)
        weights = logits.softmax(-1)
        scalars = torch.einsum("bhij,bjhc->bihc", weights, v).flatten(-2)
        directions = D[..., None, :].expand(*D.shape[:-1], self.heads, -1)
        V = torch.cat([self.vectors(Z).unflatten(-1, (self.heads, -1)), directions], -1)
        mixed = torch.einsum("bhij,bjxhc->bixhc", weights, V).flatten(-2)
        return self.to_vectors(mixed), self.to_scalars(scalars)


class SubEquivariantFeedForward(nn.Module):
    """A matrix made of invariants mixes the vectors of each limb; its products are those of what attention gave."""

    def __init__(self, of: Widths) -> None:
        super().__init__()
        w = of.width
        self.kept = of.kept
        self.stack, self.moved = Stack(w, of), Stack(w, of)
        self.read = mlp([of.kept**2, 2 * w, w], nn.ReLU)
        self.matrix = mlp([2 * w, 2 * w, of.kept**2], nn.ReLU)
        self.to_vectors = nn.Linear(of.kept, w, bias=False)
        self.to_scalars = mlp([2 * w, 2 * w, w], nn.ReLU)

    def forward(self, Z: Tensor, h: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to Z and h."""
        M, s = self.stack.products(Z, D)
        e = torch.cat([self.read(M), h], -1)
        A = (self.matrix(e) / s).unflatten(-1, (self.kept, self.kept))
        return self.to_vectors(self.moved(Z, D) @ A), self.to_scalars(e) / s


class SubEquivariantLayer(nn.Module):
    """Attention over all limbs, then the limb by itself; scalars are normalised, vectors never."""

    def __init__(self, of: Widths, relations: bool) -> None:
        super().__init__()
        self.attention, self.feed = SubEquivariantAttention(of, relations), SubEquivariantFeedForward(of)
        self.norms = nn.ModuleList(nn.LayerNorm(of.width) for _ in range(2))

    def forward(self, Z: Tensor, h: Tensor, D: Tensor, relations: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Z and h of the next layer."""
        Z1, h1 = self.attention(Z, h, D, relations, mask)
        h = self.norms[0](h + h1)
        Z2, h2 = self.feed(Z1, h, D)
        return Z + Z1 + Z2, self.norms[1](h + h2)


class PositionalCode(nn.Module):
    """Embeddings of a limb's place in three walks through the tree, side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        third = width // 3
        self.walks = nn.ModuleList(nn.Embedding(LIMBS, size) for size in (third, third, width - 2 * third))

    def forward(self, places: Tensor) -> Tensor:
        """``[B, limbs, width]`` of ``[B, limbs, 3]``."""
        return torch.cat([walk(places[..., i]) for i, walk in enumerate(self.walks)], -1)


class SubEquivariantTransformer(nn.Module):
    """The trunk of actor and critic: vectors and scalars of all limbs, and what the head reads.

    Args:
        of: sizes.
        scalars: of a limb in the input.

    Raises:
        ErlangenError: a size is not positive, or there are not more vectors kept, or in a head, than directions.
    """

    def __init__(self, of: Widths, scalars: int) -> None:
        super().__init__()
        check_sizes(width=of.width, heads=of.heads, layers=of.layers, kept=of.kept)
        if not 0 <= of.directions < min(of.kept, of.width) or of.width < 3:
            raise ErlangenError(f"{of}; give more width and kept vectors than directions, and a width of 3 or more")
        w = of.width
        self.of = of
        self.vectors, self.scalars = nn.Linear(VECTORS, w, bias=False), nn.Linear(scalars, w)
        for linear in (self.vectors, self.scalars):
            nn.init.uniform_(linear.weight, -0.1, 0.1)
        nn.init.zeros_(self.scalars.bias)
        self.places = PositionalCode(w)
        self.layers = nn.ModuleList(SubEquivariantLayer(of, relations=i == 0) for i in range(of.layers))
        self.norm = nn.LayerNorm(w)
        self.stack = Stack(VECTORS + w, of)
        self.read = mlp([of.kept**2, w, w], nn.ReLU)
        self.read_scalars = mlp([scalars + w, w, w], nn.ReLU)

    def directions(self, x: Observed) -> Tensor:
        """D for every limb ``[B, limbs, 3, directions]``."""
        D = x["directions"]
        if D.shape[1:] != (self.of.directions, 3):
            raise ShapeError(f"x['directions'] has shape {tuple(D.shape)}; give [B, {self.of.directions}, 3]")
        return D.mT[:, None].expand(-1, x["vectors"].shape[1], -1, -1)

    def forward(self, x: Observed, h0: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors Z ``[B, limbs, 3, width]``, which turn with the world, and scalars ``[B, limbs, width]``."""
        D, root = self.directions(x), math.sqrt(self.of.width)
        vectors = self.vectors(x["vectors"].mT) * root
        h = self.scalars(h0) * root + self.places(x["places"])
        for layer in self.layers:
            vectors, h = layer(vectors, h, D, x["relations"], x["mask"])
        return vectors, self.norm(h)

    def head(self, x: Observed, h0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first and the last vectors, what is invariant of them, and s."""
        last, h = self(x, h0)
        Z = torch.cat([x["vectors"].mT, last], -1)
        M, s = self.stack.products(Z, self.directions(x))
        return Z, torch.cat([self.read(M), self.read_scalars(torch.cat([h0, h], -1))], -1), s


class SubEquivariantActor(nn.Module):
    """The policy: torques of the three hinges of every limb, each from one vector of the limb.

    >>> actor = SubEquivariantActor(Widths(width=12, layers=1, kept=6))
    >>> sum(p.numel() for p in actor.parameters())
    10974

    Args:
        of: sizes.
        largest: torque, in units of the motors.

    Attributes:
        symmetry: O(3) on vectors and directions together; hinges are treated as vectors, so that of the physical symmetries it
            has the turns about gravity, and not the mirrors, which change the signs of angles and torques.
    """

    def __init__(self, of: Widths = Widths(), *, largest: float = 1.0) -> None:  # noqa: B008 - a constant
        super().__init__()
        self.trunk = SubEquivariantTransformer(of, SCALARS)
        w, kept = of.width, of.kept
        self.matrix = mlp([2 * w, 2 * w, kept**2], nn.ReLU)
        self.stack = Stack(VECTORS + w, of)
        self.last = nn.Linear(kept, 1, bias=False)
        self.kept, self.largest = kept, largest
        self.symmetry = Symmetry(O(3), input=MOVES, output="invariant")

    def forward(self, x: Observed) -> Tensor:
        """Torques ``[B, limbs, 3]``, within -largest to largest; zero where a limb has no hinge."""
        Z, e, s = self.trunk.head(x, x["scalars"])
        A = (self.matrix(e) / s).unflatten(-1, (self.kept, self.kept))
        y = self.last(self.stack(Z, self.trunk.directions(x)) @ A)  # [B, limbs, 3, 1]
        hinges = x["vectors"][..., -3:, :]
        return self.largest * torch.tanh((hinges @ y)[..., 0])


class SubEquivariantCritic(nn.Module):
    """The value Q of a state and torques, one for every limb.

    Args:
        of: sizes.

    Attributes:
        symmetry: as of `SubEquivariantActor`.
    """

    def __init__(self, of: Widths = Widths()) -> None:  # noqa: B008 - a constant
        super().__init__()
        self.trunk = SubEquivariantTransformer(of, SCALARS + 3)
        self.last = nn.Linear(2 * of.width, 1)
        self.symmetry = Symmetry(O(3), input=MOVES | {"action": "invariant"}, output="invariant")

    def forward(self, x: Observed) -> Tensor:
        """``[B, limbs]`` of an observation with the entry "action" ``[B, limbs, 3]``.

        Raises:
            ShapeError: torques of another form.
        """
        if x["action"].shape != (*x["scalars"].shape[:2], 3):
            raise ShapeError(
                f"x['action'] has shape {tuple(x['action'].shape)}; give {[*x['scalars'].shape[:2], 3]}: three hinges a limb"
            )
        _, e, s = self.trunk.head(x, torch.cat([x["scalars"], x["action"]], -1))
        return (self.last(e) / s)[..., 0]

"""Equivariant neural fields: queries attend to a cloud of latents through invariants of pairs alone.

Wessels, Knigge et al., "Grounding Continuous Representations in Geometry: Equivariant Neural Fields" (ICLR 2025), in the form
of Knigge et al. (NeurIPS 2024) that Catalani et al. (2025) use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.nn.fields._dense import EPS, dense, feed_forward, gelu
from erlangen.nn.fields.encodings import FourierNetwork
from erlangen.nn.fields.invariants import FieldInvariants, Pairs
from erlangen.nn.fields.latents import Latents, check_cloud, latent_action
from erlangen.symmetry import Symmetry

__all__ = ["EquivariantField", "FieldAttention"]

Queries = Tensor | tuple[Tensor, Latents]
"""Points ``[B, Q, d]``, alone or in a pair with the cloud."""


class FieldAttention(nn.Module):
    """Cross-attention of points to latents: where is asked by the query, what is answered by the latent.

    >>> attention = FieldAttention(FieldInvariants("translation", 2), 8, heads=2)
    >>> cloud = {"pos": torch.rand(3, 4, 2), "features": torch.rand(3, 4, 8), "window": torch.ones(3, 4)}
    >>> attention(torch.rand(3, 5, 2), cloud).shape
    torch.Size([3, 5, 16])

    With invariants r of a pair, each head takes the softmax over latents of ``q.k / sqrt(width) - d^2 / window^2`` with
    ``q = W_q e_q(r)``, ``k = W_k a``; values ``v = W_v a`` are scaled and shifted by ``(1 + gamma, beta)(r)`` on all heads
    together, then mixed within each head, averaged with these weights, put side by side, and mapped linearly. Queries know
    nothing but where they are, so that answers do not depend on other queries.

    Args:
        invariants: of pairs.
        width: channels of the latents and of every head.
        heads: number of heads.
        out_features: channels of the answers; ``heads * width`` without it.
        std: of the frequencies of the queries and of the modulation; see `FourierFeatures`.

    Raises:
        ErlangenError: a size is not positive, or `width` is odd.
    """

    def __init__(
        self,
        invariants: FieldInvariants,
        width: int,
        *,
        heads: int = 2,
        out_features: int | None = None,
        std: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__()
        check_sizes(width=width, heads=heads)
        self.invariants, self.width, self.heads = invariants, width, heads
        whole = heads * width
        self.embed_query = FourierNetwork(invariants.size, width, width, std[0])
        self.embed_value = FourierNetwork(invariants.size, width, width, std[1])
        self.query, self.key, self.value = dense(width, whole), dense(width, whole), dense(width, whole)
        self.modulation = feed_forward(width, width, 2 * whole)
        self.mixer = feed_forward(width, width, width)
        self.out = dense(whole, out_features or whole)

    @property
    def symmetry(self) -> Symmetry:
        """The group of the invariants moves points and latents together; answers stay."""
        latents = latent_action(oriented=self.invariants.oriented)
        return Symmetry(self.invariants.group, input=("points", latents), output="invariant")

    def logits(self, x: Tensor, latents: Latents) -> Tensor:
        """What the softmax over latents is taken of, ``[B, heads, Q, N]``, windows included."""
        return self._pairs(x, latents)[1]

    def forward(self, x: Queries, latents: Latents | None = None) -> Tensor:
        """Answers ``[B, Q, out_features]``.

        Args:
            x: points ``[B, Q, d]``; or these and the cloud in one pair.
            latents: the cloud; see `erlangen.nn.latent_grid`.

        Raises:
            ShapeError: shapes do not fit.
        """
        x, latents = split(x, latents)
        r, logits = self._pairs(x, latents)
        gamma, beta = self.modulation(self.embed_value(r)).chunk(2, -1)
        values = self.value(latents["features"])[:, None] * (1 + gamma) + beta
        mixed = self.mixer(values.unflatten(-1, (self.heads, self.width)))  # [B, Q, N, heads, width]
        return self.out(torch.einsum("bhqn,bqnhw->bqhw", logits.softmax(-1), mixed).flatten(-2))

    def _pairs(self, x: Tensor, latents: Latents) -> tuple[Tensor, Tensor]:
        check_cloud(x, latents, self.invariants.dim, oriented=self.invariants.oriented)
        if latents["features"].shape[-1] != self.width:
            raise ShapeError(
                f"latents['features'] has {latents['features'].shape[-1]} channels, but width = {self.width}"
            )
        r, squares = self.invariants(x, latents["pos"], latents.get("ori"))
        query = self.query(self.embed_query(r)).unflatten(-1, (self.heads, self.width))
        key = self.key(latents["features"]).unflatten(-1, (self.heads, self.width))
        products = torch.einsum("bqnhw,bnhw->bhqn", query, key) / self.width**0.5
        return r, products - (squares / latents["window"].square()[:, None])[:, None]


class _Block(nn.Module):
    """Latents that hear each other: ``a <- GELU(a + FFN(a + attention(norm(a))))``, with queries where latents sit."""

    def __init__(self, invariants: FieldInvariants, width: int, heads: int, std: tuple[float, float]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.attention = FieldAttention(invariants, width, heads=heads, out_features=width, std=std)
        self.mix, self.activation = feed_forward(width, width, width), gelu()

    def forward(self, latents: Latents) -> Latents:
        a = latents["features"]
        heard = self.attention(latents["pos"], latents | {"features": self.norm(a)})
        return latents | {"features": self.activation(a + self.mix(a + heard))}


class EquivariantField(nn.Module):
    """A function of space that a cloud of latents describes, and that moves when the cloud moves.

    >>> from erlangen.nn import latent_grid, repeat_latents
    >>> field = EquivariantField(8, 1, width=16)
    >>> cloud = repeat_latents(latent_grid(9, 8), 3)
    >>> field(torch.rand(3, 100, 2), cloud).shape
    torch.Size([3, 100, 1])

    Latents pass a stem, `layers` blocks of attention to each other, and answer the queries by `FieldAttention`, a feed-forward
    block without a residual and a network of three layers.

    Args:
        in_features: channels of the latents.
        out_features: numbers at each point.
        dim: coordinates.
        width: channels inside, even.
        heads: of attention; each has the full width.
        layers: blocks of self-attention of the latents.
        kind: which pairs count as alike; see `FieldInvariants`.
        periods: of the kind "periodic".
        std: of the frequencies of queries and of modulation.
        deep_stem: two layers before the blocks rather than one.

    Attributes:
        symmetry: the group of the invariants moves points and cloud together; values stay.

    Raises:
        ErlangenError: a size is not positive, or `width` is odd.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        dim: int = 2,
        *,
        width: int = 64,
        heads: int = 2,
        layers: int = 0,
        kind: Pairs = "translation",
        periods: Sequence[float] | None = None,
        std: tuple[float, float] = (1.0, 1.0),
        deep_stem: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(in_features=in_features, out_features=out_features)
        if layers < 0:
            raise ErlangenError(f"layers = {layers}: give a number that is not negative")
        self.in_features, self.out_features = in_features, out_features
        invariants = FieldInvariants(kind, dim, periods=periods)
        whole = heads * width
        first = dense(in_features, width)
        self.stem = nn.Sequential(first, gelu(), dense(width, width)) if deep_stem else first
        self.blocks = nn.ModuleList(_Block(invariants, width, heads, std) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.attention = FieldAttention(invariants, width, heads=heads, std=std)
        self.head = nn.Sequential(
            feed_forward(whole, whole, whole),
            gelu(),
            *(dense(whole, width), gelu(), dense(width, width), gelu(), dense(width, out_features)),
        )

    @property
    def symmetry(self) -> Symmetry:
        """See the class."""
        return self.attention.symmetry

    def forward(self, x: Queries, latents: Latents | None = None) -> Tensor:
        """Values ``[B, Q, out_features]``.

        Args:
            x: points ``[B, Q, dim]``; or these and the cloud in one pair.
            latents: the cloud; see `latent_grid`.

        Raises:
            ShapeError: shapes do not fit.
        """
        x, latents = split(x, latents)
        invariants = self.attention.invariants
        check_cloud(x, latents, invariants.dim, oriented=invariants.oriented)
        return self._answer(x, self.heard(latents))

    def heard(self, latents: Latents) -> Latents:
        """The cloud behind stem and self-attention: computed once for any number of queries."""
        given = latents["features"].shape[-1]
        if given != self.in_features:
            raise ShapeError(f"latents['features'] has {given} channels, but in_features = {self.in_features}")
        latents = latents | {"features": self.stem(latents["features"])}
        for block in self.blocks:
            latents = block(latents)
        return latents

    def evaluate(self, x: Tensor, latents: Latents, *, chunk: int = 4096) -> Tensor:
        """As `forward`, with at most `chunk` queries of a sample at a time, so that memory is bounded."""
        check_sizes(chunk=chunk)
        heard = self.heard(latents)
        return torch.cat([self._answer(piece, heard) for piece in x.split(chunk, 1)], 1)

    def _answer(self, x: Tensor, heard: Latents) -> Tensor:
        normed = heard | {"features": self.norm(heard["features"])}
        return self.head(self.attention(x, normed))

    @override
    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


def split(x: Queries, latents: Latents | None) -> tuple[Tensor, Latents]:
    """Queries and the cloud, given as two arguments or as one pair."""
    if isinstance(x, Tensor):
        if latents is None:
            raise ShapeError("latents is missing: give the cloud as the second argument")
        return x, latents
    return x[0], x[1]

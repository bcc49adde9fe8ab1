"""A small language model, and which keys it allows: vocabulary, residual stream, heads, gated units."""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen.actions import Port, Stream, WeightStreams
from erlangen.actions.weights import Role
from erlangen.errors import ErlangenError, ShapeError, SymmetryError
from erlangen.groups import CSO, DirectProduct, GLPlus, Group, Monomial, O, Stabilizer, Symmetric, Wreath
from erlangen.systems.learning.equivariant_encryption.method import fold_gain, fold_mean

SPREAD = 0.25
"""Width of keys that are no isometries, in logarithms: enough to mix, and few digits lost."""


class Attention(nn.Module):
    """Causal attention, grouped queries, with rotary positions or without."""

    def __init__(self, d: int, heads: int, kv_heads: int, rope: bool, pairing: str) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width, self.pairing = heads, kv_heads, d // heads, pairing
        self.q, self.o = nn.Linear(d, d), nn.Linear(d, d)
        self.k, self.v = (nn.Linear(d, kv_heads * self.width) for _ in range(2))
        self.rope = rope

    def order(self) -> list[int]:
        """Entries of a head, pair by pair."""
        half = self.width // 2
        if self.pairing == "interleaved":
            return list(range(self.width))
        return [i for pair in range(half) for i in (pair, pair + half)]

    def turned(self, x: Tensor) -> Tensor:
        """Each pair turned by its frequency times the position (Su et al. 2021)."""
        if not self.rope:
            return x
        rate = 10_000.0 ** (-torch.arange(0, self.width, 2, dtype=x.dtype, device=x.device) / self.width)
        angle = torch.arange(x.shape[-2], dtype=x.dtype, device=x.device)[:, None] * rate
        order = torch.tensor(self.order(), device=x.device)
        a, b = x[..., order].unflatten(-1, (-1, 2)).unbind(-1)
        both = torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1).flatten(-2)
        return both[..., order.argsort()]

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``[B, T, d]``; `seen`, bool ``[B, 1, T, T]`` or ``[T, T]``, says which positions a position looks at."""
        q, k, v = (f(x).unflatten(-1, (-1, self.width)).transpose(-2, -3) for f in (self.q, self.k, self.v))
        repeats = self.heads // self.kv_heads
        k, v = (t.repeat_interleave(repeats, -3) for t in (self.turned(k), v))
        mixed = F.scaled_dot_product_attention(self.turned(q), k, v, attn_mask=seen)
        return self.o(mixed.transpose(-2, -3).flatten(-2))


class Gated(nn.Module):
    """SwiGLU: ``down(silu(gate x) * up x)``."""

    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(d, hidden), nn.Linear(d, hidden), nn.Linear(hidden, d)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., d]``."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention and gated units, each behind a normalisation and added to what came in."""

    def __init__(self, d: int, attention: Attention, gated: Gated, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.attention, self.gated, self.first, self.second = attention, gated, first, second

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``[B, T, d]``."""
        x = x + self.attention(self.first(x), seen)
        return x + self.gated(self.second(x))


class LanguageModel(nn.Module):
    """Next-token logits ``[B, T, vocabulary]`` of ids ``[B, T]``.

    Args:
        vocabulary, d, heads, hidden, layers: sizes.
        kv_heads: heads of keys and values; fewer than `heads` are shared by groups of queries.
        norm: of all normalisations, "rms" or "layer".
        gain: whether they have gains (and biases, for "layer").
        rope: rotary positions; learned ones of at most `length` without.
        pairing: which entries of a head are turned together: the halves' i-th, or neighbours.
        tied: the head reads with the weights of the embedding.
        pad: an id at which nobody looks; it is then one of `interpreted`.
    """

    def __init__(
        self,
        vocabulary: int,
        d: int = 64,
        heads: int = 4,
        hidden: int = 176,
        layers: int = 2,
        *,
        kv_heads: int | None = None,
        norm: Literal["rms", "layer"] = "rms",
        gain: bool = True,
        rope: bool = True,
        pairing: Literal["half", "interleaved"] = "half",
        tied: bool = False,
        pad: int | None = None,
        length: int = 128,
    ) -> None:
        super().__init__()
        kv_heads = kv_heads or heads
        if d % (2 * heads) or heads % kv_heads:
            raise ErlangenError(
                f"d = {d}, heads = {heads}, kv_heads = {kv_heads}: heads of even width, in equal groups"
            )

        def normalisation() -> nn.Module:
            kind = nn.RMSNorm if norm == "rms" else nn.LayerNorm
            return kind(d, eps=1e-5, elementwise_affine=gain)

        self.embed = nn.Embedding(vocabulary, d)
        nn.init.normal_(self.embed.weight, std=0.5)
        self.positions = None if rope else nn.Parameter(0.3 * torch.randn(length, d))
        self.blocks = nn.ModuleList(
            Block(d, Attention(d, heads, kv_heads, rope, pairing), Gated(d, hidden), normalisation(), normalisation())
            for _ in range(layers)
        )
        self.last, self.head = normalisation(), nn.Linear(d, vocabulary)
        if tied:
            self.head.weight = self.embed.weight
        self.rope, self.pad = rope, pad
        self.interpreted = () if pad is None else (pad,)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of ids ``[B, T]``."""
        return self.head(self.features(ids))

    def features(self, ids: Tensor) -> Tensor:
        """What the head reads, ``[B, T, d]``."""
        x = self.embed(ids)
        if self.positions is not None:
            if ids.shape[-1] > len(self.positions):
                raise ShapeError(
                    f"ids have the shape {tuple(ids.shape)}; learned positions end at length = {len(self.positions)}"
                )
            x = x + self.positions[: ids.shape[-1]]
        seen = torch.ones(ids.shape[-1], ids.shape[-1], dtype=torch.bool, device=ids.device).tril()
        if self.pad is not None:  # every position looks at itself, so that no row is empty
            itself = torch.eye(len(seen), dtype=torch.bool, device=ids.device)
            seen = (seen & (ids != self.pad)[..., None, None, :]) | itself
        for block in self.blocks:
            x = block(x, seen)
        return self.last(x)

    def folded(self, *, mean: bool = False) -> LanguageModel:
        """The same function without gains, which stand between the residual stream and O(d).

        Args:
            mean: fold the subtraction of the mean of every LayerNorm into what writes to the stream too, and use RMSNorm.

        A tied head takes the last gain into weights of its own, and is tied no longer.
        """
        twin = copy.deepcopy(self)
        if isinstance(twin.last, (nn.RMSNorm, nn.LayerNorm)) and twin.last.weight is not None:
            twin.head.weight = nn.Parameter(twin.head.weight.detach().clone())
            twin.last = _bare(twin.last, [twin.head], mean)
        else:
            twin.last = _bare(twin.last, [], mean)
        for block in twin.blocks:
            assert isinstance(block, Block)
            block.first = _bare(block.first, [block.attention.q, block.attention.k, block.attention.v], mean)
            block.second = _bare(block.second, [block.gated.gate, block.gated.up], mean)
        if mean:
            if twin.head.weight is twin.embed.weight:
                raise SymmetryError("a tied head would lose its mean too; fold gains of a model that is not tied")
            fold_mean(twin._writers())
        return twin

    def _writers(self) -> list[tuple[Tensor, int]]:
        """Tensors that write to the residual stream, and their axis."""
        found: list[tuple[Tensor, int]] = [(self.embed.weight, 1)]
        found += [] if self.positions is None else [(self.positions, 1)]
        for block in self.blocks:
            assert isinstance(block, Block)
            for layer in (block.attention.o, block.gated.down):
                found += [(layer.weight, 0), (layer.bias, 0)]
        return found

    def streams(self, residual: Group | None = None, scores: Group | None = None) -> WeightStreams:
        """The streams of all layers: "vocabulary", which is the client's, "residual", and for each layer "heads" and "gated".

        Args:
            residual: the key's group; by default O(d) for RMSNorm, and its part that fixes the vector of ones for LayerNorm.
            scores: the group of queries and keys of one head; by default a complex factor for each pair that positions turn,
                all matrices where they turn none.

        Raises:
            SymmetryError: a group that does not commute with the layers.
        """
        d, V = self.embed.embedding_dim, self.embed.num_embeddings
        allowed = self._residual()
        residual = residual or allowed
        if residual != allowed and not isinstance(residual, (Symmetric, type(allowed))):
            raise SymmetryError(
                f"residual: {residual.name} does not commute with {type(self.last).__name__}, which allows {allowed.name}; "
                "fold gains and means first (LanguageModel.folded)"
            )
        ports = [Port("embed.weight", 1)] + ([] if self.positions is None else [Port("positions", 1)])
        streams: list[Stream] = []
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            at, gated, inner = f"blocks.{i}.attention", f"blocks.{i}.gated", block.attention
            reads = [f"{at}.q", f"{at}.k", f"{at}.v", f"{gated}.gate", f"{gated}.up"]
            ports += [Port(f"{name}.weight", 1, "in") for name in reads]
            ports += [
                Port(f"{name}.{tensor}", 0) for name in (f"{at}.o", f"{gated}.down") for tensor in ("weight", "bias")
            ]
            streams += [Stream(f"heads.{i}", self._heads(inner, scores), tuple(_head_ports(at, inner)))]
            # The gate is renamed alone; the other branch may be rescaled as well.
            units = [Port(f"{gated}.gate.{tensor}", 0, "places") for tensor in ("weight", "bias")]
            units += [Port(f"{gated}.up.{tensor}", 0) for tensor in ("weight", "bias")]
            units += [Port(f"{gated}.down.weight", 1, "in")]
            streams += [Stream(f"gated.{i}", Monomial(inner_width(block), scale=SPREAD), tuple(units))]
        tied = self.head.weight is self.embed.weight
        names = [Port("embed.weight", 0), Port("head.bias", 0)] + ([] if tied else [Port("head.weight", 0)])
        ports += [] if tied else [Port("head.weight", 1, "in")]
        streams = [
            Stream("vocabulary", Symmetric(V), tuple(names)),
            Stream("residual", residual, tuple(ports)),
            *streams,
        ]
        assert residual.space_dim == d or isinstance(residual, Symmetric)
        return WeightStreams.declare(self, streams)

    def _residual(self) -> Group:
        """The largest group that the normalisations commute with."""
        d = self.embed.embedding_dim
        norms = [m for m in self.modules() if isinstance(m, (nn.RMSNorm, nn.LayerNorm))]
        if any(norm.weight is not None for norm in norms):
            raise SymmetryError(
                "gains of normalisations commute with no key of the residual stream; use the model's .folded()"
            )
        return Stabilizer(O(d), torch.ones(d)) if any(isinstance(n, nn.LayerNorm) for n in norms) else O(d)

    def _heads(self, attention: Attention, scores: Group | None) -> Group:
        pairs = (
            DirectProduct(*[CSO(2, scale=SPREAD)] * (attention.width // 2))
            if attention.width > 2
            else CSO(2, scale=SPREAD)
        )
        due = pairs if self.rope else GLPlus(attention.width, scale=SPREAD)
        if scores is not None and self.rope and scores != pairs:
            raise SymmetryError(
                f"scores: {scores.name} does not commute with rotary positions, which allow one complex factor for each pair, "
                f"{attention.width // 2} times CSO(2)"
            )
        return Wreath(attention.kv_heads, scores or due, GLPlus(attention.width, scale=SPREAD))


def inner_width(block: Block) -> int:
    """Gated units of a block."""
    return block.gated.gate.out_features


def _head_ports(at: str, attention: Attention) -> list[Port]:
    """Queries move by g, keys by its inverse transpose; values by another matrix, which the output layer undoes."""
    w, repeats = attention.width, attention.heads // attention.kv_heads
    order, plain = attention.order(), list(range(w))

    def entries(pick: list[int], group: int, of: int) -> tuple[int, ...]:
        return tuple((j * of + group) * w + i for j in range(attention.kv_heads) for i in pick)

    found: list[Port] = []
    kinds: list[tuple[str, Role, int, int]] = [("q", "out", repeats, 0), ("k", "in", 1, 0), ("v", "out", 1, 1)]
    for name, role, each, which in kinds:
        for group in range(each):
            there = entries(plain if which else order, group, each)
            found += [Port(f"{at}.{name}.{t}", 0, role, entries=there, factors=which) for t in ("weight", "bias")]
    for group in range(repeats):
        there = entries(plain, group, repeats)
        found += [Port(f"{at}.o.weight", 1, "in", entries=there, factors=1)]
    return found


def _bare(norm: nn.Module, readers: list[nn.Linear], mean: bool) -> nn.Module:
    """The normalisation without gain, whose readers have taken it; an RMSNorm where means are folded elsewhere."""
    assert isinstance(norm, (nn.RMSNorm, nn.LayerNorm))
    fold_gain(norm, readers)
    kind = nn.RMSNorm if mean or isinstance(norm, nn.RMSNorm) else nn.LayerNorm
    assert norm.eps is not None
    return kind(norm.normalized_shape[0], eps=norm.eps, elementwise_affine=False)

"""What the SubEquivariant Transformer is compared with: the same transformer without symmetry, and a monolithic network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.nn import mlp
from erlangen.systems.motion.sgrl._observations import (
    SCALARS,
    VECTORS,
    Observed,
    about_gravity,
    heading_frame,
    turned,
)
from erlangen.systems.motion.sgrl._td3 import hinged
from erlangen.systems.motion.sgrl.method import PositionalCode, Widths

RAW = 3 * VECTORS + SCALARS


def raw(x: Observed) -> Tensor:
    """All 41 numbers of each limb, and its torques where they are given."""
    parts = [x["vectors"].flatten(-2), x["scalars"], *([x["action"]] if "action" in x else [])]
    return torch.cat(parts, -1)


class PlainLayer(nn.Module):
    """Attention and a feed-forward network, as of the SubEquivariant Transformer but for vectors and s."""

    def __init__(self, of: Widths, relations: bool) -> None:
        super().__init__()
        w, inner = of.width, of.heads * of.width
        self.heads, self.width = of.heads, w
        self.query, self.key, self.value = (nn.Linear(w, inner) for _ in range(3))
        self.bias = nn.Linear(3, of.heads) if relations else None
        self.out = nn.Linear(inner, w)
        self.feed = mlp([w, 2 * w, w], nn.ReLU)
        self.norms = nn.ModuleList(nn.LayerNorm(w) for _ in range(2))

    def forward(self, h: Tensor, relations: Tensor, mask: Tensor) -> Tensor:
        """``[B, limbs, width]`` of the same."""
        q, k, v = (one(h).unflatten(-1, (self.heads, -1)) for one in (self.query, self.key, self.value))
        logits = torch.einsum("bihc,bjhc->bhij", q, k) / math.sqrt(self.width)
        if self.bias is not None:
            logits = logits + self.bias(relations).movedim(-1, 1)
        weights = logits.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
        h = self.norms[0](h + self.out(torch.einsum("bhij,bjhc->bihc", weights, v).flatten(-2)))
        return self.norms[1](h + self.feed(h))


class PlainTransformer(nn.Module):
    """A transformer over limbs, as SWAT: the codes of the SubEquivariant one, and a decoder that sees the raw limb too.

    Args:
        of: sizes, of which `kept` and `directions` say nothing here.
        critic: values ``[B, limbs]`` of observations with torques, in place of torques.
        heading: turn what is observed about gravity first, so that the target is ahead.
    """

    def __init__(self, of: Widths, *, critic: bool = False, heading: bool = False) -> None:
        super().__init__()
        size = RAW + 3 * critic
        self.root, self.critic, self.heading = math.sqrt(of.width), critic, heading
        self.read = nn.Linear(size, of.width)
        nn.init.uniform_(self.read.weight, -0.1, 0.1)
        self.places = PositionalCode(of.width)
        self.layers = nn.ModuleList(PlainLayer(of, relations=i == 0) for i in range(of.layers))
        self.decode = mlp([of.width + size, of.width, of.width, 1 if critic else 3], nn.ReLU)

    def forward(self, x: Observed) -> Tensor:
        """Torques ``[B, limbs, 3]``, or values ``[B, limbs]``."""
        x = heading_frame(x) if self.heading else x
        numbers = raw(x)
        h = self.read(numbers) * self.root + self.places(x["places"])
        for layer in self.layers:
            h = layer(h, x["relations"], x["mask"])
        out = self.decode(torch.cat([h, numbers], -1))
        return out[..., 0] if self.critic else torch.tanh(out) * hinged(x)


class Monolithic(nn.Module):
    """One network for all limbs at once, with two hidden layers."""

    def __init__(self, limbs: int, width: int, *, critic: bool = False) -> None:
        super().__init__()
        self.limbs, self.critic = limbs, critic
        self.net = mlp([limbs * (RAW + 3 * critic), width, width, 1 if critic else 3 * limbs], nn.ReLU)

    def forward(self, x: Observed) -> Tensor:
        """Torques ``[B, limbs, 3]``, or one value for all ``[B, 1]``."""
        out = self.net(raw(x).flatten(1))
        return out if self.critic else torch.tanh(out).unflatten(-1, (self.limbs, 3)) * hinged(x)


def any_heading(x: Observed, y: Any, *, generator: Generator) -> tuple[Observed, Any]:
    """A batch whose samples are turned about gravity by angles of their own; torques do not turn."""
    angle = 2 * math.pi * torch.rand(len(x["vectors"]), generator=generator)
    return turned(x, about_gravity(angle)), y


def count(module: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in module.parameters())


def as_large(module: nn.Module, of: Widths, *, critic: bool = False) -> Widths:
    """Sizes with which the plain transformer has about as many numbers as a module; its layers and heads stay."""
    width = _nearest(lambda w: PlainTransformer(of._replace(width=w), critic=critic), count(module), 3)
    return of._replace(width=width)


def monolithic_width(module: nn.Module, limbs: int, *, critic: bool = False) -> int:
    """Width with which the monolithic network has about as many numbers as a module."""
    return _nearest(lambda w: Monolithic(limbs, w, critic=critic), count(module), 1)


def _nearest(make: Callable[[int], nn.Module], due: int, least: int) -> int:
    """The width whose count of numbers, which grows with it, is nearest to `due`."""

    def size(width: int) -> int:
        with torch.device("meta"):
            return count(make(width))

    low, high = least, 2 * least
    while size(high) < due:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < due else (low, middle)
    return min((low, high), key=lambda width: abs(size(width) - due))

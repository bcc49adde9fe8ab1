"""Layers on trajectories: messages between the particles of a frame, and attention of a particle to its own frames."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.nn import mlp

SMALLEST = 1e-8
"""Added to squared distances under the root, so that coincident particles have a gradient."""


def waves(t: Tensor, width: int, longest: float = 10_000.0) -> Tensor:
    """Sines and cosines ``[..., width]`` of real numbers ``[...]``, with wavelengths from 2 pi to 2 pi `longest`.

    Signs are kept: the sines of ``t`` and ``-t`` are opposite.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=t.dtype, device=t.device) * (-math.log(longest) / max(half - 1, 1)))
    angles = t[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


class Pairs(NamedTuple):
    """What layers know of pairs of particles.

    Numbers ``features``, each ``[B, T or 1, N, N, F]``, and where positions stay, the differences between them, ``apart
    [B, T, N, N, 3]``, and these over their length and one, ``direction``.
    """

    features: tuple[Tensor, ...] = ()
    apart: Tensor | None = None
    direction: Tensor | None = None


class SpatialLayer(nn.Module):
    """Messages between the particles of a frame; with vectors, the last of these moves along the differences of all.

    Messages are ``W silu(V [h_i, h_j, asinh(d_ij . d_ij), e_ij])``, where ``d_ij`` are the differences of all vectors of i and
    j and their products are taken in pairs; the paper takes them as they are, and layers that move vectors may then square a
    large distance again and again. Pairs outnumber particles, so everything linear is done to particles: V's part of
    h before they meet, W after messages are summed. Particles send to themselves, too, which costs less than leaving it out
    and moves nothing.

    Args:
        features: width of node features and messages.
        edge_features: numbers per pair.
        vectors: how many vectors each particle has: 1, its position, or 2, with another that moves while positions stay.
        generator: source of the initial parameters.
    """

    def __init__(
        self, features: int, edge_features: int, *, vectors: int = 0, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.pair_features = edge_features + vectors * (vectors + 1) // 2
        self.first = cast("nn.Linear", mlp([2 * features + self.pair_features, features], generator=generator)[0])
        self.second = mlp([features, features], generator=generator)
        self.node = mlp([2 * features, features, features], generator=generator)
        self.along = small(mlp([features, vectors], generator=generator)) if vectors else None

    def forward(
        self, h: Tensor, moving: Tensor | None, pairs: Pairs, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Features ``[B, T, N, F]`` after the layer, and how far what moves does, ``[B, T, N, 3]``.

        Args:
            h, moving: features and vectors, of the same leading shapes; none of the latter in a layer without vectors.
            pairs: what is known of pairs and stays.
            mask: particles that exist, bool ``[B, N]``.
        """
        width, particles = h.shape[-1], h.shape[2]
        received, sent, attr = self.first.weight.split([width, width, self.pair_features], 1)
        total = F.linear(h, received, self.first.bias)[:, :, :, None] + F.linear(h, sent)[:, :, None]
        known = list(pairs.features)
        apart = None
        if moving is not None:
            apart = moving[:, :, :, None] - moving[:, :, None]
            squared = apart.square().sum(-1, keepdim=True)
            known.append(squared.asinh())
            if pairs.apart is not None:
                known.append((apart * pairs.apart).sum(-1, keepdim=True).asinh())
            apart = apart / ((squared + SMALLEST).sqrt() + 1)
        if known:
            total = total + F.linear(torch.cat(known, -1), attr)
        hidden = F.silu(total)
        if mask is not None:
            hidden = hidden * mask[:, None, None, :, None]
        count = particles if mask is None else mask.sum(-1).clamp(min=1).to(h.dtype)[:, None, None, None]
        h = h + self.node(torch.cat([h, self.second(hidden.sum(-2) / count**0.5)], -1))
        if apart is None or self.along is None:
            return h, None
        strength = self.along(hidden)
        if mask is not None:
            strength = strength * mask[:, None, None, :, None]
        moved = (strength[..., :1] * apart).sum(-2)
        if pairs.direction is not None:
            moved = moved + (strength[..., 1:] * pairs.direction).sum(-2)
        return h, moved / count


class TemporalLayer(nn.Module):
    """Every particle attends to its own frames, by features and by the signed time between them.

    Args:
        features: width of node features.
        vectors: see `SpatialLayer`; the last one moves along the differences of all from those in other frames. Of two it
            also moves along itself, and along the step that the particle has made since the frame before.
        scaled: divide the attention's logits by the root of the width, without which training is brittle; the authors do not.
        generator: source of the initial parameters.
    """

    def __init__(
        self, features: int, *, vectors: int = 0, scaled: bool = True, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.scale = features**-0.5 if scaled else 1.0
        self.attend = mlp([features, features, 3 * features], generator=generator)
        self.ahead = mlp([features, features], generator=generator)
        # How far values pull, plus how far times do: linear in what an attention of the paper adds up, so that no network
        # runs on pairs of frames.
        self.along = small(mlp([features, features, vectors], generator=generator)) if vectors else None
        self.along_time = small(mlp([features, vectors], generator=generator)) if vectors else None
        self.gate = small(mlp([features, 2], generator=generator)) if vectors == 2 else None

    def forward(
        self, h: Tensor, moving: Tensor | None, pos: Tensor | None = None, steps: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Features ``[B, T, N, F]`` after the layer, and how far what moves does, ``[B, T, N, 3]``.

        Args:
            h, moving: features and vectors, of the same leading shapes; none of the latter in a layer without vectors.
            pos, steps: with two vectors, positions, which stay, and steps since the frame before.
        """
        width = h.shape[-1]
        query, key, value = self.attend(h.transpose(1, 2)).split(width, -1)  # [B, N, T, F]
        frames = torch.arange(h.shape[1], device=h.device, dtype=h.dtype)
        between = self.ahead(waves(frames[:, None] - frames, width))  # [T, T, F], signed
        # q_t . (k_s + r_ts) and sum_s a_ts (v_s + r_ts), frame by frame as matrix products.
        logits = query @ key.mT + torch.einsum("bntf,tsf->bnts", query, between)
        share = torch.softmax(self.scale * logits, -1)
        found = share @ value + torch.einsum("bnts,tsf->bntf", share, between)
        h = h + found.transpose(1, 2)
        if moving is None or self.along is None or self.along_time is None:
            return h, None
        by_value, by_time = self.along(value), self.along_time(between)
        moved = torch.zeros_like(moving)
        for k, places in enumerate((moving,) if pos is None else (moving, pos)):
            seen = places.transpose(1, 2)
            pull = share * (by_value[..., k : k + 1].mT + by_time[..., k])
            moved = moved + (pull.sum(-1, keepdim=True) * seen - pull @ seen).transpose(1, 2)
        if self.gate is not None and steps is not None:
            gate = self.gate(h)
            moved = moved + gate[..., :1] * moving + gate[..., 1:] * steps
        return h, moved


def small(layers: nn.Sequential) -> nn.Sequential:
    """The same network with a small last layer, so that what moves takes small steps at first."""
    with torch.no_grad():
        for parameter in layers[-1].parameters():
            parameter.mul_(0.03)
    return layers

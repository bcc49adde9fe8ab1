"""What EqMotion is compared with: straight motion, a recurrent network, message passing, EGNN, a guess from coordinates."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor, nn

from erlangen.nn import EGNN, MessagePassing, mlp
from erlangen.numerics import angle, safe_norm
from erlangen.survey import Split
from erlangen.systems.motion.eqmotion._parts import PairLayer, middle, straight

SPREAD = math.radians(25)
"""Standard deviation of the directions in which the several answers of straight motion go (Schöller et al. 2020)."""


class Shape(NamedTuple):
    """Frames in and out, the dimension of space, how many numbers tell agents apart, and how many answers a model gives."""

    past: int
    future: int
    dim: int
    in_features: int
    samples: int = 1

    @classmethod
    def of(cls, split: Split, samples: int = 1) -> Shape:
        """That of data."""
        x, y = split.train
        future, dim = y["future"].shape[-2:]
        return cls(x["pos"].shape[-2], future, dim, x["x"].shape[-1] if "x" in x else 0, samples)


class Straight(nn.Module):
    """Agents repeat their last step; several answers, in the plane, go in directions about it."""

    def __init__(self, future: int, samples: int = 1) -> None:
        super().__init__()
        self.future = future
        normal = NormalDist(0, SPREAD)
        self.angles = [normal.inv_cdf((k + 0.5) / samples) for k in range(samples)]

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``, or ``[B, samples, N, future, 2]``."""
        pos = x["pos"]
        if len(self.angles) == 1:
            return straight(pos, self.future)
        moved = straight(pos, self.future) - pos[..., -1:, :]
        turns = pos.new_tensor([[[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]] for a in self.angles])
        return (pos[..., -1:, :])[:, None] + moved[:, None] @ turns[:, None]


class Recurrent(nn.Module):
    """A long short-term memory that reads each agent by itself, in coordinates about the centre of all."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.reader = nn.LSTM(2 * shape.dim + shape.in_features, width, batch_first=True)
        # Heads of many answers are large, so that fewer features keep the parameters about equal.
        wide = 4 * width if shape.samples == 1 else width // 2
        self.write = mlp([width, wide, shape.samples * shape.future * shape.dim])
        self.shape = shape

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``, or ``[B, samples, N, future, n]``."""
        kinds = [x["x"][:, :, None].expand(-1, -1, x["pos"].shape[2], -1)] if "x" in x else []
        frames = torch.cat([centred(x), x["vel"], *kinds], -1)
        last = self.reader(frames.flatten(0, 1))[0][:, -1]
        return answers(self.shape, x, self.write(last).unflatten(0, x["pos"].shape[:2]))


class Graph(nn.Module):
    """Message passing between agents whose features are all their coordinates about the centre."""

    def __init__(self, shape: Shape, width: int, layers: int) -> None:
        super().__init__()
        inputs = 2 * shape.dim * shape.past + shape.in_features
        self.net = MessagePassing(inputs, shape.samples * shape.future * shape.dim, width, layers=layers)
        self.shape = shape

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``, or ``[B, samples, N, future, n]``."""
        kinds = [x["x"]] if "x" in x else []
        features = torch.cat([centred(x).flatten(2), x["vel"].flatten(2), *kinds], -1)
        return answers(self.shape, x, self.net(features, mask=x.get("mask")))


class Equivariant(nn.Module):
    """`EGNN` from the last frame; the past enters by speeds and turning angles.

    Frames of the future are combinations of three vectors, the last velocity, and what the network makes of position and
    velocity, with coefficients from its invariants: one pass for all frames.
    """

    def __init__(self, shape: Shape, width: int, layers: int) -> None:
        super().__init__()
        inputs = 2 * shape.past - 1 + shape.in_features
        weights = 3 * shape.samples * shape.future
        self.net = EGNN(inputs, weights, width, layers=layers, velocity=True, dim=shape.dim)
        self.shape = shape

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``, or ``[B, samples, N, future, n]``."""
        vel = x["vel"]
        turning = angle(vel[..., 1:, :], vel[..., :-1, :])
        features = torch.cat([safe_norm(vel), turning, *([x["x"]] if "x" in x else [])], -1)
        local, last = centred(x)[..., -1, :], vel[..., -1, :]
        weights, place, speed = self.net(features, local, last, mask=x.get("mask"))
        vectors = torch.stack([place - local, speed, last], -2)
        return answers(self.shape, x, (weights.unflatten(-1, (-1, 3)) @ vectors).flatten(-2))


class PlainReasoning(nn.Module):
    """The encoder of Kipf et al. (2018) in the place of EqMotion's: pairs are guessed from coordinates, not from distances.

    Nodes become edges, edges nodes, and nodes edges again. What it finds changes when the scene turns.
    """

    def __init__(self, features: int, channels: int, categories: int, dim: int) -> None:
        super().__init__()
        self.embed = mlp([features + 2 * channels * dim, features, features])
        self.message = PairLayer(features, 0, features, None)
        self.sent = mlp([features, features], last=True)
        self.node = mlp([2 * features, features, features])
        self.pair = PairLayer(features, 0, features, None)
        self.logits = mlp([features, features, categories])

    def forward(self, h: Tensor, pos: Tensor, vel: Tensor, pairs: Tensor) -> Tensor:
        """Logits ``[..., N, N, categories]``."""
        h = self.embed(torch.cat([h, (pos - middle(pos, None)).flatten(-2), vel.flatten(-2)], -1))
        nothing = h.new_zeros(*h.shape[:-1], h.shape[-2], 0)
        received = (self.sent(self.message(h, nothing)) * pairs).sum(-2)
        h = h + self.node(torch.cat([h, received], -1))
        return self.logits(self.pair(h, nothing))


def centred(x: dict[str, Tensor]) -> Tensor:
    """Positions about their mean over frames and the agents that exist."""
    pos, mask = x["pos"], x.get("mask")
    if mask is None:
        return pos - pos.mean((1, 2), keepdim=True)
    there = mask[..., None, None]
    return torch.where(there, pos - middle(pos, mask), 0.0)


def answers(shape: Shape, x: dict[str, Tensor], moved: Tensor) -> Tensor:
    """Straight motion and what is added to it, ``[B, N, samples * future * n]``."""
    pos = straight(x["pos"], shape.future)
    every = moved.unflatten(-1, (shape.samples, shape.future, shape.dim)).movedim(2, 1)
    return pos + every[:, 0] if shape.samples == 1 else pos[:, None] + every

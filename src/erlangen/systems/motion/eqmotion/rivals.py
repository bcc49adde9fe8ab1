"""What EqMotion is compared with: straight motion, a recurrent network, message passing, EGNN."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from erlangen.nn import EGNN, MessagePassing, mlp
from erlangen.numerics import angle, safe_norm
from erlangen.survey import Split
from erlangen.systems.motion.eqmotion._parts import straight


class Shape(NamedTuple):
    """Frames in and out, the dimension of space, and how many numbers tell agents apart."""

    past: int
    future: int
    dim: int
    in_features: int

    @classmethod
    def of(cls, split: Split) -> Shape:
        """That of data."""
        x, y = split.train
        return cls(x["pos"].shape[-2], *y["future"].shape[-2:], x["x"].shape[-1] if "x" in x else 0)  # pyright: ignore[reportArgumentType, reportCallIssue]


class Straight(nn.Module):
    """Agents repeat their last step."""

    def __init__(self, future: int) -> None:
        super().__init__()
        self.future = future

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``."""
        return straight(x["pos"], self.future)


class Recurrent(nn.Module):
    """A long short-term memory that reads each agent by itself, in coordinates about the centre of all."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.reader = nn.LSTM(2 * shape.dim + shape.in_features, width, batch_first=True)
        self.write = mlp([width, 4 * width, shape.future * shape.dim])
        self.future = shape.future

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``."""
        kinds = [x["x"][:, :, None].expand(-1, -1, x["pos"].shape[2], -1)] if "x" in x else []
        frames = torch.cat([centred(x["pos"]), x["vel"], *kinds], -1)
        last = self.reader(frames.flatten(0, 1))[0][:, -1]
        moved = self.write(last).reshape(*x["pos"].shape[:2], self.future, x["pos"].shape[-1])
        return straight(x["pos"], self.future) + moved


class Graph(nn.Module):
    """Message passing between agents whose features are all their coordinates about the centre."""

    def __init__(self, shape: Shape, width: int, layers: int) -> None:
        super().__init__()
        inputs = 2 * shape.dim * shape.past + shape.in_features
        self.net = MessagePassing(inputs, shape.future * shape.dim, width, layers=layers)
        self.future = shape.future

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``."""
        kinds = [x["x"]] if "x" in x else []
        features = torch.cat([centred(x["pos"]).flatten(2), x["vel"].flatten(2), *kinds], -1)
        moved = self.net(features).unflatten(-1, (self.future, x["pos"].shape[-1]))
        return straight(x["pos"], self.future) + moved


class Equivariant(nn.Module):
    """`EGNN` from the last frame; the past enters by speeds and turning angles.

    Frames of the future are combinations of three vectors, the last velocity, and what the network makes of position and
    velocity, with coefficients from its invariants: one pass for all frames.
    """

    def __init__(self, shape: Shape, width: int, layers: int) -> None:
        super().__init__()
        inputs = 2 * shape.past - 1 + shape.in_features
        self.net = EGNN(inputs, 3 * shape.future, width, layers=layers, velocity=True, dim=shape.dim)
        self.future = shape.future

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, future, n]``."""
        pos, vel = x["pos"], x["vel"]
        turning = angle(vel[..., 1:, :], vel[..., :-1, :])
        features = torch.cat([safe_norm(vel), turning, *([x["x"]] if "x" in x else [])], -1)
        local, last = centred(pos)[..., -1, :], vel[..., -1, :]
        weights, place, speed = self.net(features, local, last)
        vectors = torch.stack([place - local, speed, last], -2)
        return straight(pos, self.future) + weights.unflatten(-1, (self.future, 3)) @ vectors


def centred(pos: Tensor) -> Tensor:
    """Positions about their mean over agents and frames."""
    return pos - pos.mean((1, 2), keepdim=True)

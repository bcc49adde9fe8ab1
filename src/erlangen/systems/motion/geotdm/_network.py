"""The network on trajectories: layers in space and in time, in turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.groups import E
from erlangen.nn import mlp
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.geotdm._layers import SMALLEST, Pairs, SpatialLayer, TemporalLayer, small, waves

STEP_WAVES = 32
"""Numbers that stand for a step of the diffusion."""
LENGTH_WAVES = 12
"""Numbers that stand for a length, so that small differences show."""
FRAME_WAVES = 8
"""Numbers that stand for where a frame is in the trajectory."""


class TrajectoryNet(nn.Module, ABC):
    """What networks with and without geometry share: sizes, checks, and the alternation of layers in space and time.

    Args and errors: see `EGTN`.

    Attributes:
        geometric: whether layers move vectors; without, coordinates are features and a last network makes the answer of these.
        measures: whether distances of all pairs in every frame are features of pairs, for networks that have no vectors.
    """

    geometric: ClassVar[bool]
    measures: ClassVar[bool] = False

    def __init__(
        self,
        node_features: int = 0,
        edge_features: int = 0,
        *,
        features: int = 32,
        layers: int = 3,
        vector: bool = False,
        dim: int = 3,
        scaled: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(features=features, layers=layers)
        if node_features < 0 or edge_features < 0:
            raise ErlangenError(
                f"node_features = {node_features}, edge_features = {edge_features}; neither is negative"
            )
        if features % 2:
            raise ErlangenError(f"features = {features}; take an even number, for sines and cosines of time")
        self.node_features, self.edge_features = node_features, edge_features
        self.vector, self.dim = vector, dim
        vectors = 1 + vector if self.geometric else 0
        read = LENGTH_WAVES * vectors if self.geometric else dim * (2 + vector)
        self.embed = mlp([node_features + STEP_WAVES + FRAME_WAVES + read, features, features], generator=generator)
        self.register_buffer("reach", torch.ones(()))
        self.reach: Tensor
        self.spatial = nn.ModuleList(
            SpatialLayer(features, edge_features + self.measures, vectors=vectors, generator=generator)
            for _ in range(layers)
        )
        self.temporal = nn.ModuleList(
            TemporalLayer(features, vectors=vectors, scaled=scaled, generator=generator) for _ in range(layers)
        )
        self.decode = None if self.geometric else small(mlp([features, features, dim], generator=generator))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """How far every particle, or its vector, moves in every frame, vectors ``[B, T, N, 3]``.

        Args:
            x: ``pos [B, T, N, 3]``; ``vector`` of the same shape where the network has one; ``step [B]``, a number that the
                network reads, 0 without it; ``node [B, N, F]`` or ``[B, T, N, F]`` and ``edge_attr [B, N, N, F]`` where the
                network has them; optionally ``mask``, bool ``[B, N]``: particles that exist; others have no influence.

        Raises:
            ShapeError: something is missing or does not fit.
        """
        return self.moved(x)[1]

    def moved(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Features ``[B, T, N, features]`` after the last layer, invariant in `EGTN`, and what `forward` returns."""
        self._check(x)
        pos = self._centred(x)
        steps = _steps(pos) / self.reach
        h = self._embedded(x, *self._read(pos, steps, [x["vector"]] if self.vector else []))
        h, moved = self._run(x, h, pos if self.geometric else None)
        if self.decode is not None:
            return h, self.decode(h)
        assert moved is not None
        return h, moved

    @abstractmethod
    def _read(self, pos: Tensor, steps: Tensor, vectors: list[Tensor]) -> list[Tensor]:
        """Numbers ``[B, T, N, F]`` that particles start with, of positions, steps since the frame before, and vectors."""

    def _centred(self, x: dict[str, Tensor]) -> Tensor:
        """Positions about the mean of all frames and particles that exist: far away places cost no digits."""
        pos, mask = x["pos"], x.get("mask")
        if mask is None:
            return pos - pos.mean((1, 2), keepdim=True)
        weight = mask[:, None, :, None].to(pos.dtype)
        count = (weight.sum((1, 2), keepdim=True) * pos.shape[1]).clamp(min=1)
        return (pos - (pos * weight).sum((1, 2), keepdim=True) / count) * weight

    def _embedded(self, x: dict[str, Tensor], *more: Tensor) -> Tensor:
        pos = x["pos"]
        step = x["step"].to(pos.dtype) if "step" in x else pos.new_zeros(len(pos))
        frame = torch.arange(pos.shape[1], dtype=pos.dtype, device=pos.device)
        told = waves(frame, FRAME_WAVES, longest=10.0)[:, None]
        read = [waves(step, STEP_WAVES)[:, None, None], told, *more]
        if self.node_features:
            node = x["node"]
            read.append(node[:, None] if node.dim() == 3 else node)
        return self.embed(torch.cat([part.expand(*pos.shape[:3], -1) for part in read], -1))

    def _run(self, x: dict[str, Tensor], h: Tensor, pos: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Features after the last layer, and how far what moves has moved: the vectors if there are any, or positions."""
        features = [x["edge_attr"][:, None].expand(-1, h.shape[1], -1, -1, -1)] if self.edge_features else []
        if self.measures:
            apart = x["pos"][:, :, :, None] - x["pos"][:, :, None]
            features.append(apart.square().sum(-1, keepdim=True).asinh())
        pairs = Pairs(tuple(features))
        moving, stays, steps = pos, None, None
        if pos is not None and self.vector:
            apart = pos[:, :, :, None] - pos[:, :, None]
            squared = apart.square().sum(-1, keepdim=True)
            pairs = Pairs((*features, squared.asinh()), apart, apart / ((squared + SMALLEST).sqrt() + 1))
            moving, stays, steps = x["vector"], pos, _steps(pos) / self.reach
        start = moving
        for spatial, temporal in zip(self.spatial, self.temporal, strict=True):
            h, step = spatial(h, moving, pairs, x.get("mask"))
            moving = None if moving is None else moving + step
            h, step = temporal(h, moving, stays, steps)
            moving = None if moving is None else moving + step
        return h, None if moving is None or start is None else moving - start

    def _check(self, x: dict[str, Tensor]) -> None:
        check_motion(x, "pos", self.dim)
        if self.vector and ("vector" not in x or x["vector"].shape != x["pos"].shape):
            given = tuple(x["vector"].shape) if "vector" in x else "missing"
            raise ShapeError(f"vector is {given}; pass one for every pos {tuple(x['pos'].shape)}")
        frames, particles = x["pos"].shape[1:3]
        for name, width, shapes in (
            ("node", self.node_features, ((particles,), (frames, particles))),
            ("edge_attr", self.edge_features, ((particles, particles),)),
        ):
            wanted = [(len(x["pos"]), *shape, width) for shape in shapes]
            if width and (name not in x or tuple(x[name].shape) not in wanted):
                given = tuple(x[name].shape) if name in x else "missing"
                raise ShapeError(
                    f"{name} is {given}; with pos {tuple(x['pos'].shape)} pass {' or '.join(map(str, wanted))}"
                )


def check_motion(x: dict[str, Tensor], name: str, dim: int = 3) -> None:
    """Raise `ShapeError` unless there is a batch of trajectories ``[B, T, N, dim]`` and the mask, if any, fits."""
    if name not in x:
        raise ShapeError(f"x has no {name!r}; its keys are {sorted(x)}")
    pos, mask = x[name], x.get("mask")
    if pos.dim() != 4 or pos.shape[-1] != dim or 0 in pos.shape[1:3]:
        raise ShapeError(
            f"{name} has shape {tuple(pos.shape)}; pass [B, T, N, {dim}], at least one frame and particle, and systems of "
            "different sizes padded, with mask [B, N]"
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (len(pos), pos.shape[2])):
        raise ShapeError(f"mask is {mask.dtype} {tuple(mask.shape)}; pass bool {(len(pos), pos.shape[2])}")


def _steps(pos: Tensor) -> Tensor:
    """From the frame before to each frame ``[B, T, N, 3]``; zero for the first."""
    return torch.cat([torch.zeros_like(pos[:, :1]), pos.diff(dim=1)], 1)


class EGTN(TrajectoryNet):
    """The equivariant geometric trajectory network of Han et al. 2024: `SpatialLayer` and `TemporalLayer` in turn.

    Beside what it is given it reads how far each particle has moved since the frame before. Reflections are among the
    symmetries, so mirror images get mirrored answers: it cannot tell left from right.

    Args:
        node_features, edge_features: invariant numbers per particle and pair, may be zero.
        features: width, even.
        layers: number of layers of each kind.
        vector: whether every particle has a vector in every frame beside its position, which then is what is answered for.
        dim: dimension of space, which below is 3.
        scaled: see `TemporalLayer`.
        generator: source of the initial parameters.

    Raises:
        ErlangenError: a size is out of range.

    >>> net = EGTN(features=16, layers=2)
    >>> net({"pos": torch.randn(8, 15, 5, 3)}).shape  # 8 trajectories of 15 frames and 5 particles
    torch.Size([8, 15, 5, 3])
    """

    geometric = True

    @property
    def symmetry(self) -> Symmetry:
        """E(dim) on dicts of ``pos``, ``vector`` where there is one, and the invariant rest, to vectors."""
        there = {"step": True, "node": self.node_features > 0, "edge_attr": self.edge_features > 0}
        actions = {"pos": "points"} | ({"vector": "vectors"} if self.vector else {})
        actions |= {name: "invariant" for name, read in there.items() if read}
        return Symmetry(E(self.dim), input=actions, output="vectors")

    @override
    def _read(self, pos: Tensor, steps: Tensor, vectors: list[Tensor]) -> list[Tensor]:
        lengths = [(v.square().sum(-1) + SMALLEST).sqrt() for v in (steps, *vectors)]
        return [waves(4 * length, LENGTH_WAVES, longest=16.0) for length in lengths]

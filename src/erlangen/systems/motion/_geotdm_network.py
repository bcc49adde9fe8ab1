"""Networks on trajectories: layers that pass messages in space and attend in time, with coordinates or without."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.groups import E
from erlangen.nn import mlp
from erlangen.symmetry import Symmetry

STEP_WAVES = 32
"""Numbers that stand for a step of the diffusion."""
LENGTH_WAVES = 12
"""Numbers that stand for a length, so that small differences show."""
FRAME_WAVES = 8
"""Numbers that stand for where a frame is in the trajectory."""
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
        self.along = _small(mlp([features, vectors], generator=generator)) if vectors else None

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
        self.along = _small(mlp([features, features, vectors], generator=generator)) if vectors else None
        self.along_time = _small(mlp([features, vectors], generator=generator)) if vectors else None
        self.gate = _small(mlp([features, 2], generator=generator)) if vectors == 2 else None

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


def _small(layers: nn.Sequential) -> nn.Sequential:
    """The same network with a small last layer, so that what moves takes small steps at first."""
    with torch.no_grad():
        for parameter in layers[-1].parameters():
            parameter.mul_(0.03)
    return layers


class _Trajectories(nn.Module):
    """What both networks share: sizes, checks, and the alternation of layers in space and time."""

    def __init__(
        self,
        node_features: int,
        edge_features: int,
        features: int,
        layers: int,
        read: int,
        vectors: int,
        scaled: bool,
        generator: Generator | None,
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
        self.vector, self.dim = False, 3
        self.embed = mlp([node_features + STEP_WAVES + FRAME_WAVES + read, features, features], generator=generator)
        self.register_buffer("reach", torch.ones(()))
        self.reach: Tensor
        self.spatial = nn.ModuleList(
            SpatialLayer(features, edge_features, vectors=vectors, generator=generator) for _ in range(layers)
        )
        self.temporal = nn.ModuleList(
            TemporalLayer(features, vectors=vectors, scaled=scaled, generator=generator) for _ in range(layers)
        )

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


class EGTN(_Trajectories):
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

    Attributes:
        symmetry: E(dim) on dicts of ``pos``, ``vector`` where there is one, and the invariant rest, to vectors.

    Raises:
        ErlangenError: a size is out of range.

    >>> net = EGTN(features=16, layers=2)
    >>> net({"pos": torch.randn(8, 15, 5, 3)}).shape  # 8 trajectories of 15 frames and 5 particles
    torch.Size([8, 15, 5, 3])
    """

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
        super().__init__(
            node_features, edge_features, features, layers, LENGTH_WAVES * (1 + vector), 1 + vector, scaled, generator
        )
        self.vector, self.dim = vector, dim
        names = {"step": True, "node": node_features > 0, "edge_attr": edge_features > 0}
        actions = {"pos": "points"} | ({"vector": "vectors"} if vector else {})
        actions |= {name: "invariant" for name, there in names.items() if there}
        self.symmetry = Symmetry(E(dim), input=actions, output="vectors")

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
        """Invariant features ``[B, T, N, features]`` after the last layer, and what `forward` returns."""
        self._check(x)
        pos = self._centred(x)
        steps = _steps(pos) / self.reach
        seen = [steps, x["vector"]] if self.vector else [steps]
        lengths = [waves(4 * (v.square().sum(-1) + SMALLEST).sqrt(), LENGTH_WAVES, longest=16.0) for v in seen]
        h, moved = self._run(x, self._embedded(x, *lengths), pos)
        return h, cast("Tensor", moved)


class PlainTrajectoryNet(_Trajectories):
    """The blocks of `EGTN` without its geometry: coordinates, steps and vectors are features like others.

    It does not see where the whole trajectory is, but how it lies. Arguments and errors as `EGTN`.

    >>> PlainTrajectoryNet(features=16, layers=2)({"pos": torch.randn(8, 15, 5, 3)}).shape
    torch.Size([8, 15, 5, 3])
    """

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
        super().__init__(node_features, edge_features, features, layers, dim * (2 + vector), 0, scaled, generator)
        self.vector, self.dim = vector, dim
        self.decode = _small(mlp([features, features, dim], generator=generator))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, T, N, 3]``; see `EGTN.forward`."""
        self._check(x)
        pos = self._centred(x)
        more = [x["vector"]] if self.vector else []
        h, _ = self._run(x, self._embedded(x, pos, _steps(pos) / self.reach, *more), None)
        return self.decode(h)

"""The network: fine cells first, exact in each layer for its partition, and coarser partitions from layer to layer.

Atzmon, Huang, Williams and Litany (2024). Layers that are exact for a partition are `erlangen.enforce.PiecewiseFrameAverage`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.enforce import PiecewiseFrameAverage
from erlangen.errors import ErlangenError, ShapeError, check_floating
from erlangen.geometry import cluster_parts, scattered_cells
from erlangen.groups import E, Group
from erlangen.nn import mlp, segment_max, segment_mean, segment_sum
from erlangen.numerics import safe_norm


class SegmentNet(nn.Module):
    """A PointNet on many sets at once: a network for each row, pooled over its set, and a head for both.

    Coordinates come with their length and their distance from the axis of largest extent, and sets with their extents and
    number of points: these stay what they are when nearly equal eigenvalues make the other axes arbitrary, as in capsules.
    """

    def __init__(self, features: int, out_features: int, width: int) -> None:
        super().__init__()
        self.rows = mlp([8 + features, width, width], nn.ReLU, last=True)
        self.spread = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width))
        self.own, self.whole = nn.Linear(width, width), nn.Linear(2 * width + 4, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, out_features)

    def forward(self, rows: Tensor, index: Tensor, segments: int) -> Tensor:
        """``[R, out_features]`` of rows ``[R, 3 + features]`` in the sets ``index [R]``."""
        squares = rows[:, :3].square()
        lengths = safe_norm(torch.stack([rows[:, :3], rows[:, :3] * rows.new_tensor([1.0, 1.0, 0.0])], 1))
        local = self.rows(torch.cat([rows, rows[:, :3].abs(), lengths], -1))
        extents = (segment_mean(squares, index, segments) + 1e-12).sqrt()
        counts = segment_sum(torch.ones_like(rows[:, :1]), index, segments).log1p()
        pooled = torch.cat([segment_max(self.spread(local), index, segments), extents, counts], -1)
        return self.head(self.norm(self.own(local) + self.whole(pooled)[index]).relu())


class APEN(nn.Module):
    """Class of each point, invariant under motions of the parts of a cloud as far as the parts are found.

    The first partition are Voronoi cells of a random subset of points, which keep a distance. Each layer is exactly
    equivariant for its partition; its points vote for the centre of the rigid body that they belong to, and whole parts with
    near votes and like classes are merged for the next layer. Parts whose points disagree stay as they are, as most of them
    lie in several bodies. The last step reads the invariants of all layers.

    Args:
        classes: number of classes.
        counts: most cells of the first layer; most groups of merged parts of each following one, not increasing.
        width: invariants per point and layer.
        group: how a part moves.
        reach: length that votes are measured in, in units of the points; about the size of a body.
        spacing: least distance of the points that cells are drawn around, in units of the points.
        temperature: standard deviation of the mixture that merges parts, in units of `reach`.
        apart: parts stay as they are if their votes, along each axis, spread over so many temperatures; None merges all.
        samples: signs of the axes per forward pass in train mode, see `erlangen.enforce.PiecewiseFrameAverage`.
        seed: seed of the cells and signs. In eval mode each call starts from it.

    Raises:
        ErlangenError: `reach` or `temperature` is not positive, or `spacing` or `apart` is negative.
        ShapeError: `counts` is empty or increases.
    """

    def __init__(
        self,
        classes: int,
        counts: Sequence[int] = (32, 16, 8),
        width: int = 32,
        *,
        group: Group | None = None,
        reach: float = 0.3,
        spacing: float = 0.0,
        temperature: float = 0.3,
        apart: float | None = 1.0,
        samples: int | None = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not counts or any(b > a for a, b in itertools.pairwise(counts)):
            raise ShapeError(f"counts = {tuple(counts)}; give the number of parts of each layer, not increasing")
        if not (reach > 0 and temperature > 0):
            raise ErlangenError(f"reach = {reach} and temperature = {temperature}; give lengths that are positive")
        if not (spacing >= 0 and (apart is None or apart >= 0)):
            raise ErlangenError(f"spacing = {spacing} and apart = {apart}; give numbers that are not negative")
        group = group or E(3)
        self.counts, self.reach, self.temperature, self.seed = tuple(counts), reach, temperature, seed
        self.spacing, self.apart = spacing, apart
        self.layers = nn.ModuleList(
            PiecewiseFrameAverage(
                SegmentNet(width if level else 0, width + 3, width),
                group,
                self._parts(level),
                features=width,
                vectors=1,
                samples=samples,
                differentiable=False,  # gradients flow through the data alone, as in the runs of the ledger
                on_degenerate="allow",
                seed=seed + level,
            )
            for level in range(len(counts))
        )
        self.guesses = nn.ModuleList(nn.Linear(width, classes) for _ in counts[1:])
        self.head = mlp([width * len(counts), width, classes], nn.ReLU)
        self._generator = Generator().manual_seed(seed)

    def forward(self, x: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
        """Answers for clouds ``[B, n, 3]``.

        Args:
            x: the points, or a dictionary of points ``"pos"`` and, for a partition that is known, ``"labels"`` int64
                ``[B, n]`` below ``counts[0]``, which then holds in every layer.

        Returns:
            ``"logits"`` ``[B, n, classes]``; for each layer ``"votes"`` ``[B, layers, n, 3]`` (from the point to where the
            centre is expected, in units of `reach`), ``"labels"`` ``[B, layers, n]``; for each but the last ``"guesses"``
            ``[B, layers - 1, n, classes]`` and ``"uncertainty"`` ``[B, layers - 1]`` of the merging, zero for a partition
            that is known.

        Raises:
            DtypeError: points are not floating.
            ShapeError: no points, or shapes that do not fit. Others as `erlangen.enforce.PiecewiseFrameAverage`.
        """
        pos = x.get("pos") if isinstance(x, dict) else x
        if pos is None:
            raise ShapeError(f"x has no pos; its keys are {sorted(x)}")
        check_floating(pos, "pos")
        known = x.get("labels") if isinstance(x, dict) else None
        generator = self._generator if self.training else Generator().manual_seed(self.seed)
        labels = self.cells(pos, generator) if known is None else known
        features: list[Tensor] = []
        votes: list[Tensor] = []
        partitions: list[Tensor] = []
        guesses: list[Tensor] = []
        unsure: list[Tensor] = []
        for level, layer in enumerate(self.layers):
            given = {"features": features[-1]} if features else {}
            out = layer({"pos": pos / self.reach, "labels": labels, **given})
            features.append(out["features"])
            votes.append(out["vectors"][:, :, 0])
            partitions.append(labels)
            if level + 1 < len(self.layers):
                guesses.append(self.guesses[level](features[-1]))
                if known is None:
                    labels, uncertainty = self._merge(pos, votes[-1], guesses[-1], labels, level, generator)
                else:
                    uncertainty = pos.new_zeros(len(pos))
                unsure.append(uncertainty)
        answer = {
            "logits": self.head(torch.cat(features, -1)),
            "votes": torch.stack(votes, 1),
            "labels": torch.stack(partitions, 1),
        }
        if guesses:
            answer |= {"guesses": torch.stack(guesses, 1), "uncertainty": torch.stack(unsure, 1)}
        return answer

    def cells(self, pos: Tensor, generator: Generator) -> Tensor:
        """The first partition: Voronoi cells ``[B, n]`` of random points that keep a distance."""
        return scattered_cells(pos, self.counts[0], self.spacing, generator=generator)

    def _parts(self, level: int) -> int:
        """Most parts of a layer: its groups, and all those before that may stay as they are."""
        return self.counts[level] + (0 if level == 0 or self.apart is None else self._parts(level - 1))

    @torch.no_grad()
    def _merge(
        self, pos: Tensor, votes: Tensor, guess: Tensor, labels: Tensor, level: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        ballots = torch.cat([pos / self.reach + votes, guess.softmax(-1)], -1)
        merged = cluster_parts(
            ballots,
            labels,
            self._parts(level),
            self.counts[level + 1],
            variance=self.temperature**2,
            apart=None if self.apart is None else 3 * (self.apart * self.temperature) ** 2,  # in space: three axes
            generator=generator,
        )
        return merged.labels, merged.uncertainty


def apen_loss(out: dict[str, Tensor], y: dict[str, Tensor], *, votes: float = 0.2, guesses: float = 0.5) -> Tensor:
    """Cross entropy of the classes, that of the layers' guesses, and the distance of the votes from their target.

    Args:
        out: answers of `APEN`.
        y: ``"label"`` int64 ``[B, n]``, and ``"vote"`` ``[B, n, 3]`` (see `vote_targets`).
        votes, guesses: weights of the last two terms.
    """
    loss = cross_entropy(out["logits"].transpose(1, 2), y["label"])
    loss = loss + votes * (out["votes"] - y["vote"][:, None]).square().mean()
    if "guesses" in out:
        every = y["label"][:, None].expand(out["guesses"].shape[:3])
        loss = loss + guesses * cross_entropy(out["guesses"].movedim(-1, 1), every)
    return loss


def vote_targets(pos: Tensor, body: Tensor, reach: float) -> Tensor:
    """From every point to the middle of its body's points, in units of `reach`: ``[B, n, 3]``.

    Args:
        pos: points ``[B, n, 3]``.
        body: int64 ``[B, n]``.
        reach: see `APEN`.

    Raises:
        ShapeError: shapes do not fit.
    """
    if pos.shape[:-1] != body.shape:
        raise ShapeError(f"pos has shape {tuple(pos.shape)} and body {tuple(body.shape)}; pass [B, n, 3] and [B, n]")
    wide = body[..., None].expand_as(pos)
    middles = pos.new_zeros(len(pos), int(body.max()) + 1, 3).scatter_reduce(1, wide, pos, "mean", include_self=False)
    return (middles.gather(1, wide) - pos) / reach

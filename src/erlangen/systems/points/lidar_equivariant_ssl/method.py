"""E-SSL3D: maps of laser scans that follow what moves them: contrast of shifts, scales, mirrors; classes of turns; scene flow.

Scenes are in the axes of the scanner: x ahead, y to the left, z up, metres. Maps ``[B, C, H, W]`` have x along H and y along W.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, grid_sample, normalize, relu

from erlangen.errors import (
    DataError,
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    ShapeError,
    check_finite,
    check_floating,
    check_sizes,
)
from erlangen.learn import MovingTarget, info_nce
from erlangen.systems.points.lidar_equivariant_ssl._motions import moved_anyhow, turn_bins


@dataclass(frozen=True)
class Weights:
    """Of the three losses; those of the paper, for a sum over 2048 points and a mean over the cells of a map."""

    contrast: float = 0.01
    turns: float = 1.0
    flow: float = 300.0


class EquivariantPretraining(nn.Module):
    """A backbone that learns from two sweeps of scenes without labels.

    >>> grid = Grid(cell=2.0, rows=16, columns=16)
    >>> net = EquivariantPretraining(MapBackbone(8, stride=1), grid)
    >>> pos = torch.rand(2, 2, 50, 3) * torch.tensor([30.0, 30.0, 2.0]) - torch.tensor([0.0, 15.0, 2.0])
    >>> sweeps = Sweeps(pos, torch.ones(2, 2, 50, dtype=torch.bool), torch.zeros(2, 50, 3))
    >>> losses = net.losses(sweeps, generator=torch.Generator().manual_seed(0))
    >>> sorted(losses)
    ['contrast', 'flow', 'turns']

    Two views of the later sweep are moved by motions of the road that are drawn for each. Features of a point agree in both, for
    which turns are a nuisance; a head of their own reads off the features by how much a view is turned. Features of the later
    sweep as it is, seen by projector and predictor, agree with those that the slowly moving target has for the earlier one and
    that scene flow carries on.

    Args:
        backbone: from maps of pillars ``[B, C, H, W]`` to features, with attributes ``channels`` and ``stride``.
        grid: of the pillars.
        contrast, turns, flow: which losses there are.
        bins: classes of turns.
        points: that are contrasted, at most.
        temperature: of the contrast.
        decay: of the target.

    Raises:
        ErlangenError: fewer than two bins, or sizes that are not positive.

    Source: Hegde et al., "Equivariant Spatio-Temporal Self-Supervision for LiDAR Object Detection", ECCV 2024.
    """

    def __init__(
        self,
        backbone: MapBackbone,
        grid: Grid,
        *,
        contrast: bool = True,
        turns: bool = True,
        flow: bool = True,
        bins: int = 10,
        points: int = 2048,
        temperature: float = 0.1,
        decay: float = 0.999,
    ) -> None:
        super().__init__()
        check_sizes(points=points)
        if bins < 2:
            raise ErlangenError(f"bins = {bins}; give at least two, one class tells nothing")
        self.backbone, self.grid = backbone, grid
        self.coarse = grid.coarser(backbone.stride)
        self.bins, self.points, self.temperature = bins, points, temperature
        width = backbone.channels
        # One head for each loss: the contrast has to ignore turns that the classes read.
        self.contrast = head(width) if contrast else None
        self.turns = TurnClassifier(width, bins) if turns else None
        self.projector = head(width) if flow else None
        self.predictor = head(width) if flow else None
        self.target = MovingTarget(nn.Sequential(backbone, self.projector), decay) if self.projector else None

    def forward(self, x: Tensor) -> Tensor:
        """Features of maps of pillars, those of the backbone."""
        return self.backbone(x)

    def losses(self, sweeps: Sweeps, *, generator: Generator | None = None) -> dict[str, Tensor]:
        """The losses by name, means over scenes, without their weights; call `update` after each step.

        Warns with `ErlangenWarning` where scenes have no point that is in both views; their contrast is zero.

        Raises:
            ShapeError, DtypeError, NotFiniteError: sweeps of another form.
            DataError: no scene has points on the map in both sweeps.
        """
        check_sweeps(sweeps, self.grid)
        losses: dict[str, Tensor] = {}
        pos, known = sweeps.pos[:, 1], sweeps.known[:, 1]
        if self.contrast is not None or self.turns is not None:
            (first, motions), (second, _) = (moved_anyhow(pos, generator) for _ in range(2))
            one = self.backbone(self.grid.pillars(first, known))
            if self.contrast is not None:
                other = self.backbone(self.grid.pillars(second, known))
                losses["contrast"] = self._contrast(self.contrast, [first, second], [one, other], known, generator)
            if self.turns is not None:
                seen = self.coarse.occupied(first, known)
                losses["turns"] = cross_entropy(self.turns(one, seen), turn_bins(motions.angle, self.bins))
        if self.projector is not None and self.predictor is not None and self.target is not None:
            encoder, projector = self.target.copy.children()
            with torch.no_grad():  # what is carried along are features of the encoder; the projector comes after
                before = encoder(self.grid.pillars(sweeps.pos[:, 0], sweeps.known[:, 0]))
                carried, there = flow_warp(before, sweeps.pos[:, 0], sweeps.flow, sweeps.known[:, 0], self.coarse)
                carried = projector(carried)
            now = self.predictor(self.projector(self.backbone(self.grid.pillars(pos, known))))
            losses["flow"] = flow_loss(now, carried, there & self.coarse.occupied(pos, known))
        return losses

    def update(self) -> None:
        """Move the target towards the backbone and the projector; after each step of the optimizer."""
        if self.target is not None and self.projector is not None:
            self.target.update(nn.Sequential(self.backbone, self.projector))

    def _contrast(
        self, head: nn.Module, views: list[Tensor], maps: list[Tensor], known: Tensor, generator: Generator | None
    ) -> Tensor:
        both = known & self.coarse.inside(views[0]) & self.coarse.inside(views[1])
        alone = int((~both.any(1)).sum())
        if alone:
            warnings.warn(
                f"{alone} of {len(both)} scenes have no point in both views and are left out of the contrast; if that happens "
                "often, give a larger grid",
                ErlangenWarning,
                stacklevel=3,
            )
        rows = chosen_points(both, self.points, generator)
        kept = both.gather(1, rows)
        x, y = (
            self.coarse.read(head(m), v.gather(1, rows[..., None].expand(-1, -1, 3)))
            for m, v in zip(maps, views, strict=True)
        )
        return info_nce(x, y, temperature=self.temperature, known=kept, reduction="sum") / len(rows)


class Sweeps(NamedTuple):
    """Two sweeps of scenes, the earlier one first.

    Attributes:
        pos: ``[B, 2, N, 3]``, each in the axes of the scanner at its time.
        known: bool ``[B, 2, N]``, which points there are.
        flow: of the points of the first sweep, ``[B, N, 3]``: their place in the axes of the second minus their own.
    """

    pos: Tensor
    known: Tensor
    flow: Tensor


def check_sweeps(sweeps: Sweeps, grid: Grid) -> None:
    """Refuse what cannot be pre-trained on.

    Raises:
        ShapeError, DtypeError, NotFiniteError: sweeps of another form.
        DataError: no scene has points on the map in both sweeps.
    """
    pos, known, flow = sweeps
    if (
        pos.ndim != 4
        or pos.shape[1] != 2
        or pos.shape[3] != 3
        or known.shape != pos.shape[:-1]
        or flow.shape != pos[:, 0].shape
    ):
        raise ShapeError(
            f"pos {tuple(pos.shape)}, known {tuple(known.shape)}, flow {tuple(flow.shape)}; give [B, 2, N, 3], [B, 2, N], "
            "and a vector for each point of the first sweep, [B, N, 3]"
        )
    for name, value in (("pos", pos), ("flow", flow)):
        check_floating(value, name)
        check_finite(value, name)
    _check_known(known)
    if not bool((known & grid.inside(pos)).any(-1).all(-1).any()):
        raise DataError("no scene has points on the map in both sweeps; give scenes within the grid, or a larger grid")


@dataclass(frozen=True)
class Grid:
    """A map of the road ahead: `rows` cells along x from zero on, `columns` along y about zero.

    Attributes:
        cell: edge of a cell, in metres.
        rows, columns: numbers of cells.
        ahead: x of the first row's near edge; for scenes that lie about the origin minus half the length.
    """

    cell: float = 0.5
    rows: int = 64
    columns: int = 64
    ahead: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(rows=self.rows, columns=self.columns)
        if not self.cell > 0:
            raise ErlangenError(f"cell = {self.cell}; give a length in metres, positive")

    def coarser(self, stride: int) -> Grid:
        """The grid of a map whose cells are `stride` times as long.

        Raises:
            ErlangenError: a stride that does not divide both sides: cells of the two maps would not lie on each other.
        """
        if self.rows % stride or self.columns % stride:
            raise ErlangenError(
                f"stride = {stride} for a map of {self.rows} x {self.columns}; give one that divides both"
            )
        return Grid(self.cell * stride, self.rows // stride, self.columns // stride, self.ahead)

    def place(self, pos: Tensor) -> Tensor:
        """Places in units of cells ``[..., 2]``: (0, 0) is the near right corner."""
        return torch.stack([pos[..., 0] - self.ahead, pos[..., 1] + self.columns * self.cell / 2], -1) / self.cell

    def inside(self, pos: Tensor) -> Tensor:
        """Which points ``[..., 3]`` lie above the map."""
        at = self.place(pos)
        return ((at >= 0) & (at < torch.tensor([self.rows, self.columns]).to(at))).all(-1)

    def cells(self, pos: Tensor) -> Tensor:
        """Index of the cell of each point ``[...]``, row after row; ``rows * columns`` outside."""
        at = self.place(pos).floor().long()
        index = at[..., 0] * self.columns + at[..., 1]
        return torch.where(self.inside(pos), index, self.rows * self.columns)

    def means(self, values: Tensor, pos: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Means of values ``[B, N, C]`` in the cells of their points: ``[B, C, H, W]``, and how many each has, ``[B, H, W]``."""
        cells = torch.where(known, self.cells(pos), self.rows * self.columns)
        total = values.new_zeros(len(values), self.rows * self.columns + 1, values.shape[-1] + 1)
        ones = torch.cat([values, values.new_ones(*values.shape[:-1], 1)], -1)
        total.scatter_add_(1, cells[..., None].expand_as(ones), ones)
        total = total[:, :-1].view(len(values), self.rows, self.columns, -1)
        count = total[..., -1]
        return (total[..., :-1] / count.clamp_min(1)[..., None]).movedim(-1, 1), count

    def occupied(self, pos: Tensor, known: Tensor) -> Tensor:
        """Which cells hold points, bool ``[B, H, W]``."""
        return self.means(pos[..., :0], pos, known)[1] > 0

    def pillars(self, pos: Tensor, known: Tensor) -> Tensor:
        """What a backbone sees ``[B, 6, H, W]``: log(1 + number of points), mean place in the cell; mean, least, largest height.

        Nothing in it says where a cell is. Empty cells are zero.

        Raises:
            ShapeError, DtypeError, NotFiniteError: points of another form.
        """
        check_floating(pos, "pos")
        check_finite(pos, "pos")
        if pos.ndim != 3 or pos.shape[-1] != 3 or known.shape != pos.shape[:-1]:
            raise ShapeError(f"pos {tuple(pos.shape)}, known {tuple(known.shape)}; give [B, N, 3] and bool [B, N]")
        _check_known(known)
        at = self.place(pos)
        mean, count = self.means(torch.cat([at - at.floor() - 0.5, pos[..., 2:]], -1), pos, known)
        cells = torch.where(known, self.cells(pos), self.rows * self.columns)
        flat = pos.new_zeros(len(pos), self.rows * self.columns + 1)
        low = flat.scatter_reduce(1, cells, pos[..., 2], "amin", include_self=False)
        high = flat.scatter_reduce(1, cells, pos[..., 2], "amax", include_self=False)
        ends = torch.stack([low, high], 1)[..., :-1].unflatten(-1, (self.rows, self.columns))
        return torch.cat([count.log1p()[:, None], mean, ends], 1) * (count > 0)[:, None]

    def read(self, x: Tensor, pos: Tensor) -> Tensor:
        """Values ``[B, N, C]`` of a map ``[B, C, H, W]`` at points ``[B, N, 3]``, between the middles of cells; zero outside.

        Raises:
            ShapeError: a map of another size.
        """
        if x.shape[-2:] != (self.rows, self.columns):
            raise ShapeError(f"x {tuple(x.shape)}; give a map of {self.rows} x {self.columns}")
        size = torch.tensor([self.columns, self.rows]).to(x)
        # grid_sample has the column first, from -1 to 1 between outer edges
        at = 2 * self.place(pos).flip(-1) / size - 1
        return grid_sample(x, at[:, :, None], align_corners=False)[..., 0].mT


class MapBackbone(nn.Module):
    """Convolutions on maps of pillars, without a bias of place: ``[B, 6, H, W]`` to ``[B, channels, H / stride, W / stride]``.

    Args:
        channels: of all layers.
        blocks: residual ones.
        stride: of the first layer.
        padding: "zeros" or "circular".
    """

    def __init__(self, channels: int = 32, blocks: int = 2, stride: int = 2, padding: str = "zeros") -> None:
        super().__init__()
        check_sizes(channels=channels, stride=stride)
        how: dict[str, Any] = {"padding": 1, "padding_mode": padding, "bias": False}
        self.channels, self.stride = channels, stride
        # One cell beyond its own on each side: what a cell of the smaller map sees has its middle in the middle of that cell.
        first = nn.Conv2d(6, channels, stride + 2, stride, **how)
        self.first = nn.Sequential(first, nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, **how),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, **how),
                nn.BatchNorm2d(channels),
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The features."""
        x = self.first(x)
        for block in self.blocks:
            x = relu(x + block(x))
        return x


class TurnClassifier(nn.Module):
    """Logits of the bin that a scene was turned by ``[B, bins]``, from features averaged over its occupied cells.

    Args:
        channels: of the features.
        bins: of `turn_bins`.
    """

    def __init__(self, channels: int, bins: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, bins))

    def forward(self, x: Tensor, occupied: Tensor) -> Tensor:
        """Of maps ``[B, C, H, W]`` and bool ``[B, H, W]``."""
        share = occupied[:, None].to(x)
        return self.layers((x * share).sum((-2, -1)) / share.sum((-2, -1)).clamp_min(1))


def chosen_points(known: Tensor, count: int, generator: Generator | None = None) -> Tensor:
    """Rows ``[B, min(count, N)]`` of known points, at random; others come last where there are too few."""
    score = torch.rand(known.shape, generator=generator).to(known.device) + known
    return score.topk(min(count, known.shape[1]), 1).indices


def flow_warp(x: Tensor, pos: Tensor, flow: Tensor, known: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """A map carried along by its points: each cell gets the mean of the features that the points arriving in it had.

    Args:
        x: ``[B, C, H, W]``, on the grid.
        pos, flow: of the points, ``[B, N, 3]``.
        known: bool ``[B, N]``.
        grid: of the map.

    Returns:
        The map ``[B, C, H, W]``, and bool ``[B, H, W]``: where points arrived.

    Raises:
        ShapeError: flow that is not one vector for each point, or a map of another size.
        NotFiniteError: flow that is NaN or Inf.
    """
    check_finite(flow, "flow")
    if flow.shape != pos.shape or known.shape != pos.shape[:-1] or x.shape[-2:] != (grid.rows, grid.columns):
        raise ShapeError(
            f"flow {tuple(flow.shape)} and known {tuple(known.shape)} for pos {tuple(pos.shape)}, map {tuple(x.shape)}; give a "
            f"vector and a bool for each point, and a map of {grid.rows} x {grid.columns}"
        )
    cells = grid.cells(pos)
    had = known & (cells < grid.rows * grid.columns)
    rows = torch.where(had, cells, 0)
    features = x.flatten(2).mT.gather(1, rows[..., None].expand(-1, -1, x.shape[1]))
    carried, count = grid.means(features, pos + flow, had)
    return carried, count > 0


def flow_loss(now: Tensor, carried: Tensor, both: Tensor) -> Tensor:
    """Squared distances of unit features in cells that both maps have, ``[B, H, W]``, over the number of all cells.

    No gradient reaches what was carried. The mean over scenes.

    Raises:
        ShapeError: maps that do not fit together.
    """
    if now.shape != carried.shape or both.shape != (len(now), *now.shape[-2:]):
        raise ShapeError(
            f"now {tuple(now.shape)}, carried {tuple(carried.shape)}, both {tuple(both.shape)}; give two of [B, C, H, W] and "
            "[B, H, W]"
        )
    apart = (normalize(now, dim=1) - normalize(carried.detach(), dim=1)).square().sum(1)
    return (apart * both).sum() / both.numel()


def head(width: int) -> nn.Sequential:
    """A perceptron on each cell of a map, as the projectors of BYOL are: one hidden layer, normalised."""
    return nn.Sequential(
        nn.Conv2d(width, 2 * width, 1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.Conv2d(2 * width, width, 1)
    )


def _check_known(known: Tensor) -> None:
    if known.dtype != torch.bool:
        raise DtypeError(f"known has dtype {known.dtype}; give bool, which points there are")

"""Pre-training that E-SSL3D is compared with: invariance, contrast of everything, classes of everything."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.errors import DataError
from erlangen.learn import MovingTarget, byol_loss, info_nce
from erlangen.systems.points.lidar_equivariant_ssl.method import (
    Grid,
    MapBackbone,
    Motions,
    Sweeps,
    TurnClassifier,
    chosen_points,
    move_points,
    road_motions,
    turn_bins,
)


class InvariantPretraining(nn.Module):
    """Features averaged over the map agree for two sweeps, moved anyhow: after Huang et al., "STRL", ICCV 2021."""

    def __init__(self, backbone: MapBackbone, grid: Grid, *, decay: float = 0.999) -> None:
        super().__init__()
        self.backbone, self.grid = backbone, grid
        width = backbone.channels
        self.projector, self.predictor = _perceptron(width), _perceptron(width)
        self.target = MovingTarget(nn.Sequential(backbone, _Pool(), self.projector), decay)

    def losses(self, sweeps: Sweeps, *, generator: Generator | None = None) -> dict[str, Tensor]:
        """One loss."""
        views = [_moved(sweeps.pos[:, i], generator)[0] for i in range(2)]
        maps = [self.grid.pillars(view, sweeps.known[:, i]) for i, view in enumerate(views)]
        now = self.predictor(self.projector(_Pool()(self.backbone(maps[1]))))
        before = self.target(maps[0])
        assert isinstance(before, Tensor)
        return {"invariance": byol_loss(now, before)}

    def update(self) -> None:
        """Move the target."""
        self.target.update(nn.Sequential(self.backbone, _Pool(), self.projector))


class ContrastPretraining(nn.Module):
    """Features of points agree in two views, moved anyhow: after Xie et al., "PointContrast", ECCV 2020."""

    def __init__(self, backbone: MapBackbone, grid: Grid, *, points: int = 2048, temperature: float = 0.1) -> None:
        super().__init__()
        self.backbone, self.grid = backbone, grid
        self.coarse = grid.coarser(backbone.stride)
        self.points, self.temperature = points, temperature

    def losses(self, sweeps: Sweeps, *, generator: Generator | None = None) -> dict[str, Tensor]:
        """One loss; the features are those of the backbone itself."""
        pos, known = sweeps.pos[:, 1], sweeps.known[:, 1]
        views = [_moved(pos, generator)[0] for _ in range(2)]
        both = known & self.coarse.inside(views[0]) & self.coarse.inside(views[1])
        if not bool(both.any()):
            raise DataError("no point of any scene is in both views; give scenes within the grid, or a larger grid")
        rows = chosen_points(both, self.points, generator)
        x, y = (
            self.coarse.read(self.backbone(self.grid.pillars(v, known)), v.gather(1, rows[..., None].expand(-1, -1, 3)))
            for v in views
        )
        kept = both.gather(1, rows)
        return {"contrast": info_nce(x, y, temperature=self.temperature, known=kept, reduction="sum") / len(rows)}

    def update(self) -> None:
        """There is no target."""


class ClassPretraining(nn.Module):
    """Heads read off one view how it was turned, scaled, shifted and mirrored, all by classes."""

    def __init__(self, backbone: MapBackbone, grid: Grid, *, bins: int = 10) -> None:
        super().__init__()
        self.backbone, self.grid, self.bins = backbone, grid, bins
        self.coarse = grid.coarser(backbone.stride)
        self.heads = nn.ModuleDict(
            {
                name: TurnClassifier(backbone.channels, n)
                for name, n in (("turn", bins), ("scale", bins), ("shift", bins), ("side", 2))
            }
        )

    def losses(self, sweeps: Sweeps, *, generator: Generator | None = None) -> dict[str, Tensor]:
        """One loss, the sum over the heads."""
        pos, known = sweeps.pos[:, 1], sweeps.known[:, 1]
        view, motions = _moved(pos, generator)
        x, seen = self.backbone(self.grid.pillars(view, known)), self.coarse.occupied(view, known)
        labels = {
            "turn": turn_bins(motions.angle, self.bins),
            "scale": turn_bins(motions.factor - 1, self.bins, most=0.05),
            "shift": turn_bins(motions.shift[:, 0], self.bins, most=0.2),
            "side": (motions.side < 0).long(),
        }
        return {
            "classes": torch.stack(
                [cross_entropy(head(x, seen), labels[name]) for name, head in self.heads.items()]
            ).sum()
        }

    def update(self) -> None:
        """There is no target."""


class _Pool(nn.Module):
    """Means over a map."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))


def _moved(pos: Tensor, generator: Generator | None) -> tuple[Tensor, Motions]:
    """Points moved as E-SSL3D moves them, and by what."""
    motions = road_motions(len(pos), generator=generator, dtype=pos.dtype)
    return move_points(motions.matrix, pos), motions


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU(), nn.Linear(2 * width, width))

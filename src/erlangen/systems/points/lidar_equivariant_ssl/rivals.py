"""Pre-training that E-SSL3D is compared with: invariance of the whole, and classes of all motions.

Contrast of all motions, after Xie et al., "PointContrast", ECCV 2020, is `EquivariantPretraining` with that loss alone: all
motions are in its views.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.learn import MovingTarget, byol_loss
from erlangen.systems.points.lidar_equivariant_ssl._motions import moved_anyhow, turn_bins
from erlangen.systems.points.lidar_equivariant_ssl.method import (
    Grid,
    MapBackbone,
    Sweeps,
    TurnClassifier,
    check_sweeps,
    head,
)


class InvariantPretraining(nn.Module):
    """Features averaged over the map agree for two sweeps, moved anyhow: after Huang et al., "STRL", ICCV 2021.

    Projector, predictor and target are those of E-SSL3D. Each sweep is once what is predicted and once what predicts.
    """

    def __init__(self, backbone: MapBackbone, grid: Grid, *, decay: float = 0.999) -> None:
        super().__init__()
        self.backbone, self.grid = backbone, grid
        self.projector, self.predictor = head(backbone.channels), head(backbone.channels)
        self.target = MovingTarget(self._online(), decay)

    def losses(self, sweeps: Sweeps, *, generator: Generator | None = None) -> dict[str, Tensor]:
        """One loss."""
        check_sweeps(sweeps, self.grid)
        maps = [self.grid.pillars(moved_anyhow(sweeps.pos[:, i], generator)[0], sweeps.known[:, i]) for i in range(2)]
        online = self._online()
        found = [self.predictor(online(x)).flatten(1) for x in maps]
        wanted = [self.target.copy(x).flatten(1) for x in maps]
        return {"invariance": (byol_loss(found[0], wanted[1]) + byol_loss(found[1], wanted[0])) / 2}

    def update(self) -> None:
        """Move the target."""
        self.target.update(self._online())

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, nn.AdaptiveAvgPool2d(1), self.projector)


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
        """One loss, the sum over the heads, of two views."""
        check_sweeps(sweeps, self.grid)
        views = [self._classes(sweeps.pos[:, 1], sweeps.known[:, 1], generator) for _ in range(2)]
        return {"classes": torch.stack(views).mean()}

    def _classes(self, pos: Tensor, known: Tensor, generator: Generator | None) -> Tensor:
        view, motions = moved_anyhow(pos, generator)
        x, seen = self.backbone(self.grid.pillars(view, known)), self.coarse.occupied(view, known)
        labels = {
            "turn": turn_bins(motions.angle, self.bins),
            "scale": turn_bins(motions.factor - 1, self.bins, most=0.05),
            "shift": turn_bins(motions.shift[:, 0], self.bins, most=0.2),
            "side": (motions.side < 0).long(),
        }
        return torch.stack([cross_entropy(one(x, seen), labels[name]) for name, one in self.heads.items()]).sum()

    def update(self) -> None:
        """There is no target."""

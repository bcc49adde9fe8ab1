"""What is fine-tuned: heat of middles, sizes and headings on a map, its loss, and boxes with scores."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from erlangen.errors import DataError, ShapeError, check_finite
from erlangen.geometry import oriented_iou
from erlangen.measure import average_precision
from erlangen.simulate import ROAD_USERS
from erlangen.systems.points.lidar_equivariant_ssl.method import Grid, MapBackbone

KINDS = len(ROAD_USERS)
NUMBERS = 8
"""Beside the heat: place within the cell (2), height of the middle, logarithms of three sizes, sine and cosine of twice the
heading: the boxes of the simulated streets look the same from both ends."""


class Detector(nn.Module):
    """Heat of each kind ``[B, 3, H, W]`` and numbers of boxes ``[B, 8, H, W]``, after Yin et al., "CenterPoint", CVPR 2021."""

    def __init__(self, backbone: MapBackbone, grid: Grid) -> None:
        super().__init__()
        self.backbone, self.grid = backbone, grid
        self.coarse = grid.coarser(backbone.stride)
        width = backbone.channels
        self.neck = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.heat = nn.Conv2d(width, KINDS, 1)
        self.box = nn.Conv2d(width, NUMBERS, 1)
        assert self.heat.bias is not None
        nn.init.constant_(self.heat.bias, -math.log(99))  # one per cent: most cells have nothing

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        """Of ``{"pos": [B, N, 3], "known": [B, N]}``."""
        y = self.neck(self.backbone(self.grid.pillars(x["pos"], x["known"])))
        return self.heat(y), self.box(y)


class DetectionLoss:
    """Focal loss of the heat with peaks that fall off over a metre, and absolute errors of the numbers in cells with a middle.

    Args:
        grid: of the answers.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        middle = torch.cartesian_prod(torch.arange(grid.rows) + 0.5, torch.arange(grid.columns) + 0.5)
        self.middle = middle * grid.cell + torch.tensor([grid.ahead, -grid.columns * grid.cell / 2])

    def __call__(self, found: tuple[Tensor, Tensor], y: Any) -> Tensor:
        """Of answers and ``{"boxes": [B, U, 7], "kind": [B, U]}``; kinds below zero are no boxes.

        Raises:
            ShapeError: boxes or kinds of another form.
            NotFiniteError, DataError: boxes that are NaN or Inf, or with sizes that are not positive.
        """
        heat, numbers = found
        boxes, kind = y["boxes"], y["kind"]
        if boxes.shape != (len(heat), kind.shape[-1], 7) or kind.shape != boxes.shape[:-1]:
            raise ShapeError(
                f"boxes {tuple(boxes.shape)}, kind {tuple(kind.shape)}; give [B, U, 7] and [B, U] of {len(heat)} scenes"
            )
        check_finite(boxes, "boxes")
        if not bool((boxes[..., 3:6] > 0).all()):
            raise DataError(
                f"boxes have sizes down to {float(boxes[..., 3:6].min()):.4g}; give positive ones, in metres"
            )
        inside = self.grid.inside(boxes) & (kind >= 0)
        cells = self.grid.cells(boxes)
        apart = (self.middle.to(boxes) - boxes[:, :, None, :2]).square().sum(-1)
        bump = torch.exp(-apart / 2) * inside[..., None]  # [B, U, cells]
        bump.scatter_add_(2, torch.where(inside, cells, 0)[..., None], inside[..., None].to(bump))
        bump = torch.cat([bump, bump.new_zeros(len(bump), 1, bump.shape[-1])], 1).clamp(max=1)  # there may be no boxes
        kinds = torch.nn.functional.pad(kind, (0, 1), value=-1)
        peaks = torch.stack([(bump * (kinds == k)[..., None]).amax(1) for k in range(KINDS)], 1)
        flat = heat.flatten(2)
        share = flat.sigmoid()
        right = (1 - share).square() * nn.functional.logsigmoid(flat)
        wrong = (1 - peaks).pow(4) * share.square() * nn.functional.logsigmoid(-flat)
        focal = -torch.where(peaks >= 1, right, wrong).sum()
        rows = torch.where(inside, cells, 0)[..., None].expand(-1, -1, NUMBERS)
        at = numbers.flatten(2).mT.gather(1, rows)
        error = ((at - self.numbers(boxes)).abs().sum(-1) * inside).sum()
        return (focal + error) / inside.sum().clamp_min(1)

    def numbers(self, boxes: Tensor) -> Tensor:
        """What the second head has to say in the cell of each box, ``[B, U, 8]``."""
        at = self.grid.place(boxes)
        twice = 2 * boxes[..., 6:]
        return torch.cat([at - at.floor() - 0.5, boxes[..., 2:3], boxes[..., 3:6].log(), twice.sin(), twice.cos()], -1)

    def boxes(self, found: tuple[Tensor, Tensor], kind: int, count: int = 20) -> list[tuple[Tensor, Tensor]]:
        """Boxes ``[F, 7]`` and scores of one kind for each scene: the highest cells that no neighbour is above."""
        heat, numbers = (one.detach() for one in found)
        share = heat[:, kind].sigmoid()
        peak = torch.where(share == max_pool2d(share[:, None], 3, 1, 1)[:, 0], share, 0.0)
        score, cell = peak.flatten(1).topk(min(count, share[0].numel()), 1)
        n = numbers.flatten(2).mT.gather(1, cell[..., None].expand(-1, -1, NUMBERS))
        middle = self.middle.to(n)[cell] + n[..., :2] * self.grid.cell
        yaw = torch.atan2(n[..., 6], n[..., 7])[..., None] / 2
        boxes = torch.cat([middle, n[..., 2:3], n[..., 3:6].clamp(-3, 3).exp(), yaw], -1)
        return [(b[s > 0.01], s[s > 0.01]) for b, s in zip(boxes, score, strict=True)]


def flat_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of boxes ``[..., 7]`` seen from above."""
    return oriented_iou(*torch.broadcast_tensors(*(one[..., [0, 1, 3, 4, 6]] for one in (a, b))))


def nearness(a: Tensor, b: Tensor) -> Tensor:
    """Minus the distance of the middles on the road."""
    return -(a[..., :2] - b[..., :2]).norm(dim=-1)


@torch.no_grad()
def scores(model: Detector, loss: DetectionLoss, x: Any, y: Any) -> dict[str, float]:
    """Average precisions in percent, their mean, and the mean error of headings of cars and cyclists that were found."""
    pieces = [model({name: t[rows] for name, t in x.items()}) for rows in torch.arange(len(x["pos"])).split(50)]
    found = torch.cat([heat for heat, _ in pieces]), torch.cat([numbers for _, numbers in pieces])
    row: dict[str, float] = {}
    turned: list[Tensor] = []
    inside = loss.grid.inside(y["boxes"])
    for kind, name in enumerate(ROAD_USERS):
        true = [boxes[(k == kind) & here] for boxes, k, here in zip(y["boxes"], y["kind"], inside, strict=True)]
        objects = loss.boxes(found, kind)
        likeness, least = (flat_iou, 0.5) if name == "car" else (nearness, -1.0)
        there = any(len(boxes) for boxes in true)
        row[f"precision of {name}s"] = (
            100 * average_precision(objects, true, likeness, at_least=least) if there else math.nan
        )
        if name != "pedestrian":  # who is round
            turned += [_heading_errors(o, t) for (o, _), t in zip(objects, true, strict=True)]
    errors = torch.cat(turned)
    mean = float(torch.tensor(list(row.values())).nanmean())  # of the kinds that there are
    return {"mean precision": mean, **row, "heading error, deg": float(errors.mean()) if len(errors) else float("nan")}


def _heading_errors(objects: Tensor, true: Tensor) -> Tensor:
    """Of each true box with an object within a metre, the nearest one's error, up to half a turn: 0 to 90 degrees."""
    if not len(objects) or not len(true):
        return torch.zeros(0)
    near, which = nearness(objects[:, None], true[None]).max(0)
    twice = 2 * (objects[which, 6] - true[:, 6])
    return torch.rad2deg(torch.atan2(twice.sin(), twice.cos()).abs() / 2)[near > -1]

"""Exact properties of E-SSL3D: motions of points, boxes and flow, maps, losses in closed form, and the moving target."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from erlangen.actions import Image, OrientedBoxes
from erlangen.geometry import box_corners, oriented_iou
from erlangen.groups import SE
from erlangen.learn import MovingTarget, info_nce
from erlangen.simulate import Scanner, traffic
from erlangen.survey import Run, bound, exact
from erlangen.survey.property_claims import largest
from erlangen.systems.points.lidar_equivariant_ssl._motions import GROUP, move_points, road_motions, turn_bins
from erlangen.systems.points.lidar_equivariant_ssl.method import (
    EquivariantPretraining,
    Grid,
    MapBackbone,
    Sweeps,
    flow_loss,
    flow_warp,
)

F64 = torch.float64
WIDE: dict[str, float] = {"turn": math.pi, "shift": 3.0, "scale": 0.4}


def motions(run: Run[Any], stream: int, dtype: torch.dtype = F64, count: int = 100) -> Tensor:
    """Wide motions of the road."""
    return road_motions(count, **WIDE, generator=run.generator(stream), dtype=dtype).matrix


def points(run: Run[Any], dtype: torch.dtype = F64, count: int = 100) -> Tensor:
    """Within 20 metres."""
    return 20 * (2 * torch.rand(count, 30, 3, generator=run.generator(2), dtype=F64) - 1).to(dtype)


def boxes(run: Run[Any], dtype: torch.dtype = F64, count: int = 100) -> Tensor:
    """With sizes from one to five metres and any heading."""
    u = torch.rand(count, 5, 7, generator=run.generator(3), dtype=F64)
    return torch.cat([40 * u[..., :3] - 20, 1 + 4 * u[..., 3:6], 2 * math.pi * u[..., 6:]], -1).to(dtype)


def moved_boxes(g: Tensor, x: Tensor) -> Tensor:
    """By the action of the kernel."""
    out = OrientedBoxes().on(GROUP).act(g, x)
    assert isinstance(out, Tensor)
    return out


# --- motions ---------------------------------------------------------------------------------------------------------
@exact(tol=1e-12, float32=1e-6)
def motions_compose(run: Run[Any], dtype: torch.dtype) -> float:
    """Difference between moving twice and by the product, of points, corners of boxes and velocities, in parts of 100 metres."""
    g, h = motions(run, 0, dtype), motions(run, 1, dtype)
    x, b = points(run, dtype), boxes(run, dtype)
    linear = [one[:, :3, :3].mT for one in (h, g, g @ h)]
    gaps = (
        move_points(g, move_points(h, x)) - move_points(g @ h, x),
        box_corners(moved_boxes(g, moved_boxes(h, b))) - box_corners(moved_boxes(g @ h, b)),
        x @ linear[0] @ linear[1] - x @ linear[2],
    )
    return largest(float(gap.abs().max()) for gap in gaps) / 100


@exact(tol=1e-12, float32=1e-6)
def motions_are_undone(run: Run[Any], dtype: torch.dtype) -> float:
    """Difference between points and corners of boxes, and those that were moved and moved back, in parts of 100 metres."""
    g = motions(run, 0, dtype)
    x, b = points(run, dtype), boxes(run, dtype)
    back = torch.linalg.inv(g)
    again = moved_boxes(back, moved_boxes(g, b))
    gaps = move_points(back, move_points(g, x)) - x, box_corners(again) - box_corners(b)
    return largest(float(gap.abs().max()) for gap in gaps) / 100


@exact(tol=1e-12)
def mirrors_are_involutions(run: Run[Any]) -> float:
    """Difference between points and corners of boxes, and those that were mirrored twice, in parts of 100 metres."""
    g = road_motions(100, turn=0.0, shift=0.0, scale=0.0, flip=1.0, generator=run.generator(0), dtype=F64).matrix
    x, b = points(run), boxes(run)
    once = move_points(g, x), moved_boxes(g, b)
    if torch.equal(once[0], x):
        return math.inf
    gaps = move_points(g, once[0]) - x, box_corners(moved_boxes(g, once[1])) - box_corners(b)
    return largest(float(gap.abs().max()) for gap in gaps) / 100


@exact(tol=1e-10)
def boxes_follow_their_corners(run: Run[Any]) -> float:
    """Largest shortfall from one of the overlap of a moved box and the box around moved corners, mirrored ones among them."""
    g, b = motions(run, 0), boxes(run)
    corners = box_corners(b)  # [B, U, 8, 3]
    there = move_points(g, corners.flatten(1, 2)).view(corners.shape)
    moved = moved_boxes(g, b)
    # In the axes of the moved box its corners have to be half its sizes.
    half = in_axes(there, moved[..., None, :]).abs().amax(-2)
    around = torch.cat([moved[..., :3], 2 * half, moved[..., 6:]], -1)
    return float((1 - oriented_iou(moved, around)).abs().max())


@exact(tol=0)
def points_stay_in_their_boxes(run: Run[Any]) -> float:
    """Share of points inside a box that are outside of the moved one after both move."""
    g, b = motions(run, 0), boxes(run)[:, :1]
    u = 0.999 * (torch.rand(100, 50, 3, generator=run.generator(4), dtype=F64) - 0.5) * b[..., 3:6]

    def world(local: Tensor, box: Tensor) -> Tensor:
        c, s = box[..., 6].cos(), box[..., 6].sin()
        turned = torch.stack(
            [c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1], local[..., 2]], -1
        )
        return turned + box[..., :3]

    moved = moved_boxes(g, b)
    local = in_axes(move_points(g, world(u, b)), moved)
    return float(((local.abs() > moved[..., 3:6] / 2).any(-1)).double().mean())


@exact(tol=1e-12)
def flow_moves_by_the_linear_part(run: Run[Any]) -> float:
    """Difference between moved points of the next sweep and moved points plus flow under the linear part, in parts of 100 m."""
    g, x = motions(run, 0), points(run)
    s = torch.randn(x.shape, generator=run.generator(5), dtype=F64)
    return float((move_points(g, x) + s @ g[:, :3, :3].mT - move_points(g, x + s)).abs().max()) / 100


@exact(tol=1e-9)
def flow_is_that_of_rigid_motions(run: Run[Any]) -> float:
    """Largest change, in metres, of the place of a return under flow: in the axes of its road user, or else of the street."""
    streets = traffic(3, scanner=Scanner(beams=16, azimuths=64), generator=run.generator(6), dtype=F64)
    pos = streets.pos[:, 0]
    then = pos + streets.flow
    still = streets.known[:, 0] & (streets.user[:, 0] < 0)
    moves = streets.user[:, 0] >= 0
    if not bool(moves.any()):
        return math.inf
    user = streets.user[:, 0].clamp_min(0)[..., None].expand(-1, -1, 7)
    before, after = (in_axes(x, streets.boxes[:, sweep].gather(1, user)) for sweep, x in enumerate((pos, then)))
    gaps = (after - before)[moves], (then - move_points(streets.ego, pos))[still]
    return largest(float(gap.abs().max()) for gap in gaps)


def in_axes(pos: Tensor, box: Tensor) -> Tensor:
    """Points ``[..., 3]`` in the axes of boxes ``[..., 7]``."""
    away = pos - box[..., :3]
    c, s = box[..., 6].cos(), box[..., 6].sin()
    return torch.stack([c * away[..., 0] + s * away[..., 1], c * away[..., 1] - s * away[..., 0], away[..., 2]], -1)


# --- maps ------------------------------------------------------------------------------------------------------------
@exact(tol=0)
def maps_turn_by_quarters(run: Run[Any]) -> float:
    """Difference between maps that are turned by quarters as images and by exchanging their cells."""
    x = torch.randn(2, 3, 16, 16, generator=run.generator(7), dtype=F64)
    gaps: list[float] = []
    for k in range(4):
        turn = torch.eye(3, dtype=F64)
        c, s = round(math.cos(k * math.pi / 2)), round(math.sin(k * math.pi / 2))
        turn[:2, :2] = torch.tensor([[c, -s], [s, c]], dtype=F64)
        found = Image().on(SE(2)).act(turn, x)
        assert isinstance(found, Tensor)
        gaps.append(float((found - torch.rot90(x, k, (-2, -1))).abs().max()))
    return largest(gaps)


@exact(tol=1e-12)
def pillars_turn_by_quarters(run: Run[Any]) -> float:
    """Difference between counts and heights of pillars of a cloud turned by quarters about a map's middle, and turned maps."""
    grid = Grid(1.0, 16, 16, ahead=-8.0)
    x = points(run, count=3) / 2
    known = torch.ones(x.shape[:2], dtype=torch.bool)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=F64)
    channels = [0, 3, 4, 5]  # number of points and heights; places within the cell turn as vectors
    gaps: list[float] = []
    for k in range(4):
        turned = x @ torch.linalg.matrix_power(quarter, k).mT
        maps = [grid.pillars(cloud, known)[:, channels] for cloud in (x, turned)]
        # x runs along the rows and y along the columns: a turn from x to y takes rows to columns.
        gaps.append(float((maps[1] - torch.rot90(maps[0], k, (-2, -1))).abs().max()))
    return largest(gaps)


@exact(tol=0)
def pillars_shift_by_cells(run: Run[Any]) -> float:
    """Difference between pillars of a cloud that is shifted by whole cells and rolled maps, of points that stay on the map."""
    grid = Grid(0.5, 32, 32, ahead=-8.0)
    x = (points(run, count=3) * 8).round() / 64 + 1 / 128  # exact in binary; within 2.5 metres
    known = torch.ones(x.shape[:2], dtype=torch.bool)
    moved = grid.pillars(x + torch.tensor([1.0, -1.5, 0.0], dtype=F64), known)
    return float((moved - grid.pillars(x, known).roll((2, -3), (-2, -1))).abs().max())


def turned_map_error(size: int, run: Run[Any]) -> float:
    """Mean difference between a smooth map turned as an image by 20 degrees and the turned function, near the middle."""
    axis = (torch.arange(size, dtype=F64) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(-axis, axis, indexing="ij")
    a = math.radians(20)

    def smooth(x: Tensor, y: Tensor) -> Tensor:
        return torch.sin(5 * x + 1) * torch.cos(4 * y)

    turn = torch.eye(3, dtype=F64)
    turn[:2, :2] = torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=F64)
    found = Image().on(SE(2)).act(turn, smooth(x, y)[None, None])
    assert isinstance(found, Tensor)
    true = smooth(math.cos(a) * x + math.sin(a) * y, -math.sin(a) * x + math.cos(a) * y)
    inside = x.square() + y.square() < 0.5
    return float((found[0, 0] - true).abs()[inside].mean())


@bound(at_least=3.0)
def interpolation_gets_better(run: Run[Any]) -> float:
    """Factor by which the error of a map turned by 20 degrees falls when it has twice as many rows and columns."""
    return turned_map_error(32, run) / turned_map_error(64, run)


# --- losses ----------------------------------------------------------------------------------------------------------
def street(run: Run[Any], grid: Grid) -> tuple[Tensor, Tensor]:
    """Points all over a map, with a fine spread."""
    u = torch.rand(2, 400, 3, generator=run.generator(8))
    span = torch.tensor([grid.rows * grid.cell, grid.columns * grid.cell, 2.0])
    return u * span - torch.tensor([-grid.ahead, grid.columns * grid.cell / 2, 1.0]), torch.ones(
        2, 400, dtype=torch.bool
    )


@exact(tol=1e-12)
def identical_sweeps_have_no_flow_loss(run: Run[Any]) -> float:
    """Loss of flow of two identical sweeps that do not move, when the target is the network and the predictor the identity."""
    torch.manual_seed(0)
    grid = Grid(1.0, 16, 16)
    pos, known = street(run, grid)
    net = EquivariantPretraining(MapBackbone(8), grid, contrast=False, turns=False).double().eval()
    sweeps = Sweeps(torch.stack([pos, pos], 1).double(), torch.stack([known, known], 1), torch.zeros_like(pos).double())
    with torch.no_grad():
        apart = net.losses(sweeps)["flow"]  # what the predictor does to it
        net.predictor = nn.Sequential(nn.Identity())
        return float(net.losses(sweeps)["flow"]) if apart > 0 else math.inf


def carried_loss(run: Run[Any], *, warp: bool) -> float:
    """Loss between features of a scene that moves around a map by whole cells, and features that are carried, or left."""
    torch.manual_seed(0)
    grid = Grid(0.5, 16, 16)
    pos, known = street(run, grid)
    flow = torch.tensor([1.0, -1.5, 0.0]).expand_as(pos)
    net = MapBackbone(8, stride=1, padding="circular").double().eval()
    with torch.no_grad():
        pillars = grid.pillars(pos, known).double()
        now = net(pillars.roll((2, -3), (-2, -1)))
        before = net(pillars)
        carried, there = flow_warp(before, pos.double(), flow.double() * warp, known, grid)
        # What leaves the map comes in on the other side: only cells that points reach without that are compared.
        inside = grid.occupied(pos + flow, known)
        return float(flow_loss(now, carried, there & inside))


@exact(tol=1e-12)
def flow_of_whole_cells_has_no_loss(run: Run[Any]) -> float:
    """Loss of flow of a scene that moves by whole cells, features carried along, convolutions that close up at the edges."""
    return carried_loss(run, warp=True)


@bound(at_least=0.01)
def without_the_warp_there_is_a_loss(run: Run[Any]) -> float:
    """Loss of flow of the scene that moves by whole cells when features stay where they were."""
    return carried_loss(run, warp=False)


@exact(tol=1e-12)
def contrast_is_cross_entropy(run: Run[Any]) -> float:
    """Difference between the sum of contrast and cross-entropy of cosines over the temperature with labels on the diagonal."""
    x, y = torch.randn(2, 60, 8, generator=run.generator(9), dtype=F64)
    logits = normalize(x, dim=-1) @ normalize(y, dim=-1).mT / 0.1
    expected = cross_entropy(logits, torch.arange(60), reduction="sum")
    return abs(float(info_nce(x, y, reduction="sum") / expected - 1))


@exact(tol=1e-12)
def equal_features_have_the_contrast_of_chance(run: Run[Any]) -> float:
    """Relative difference from n log n of the sum of contrast when all n features are one."""
    x = torch.ones(60, 8, dtype=F64)
    return abs(float(info_nce(x, x, reduction="sum")) / (60 * math.log(60)) - 1)


@bound(at_least=1.0)
def wrong_partners_cost(run: Run[Any]) -> float:
    """Contrast, mean over points, of features with partners in another order, less that with their own."""
    x = torch.randn(60, 8, generator=run.generator(10), dtype=F64)
    order = torch.arange(60).roll(1)
    return float(info_nce(x, x[order]) - info_nce(x, x))


@exact(tol=1e-5)
def temperatures_have_their_limits(run: Run[Any]) -> float:
    """Contrast of distinct features with themselves at temperature 0.001, and its difference from log n at a million."""
    x = torch.eye(8, dtype=F64)
    limits = float(info_nce(x, x, temperature=1e-3)), float(info_nce(x, x, temperature=1e6)) - math.log(8)
    return largest(abs(limit) for limit in limits)


@exact(tol=1e-6)
def what_ignores_turns_cannot_be_classified(run: Run[Any]) -> float:
    """Difference from log 10 of the cross-entropy of a trained linear head on radial histograms, scenes turned into all bins."""
    turned, labels = all_turns(run)
    radius = turned[..., :2].norm(dim=-1)
    return trained(nn.functional.one_hot((radius / 2).round().long().clamp(max=9), 10).double().mean(1), labels)


@bound(at_most=-1.0)
def what_sees_a_direction_can_be(run: Run[Any]) -> float:
    """Cross-entropy, less log 10, of a linear head, trained alike, on the mean direction of scenes that lie ahead."""
    turned, labels = all_turns(run)
    ahead = normalize(turned[..., :2].mean(1), dim=-1)
    return trained(torch.cat([ahead, ahead.square(), ahead.prod(-1, keepdim=True)], -1), labels)


def trained(features: Tensor, labels: Tensor) -> float:
    """Cross-entropy, less log 10, of a linear head at its best."""
    torch.manual_seed(0)
    head = nn.Linear(features.shape[1], 10).double()
    steps = torch.optim.LBFGS(
        head.parameters(), max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        steps.zero_grad()
        loss = cross_entropy(head(features), labels)
        loss.backward()
        return loss

    steps.step(closure)
    return float(closure().detach()) - math.log(10)


def all_turns(run: Run[Any]) -> tuple[Tensor, Tensor]:
    """Twenty scenes ahead of the scanner, each turned by the middle of all ten bins, and the bins."""
    u = torch.rand(20, 100, 3, generator=run.generator(11), dtype=F64)
    scenes = u * torch.tensor([20.0, 6.0, 2.0], dtype=F64) - torch.tensor([0.0, 3.0, 1.0], dtype=F64)
    angle = (torch.arange(10, dtype=F64) + 0.5) * math.pi / 10 - math.pi / 2
    c, s = angle.cos(), angle.sin()
    R = torch.zeros(10, 3, 3, dtype=F64)
    R[:, 0, 0], R[:, 0, 1], R[:, 1, 0], R[:, 1, 1], R[:, 2, 2] = c, -s, s, c, 1
    turned = (scenes[:, None] @ R.mT).flatten(0, 1)
    return turned, turn_bins(angle, 10).repeat(20)


@exact(tol=1e-12)
def the_target_follows_the_closed_form(run: Run[Any]) -> float:
    """Difference between the target after ten steps and d^10 first weights plus (1 - d) d^k of those k steps ago, d = 0.9."""
    online = nn.Linear(3, 3).double()
    target = MovingTarget(online, 0.9)
    weights, draw = [online.weight.detach().clone()], run.generator(12)
    for _ in range(10):
        with torch.no_grad():
            online.weight.add_(torch.randn(3, 3, generator=draw, dtype=F64))
        target.update(online)
        weights.append(online.weight.detach().clone())
    late = [0.1 * 0.9**k * weight for k, weight in enumerate(reversed(weights[1:]))]
    expected = 0.9**10 * weights[0] + torch.stack(late).sum(0)
    copy = target.copy
    assert isinstance(copy, nn.Linear)
    return float((copy.weight - expected).abs().max())


@exact(tol=0)
def no_gradient_reaches_the_target(run: Run[Any]) -> float:
    """Number of weights of the target that have a gradient after a step of all three losses."""
    torch.manual_seed(0)
    grid = Grid(1.0, 16, 16)
    pos, known = street(run, grid)
    net = EquivariantPretraining(MapBackbone(8, stride=1), grid, points=64)
    sweeps = Sweeps(torch.stack([pos, pos], 1), torch.stack([known, known], 1), torch.zeros_like(pos))
    torch.stack(list(net.losses(sweeps, generator=run.generator(13)).values())).sum().backward()
    assert net.target is not None
    if not all(p.grad is not None for p in net.backbone.parameters()):
        return math.inf
    return float(sum(p.grad is not None for p in net.target.parameters()))


@exact(tol=1e-12)
def overlaps_by_hand(run: Run[Any]) -> float:
    """Largest deviation of overlaps of rectangles: with itself one, a cross of 4 x 2 a third, apart zero, and in either order."""
    one = torch.tensor([1.0, 2, 4, 2, 0.3], dtype=F64)
    cross = one + torch.tensor([0, 0, 0, 0, math.pi / 2], dtype=F64)
    apart = one + torch.tensor([9.0, 0, 0, 0, 0], dtype=F64)
    pairs = ((one, one, 1.0), (one, cross, 1 / 3), (cross, one, 1 / 3), (one, apart, 0.0))
    return largest(abs(float(oriented_iou(a, b)) - value) for a, b, value in pairs)


@exact(tol=1e-9)
def overlaps_do_not_depend_on_the_motion(run: Run[Any]) -> float:
    """Largest change of the overlap of two boxes when both move."""
    g, a = motions(run, 0), boxes(run)
    b = a + torch.randn(a.shape, generator=run.generator(14), dtype=F64) * torch.tensor(
        [0.5] * 3 + [0.1] * 3 + [0.3], dtype=F64
    )
    return float((oriented_iou(moved_boxes(g, a), moved_boxes(g, b)) - oriented_iou(a, b)).abs().max())


PROPERTIES = (
    motions_compose,
    motions_are_undone,
    mirrors_are_involutions,
    boxes_follow_their_corners,
    points_stay_in_their_boxes,
    flow_moves_by_the_linear_part,
    flow_is_that_of_rigid_motions,
    maps_turn_by_quarters,
    pillars_turn_by_quarters,
    pillars_shift_by_cells,
    interpolation_gets_better,
    identical_sweeps_have_no_flow_loss,
    flow_of_whole_cells_has_no_loss,
    without_the_warp_there_is_a_loss,
    contrast_is_cross_entropy,
    equal_features_have_the_contrast_of_chance,
    wrong_partners_cost,
    temperatures_have_their_limits,
    what_ignores_turns_cannot_be_classified,
    what_sees_a_direction_can_be,
    the_target_follows_the_closed_form,
    no_gradient_reaches_the_target,
    overlaps_by_hand,
    overlaps_do_not_depend_on_the_motion,
)

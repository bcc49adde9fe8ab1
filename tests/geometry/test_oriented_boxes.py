"""Overlap of turned boxes against scipy's half-spaces, closed forms and motions."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull, HalfspaceIntersection

from erlangen.errors import DataError, DtypeError, ShapeError
from erlangen.geometry import box_corners, oriented_iou


def rectangles(n: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    middle = 2 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    size = 0.5 + 3 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    yaw = 7 * torch.rand(n, 1, generator=generator, dtype=torch.float64) - 3.5
    return torch.cat([middle, size, yaw], -1).to(dtype)


def half_spaces(corners: np.ndarray) -> np.ndarray:
    side = np.roll(corners, -1, 0) - corners
    outward = np.stack([side[:, 1], -side[:, 0]], -1)
    return np.concatenate([outward, -(outward * corners).sum(-1, keepdims=True)], -1)


def shared_area(a: torch.Tensor, b: torch.Tensor) -> float:
    """By scipy: the intersection of eight half-planes, about its Chebyshev centre."""
    from scipy.optimize import linprog

    rows = np.concatenate([half_spaces(box_corners(x).numpy()) for x in (a, b)])
    norm = np.linalg.norm(rows[:, :-1], axis=1, keepdims=True)
    best = linprog([0, 0, -1], A_ub=np.hstack([rows[:, :-1], norm]), b_ub=-rows[:, -1], bounds=[(None, None)] * 3)
    if best.x[2] <= 1e-9:
        return 0.0
    return ConvexHull(HalfspaceIntersection(rows, best.x[:2]).intersections).volume


def test_against_scipy() -> None:
    a, b = rectangles(150), rectangles(150, 1)
    got = oriented_iou(a, b)
    areas = [(x[:, 2] * x[:, 3]) for x in (a, b)]
    shared = torch.tensor([shared_area(x, y) for x, y in zip(a, b, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(got, shared / (areas[0] + areas[1] - shared), rtol=1e-8, atol=1e-9)
    assert 0.2 < float((shared > 0).double().mean()) < 0.95


def test_corners_go_round_counter_clockwise() -> None:
    corners = box_corners(rectangles(20))
    x, y = corners.unbind(-1)
    areas = (x * y.roll(-1, -1) - x.roll(-1, -1) * y).sum(-1) / 2
    torch.testing.assert_close(areas, rectangles(20)[:, 2] * rectangles(20)[:, 3])
    front = corners[:, [0, 3]].mean(1) - rectangles(20)[:, :2]
    torch.testing.assert_close(torch.atan2(front[:, 1], front[:, 0]).sin(), rectangles(20)[:, 4].sin())
    box = box_corners(torch.tensor([0.0, 0, 1, 2, 4, 6, 0]))
    assert box[:4, 2].tolist() == [-2.0] * 4
    assert box[4:, 2].tolist() == [4.0] * 4
    assert box[0].tolist() == [1.0, 2.0, -2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("yaw", [0.0, 0.3, math.pi / 2, 2.0])
@pytest.mark.parametrize("place", [0.0, 1e3])
def test_closed_forms(dtype, yaw, place) -> None:
    def iou(a: list[float], b: list[float]) -> float:
        return float(oriented_iou(*(torch.tensor(x, dtype=dtype) for x in (a, b))))

    box = [place, -place, 4.0, 2.0, yaw]
    assert iou(box, box) == pytest.approx(1, abs=1e-6)
    assert iou(box, [*box[:4], yaw + math.pi]) == pytest.approx(1, abs=1e-5)
    assert iou(box, [*box[:4], yaw + math.pi / 2]) == pytest.approx(4 / 12, abs=1e-5)
    assert iou(box, [*box[:2], 2.0, 1.0, yaw]) == pytest.approx(1 / 4, abs=1e-6)
    assert iou(box, [place + 9, -place, 4.0, 2.0, yaw]) == 0
    square = [place, -place, 1.0, 1.0, yaw]
    eight = 2 * (math.sqrt(2) - 1)  # area of the octagon that a square shares with itself turned by 45 degrees
    assert iou(square, [*square[:4], yaw + math.pi / 4]) == pytest.approx(eight / (2 - eight), abs=1e-5)
    along, across = math.cos(yaw), math.sin(yaw)  # neighbours that touch, and neighbours by half a length
    assert iou(box, [place + 4 * along, -place + 4 * across, *box[2:]]) == pytest.approx(0, abs=1e-4)
    assert iou(box, [place + 2 * along, -place + 2 * across, *box[2:]]) == pytest.approx(1 / 3, abs=1e-4)


def test_symmetric_and_moved_together() -> None:
    a, b = rectangles(200), rectangles(200, 1)
    torch.testing.assert_close(oriented_iou(a, b), oriented_iou(b, a), rtol=1e-9, atol=1e-9)
    turn, shift = 1.1, torch.tensor([5.0, -3.0], dtype=torch.float64)
    R = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64)

    def moved(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :2] @ R.mT + shift, x[:, 2:4], x[:, 4:] + turn], -1)

    torch.testing.assert_close(oriented_iou(moved(a), moved(b)), oriented_iou(a, b), rtol=1e-8, atol=1e-9)
    pairs = oriented_iou(a[:5, None], b[None, :7])
    assert pairs.shape == (5, 7)
    torch.testing.assert_close(pairs[2, 3], oriented_iou(a[2], b[3]))


def test_boxes_share_their_height_too() -> None:
    flat = torch.tensor([[0.0, 0, 4, 2, 0.3], [1.0, 0.5, 3, 2, 1.0]], dtype=torch.float64)
    low = torch.tensor([[1.0, 2.0], [1.5, 2.0]], dtype=torch.float64)  # middle and height
    boxes = torch.cat([flat[:, :2], low[:, :1], flat[:, 2:4], low[:, 1:], flat[:, 4:]], -1)
    iou = float(oriented_iou(flat[0], flat[1]))
    shared = iou * (8 + 6) / (1 + iou)
    assert float(oriented_iou(boxes[0], boxes[1])) == pytest.approx(shared * 1.5 / (16 + 12 - shared * 1.5))
    above = boxes[1] + torch.tensor([0, 0, 5.0, 0, 0, 0, 0])
    assert float(oriented_iou(boxes[0], above)) == 0


def test_gradients() -> None:
    a, b = rectangles(60), rectangles(60, 1)
    iou = oriented_iou(a, b)
    some = (iou > 0.05).nonzero().flatten()[:5]
    assert len(some) == 5
    assert torch.autograd.gradcheck(oriented_iou, (a[some].requires_grad_(), b[some].requires_grad_()))


@pytest.mark.parametrize(
    ("a", "b", "error", "match"),
    [
        (torch.ones(5), torch.ones(7), ShapeError, r"give both \[..., 5\] or both \[..., 7\]"),
        (torch.ones(4), torch.ones(4), ShapeError, r"a has shape \(4,\); give \[..., 5\]"),
        (torch.ones(5).long(), torch.ones(5).long(), DtypeError, "a has dtype"),
        (torch.ones(5), torch.tensor([0.0, 0, 1, 0, 0]), DataError, "b has a length or width that is not positive"),
        (torch.ones(7), torch.tensor([0.0, 0, 0, 1, 1, -1, 0]), DataError, "b has a height that is not positive"),
    ],
)
def test_bad_input_is_named(a, b, error, match) -> None:
    with pytest.raises(error, match=match):
        oriented_iou(a, b)

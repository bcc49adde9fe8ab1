"""Streets under a laser scanner: returns lie on the things, and flow is that of the boxes and of the scanner."""

import math
from dataclasses import replace

import pytest
import torch

from erlangen.errors import ErlangenError
from erlangen.simulate import ROAD_USERS, Scanner, Traffic, traffic

EXACT = Scanner(beams=24, azimuths=96, noise=0.0, dropout=0.0)


def streets(count: int = 12, scanner: Scanner = EXACT, seed: int = 0, **options) -> Traffic:
    generator = torch.Generator().manual_seed(seed)
    return traffic(count, scanner=scanner, generator=generator, dtype=torch.float64, **options)


def in_boxes(found: Traffic, sweep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns of road users in the axes of their boxes, over half their sizes, and the kinds."""
    b, r = torch.where(found.user[:, sweep] >= 0)
    user = found.user[b, sweep, r]
    return _local(found.pos[b, sweep, r], found.boxes[b, sweep, user]), found.kind[b, user]


def _local(points: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    away = points - box[:, :3]
    c, s = box[:, 6].cos(), box[:, 6].sin()
    local = torch.stack([c * away[:, 0] + s * away[:, 1], c * away[:, 1] - s * away[:, 0], away[:, 2]], -1)
    return local / (box[:, 3:6] / 2)


@pytest.mark.parametrize("sweep", [0, 1])
def test_returns_lie_on_the_surfaces(sweep) -> None:
    found = streets()
    local, kind = in_boxes(found, sweep)
    walks = kind == ROAD_USERS.index("pedestrian")
    assert int(walks.sum()) > 20
    assert int((~walks).sum()) > 200
    torch.testing.assert_close(local[~walks].abs().amax(-1), torch.ones(int((~walks).sum()), dtype=torch.float64))
    round_ = local[walks]
    onto = torch.maximum(round_[:, :2].norm(dim=-1), round_[:, 2].abs())
    torch.testing.assert_close(onto, torch.ones_like(onto))


def test_the_ground_is_flat_and_hides_nothing_above_it() -> None:
    found = streets(4, users=0, poles=0, walls=0)
    height = found.pos[..., 2][found.known]
    torch.testing.assert_close(height, torch.full_like(height, -1.8))
    down = EXACT.directions()[:, 2] < -1.8 / 50
    assert torch.equal(found.known[0, 0], down)
    assert bool((found.user == -1).all())
    everything = streets()
    assert float(everything.pos[..., 2].min()) > -1.8 - 1e-9
    assert int((everything.user >= 0).sum()) < int(everything.known.sum())


def test_flow_carries_points_with_their_boxes_and_the_rest_with_the_scanner() -> None:
    found = streets()
    then = found.pos[:, 0] + found.flow
    b, r = torch.where(found.user[:, 0] >= 0)
    user = found.user[b, 0, r]
    before = _local(found.pos[b, 0, r], found.boxes[b, 0, user])
    torch.testing.assert_close(_local(then[b, r], found.boxes[b, 1, user]), before, atol=1e-9, rtol=0)
    still = found.known[:, 0] & (found.user[:, 0] < 0)
    b, r = torch.where(still)
    due = (found.ego[b, :3, :3] @ found.pos[b, 0, r, :, None])[..., 0] + found.ego[b, :3, 3]
    torch.testing.assert_close(then[b, r], due)
    assert not found.flow[~found.known[:, 0]].any()
    moved = (found.boxes[:, 1, :, :2] - found.boxes[:, 0, :, :2]).norm(dim=-1)
    assert float(moved.max()) < (12 + 10) * 0.1 + 2
    assert float(moved.std()) > 0.1


def test_no_time_is_no_motion() -> None:
    found = streets(4, seconds=0.0)
    torch.testing.assert_close(found.pos[:, 0], found.pos[:, 1])
    torch.testing.assert_close(found.ego, torch.eye(4, dtype=torch.float64).expand(4, 4, 4))
    assert float(found.flow.abs().max()) < 1e-12


def test_things_do_not_touch() -> None:
    from erlangen.geometry import oriented_iou

    boxes = streets(20, users=14).boxes[:, 0][..., [0, 1, 3, 4, 6]]
    shared = oriented_iou(boxes[:, :, None], boxes[:, None])
    assert float((shared - torch.eye(14, dtype=torch.float64)).abs().max()) < 1e-6


def test_noise_and_lost_returns() -> None:
    noisy = streets(8, replace(EXACT, noise=0.05), users=0, poles=0, walls=0)
    clean = streets(8, EXACT, users=0, poles=0, walls=0)
    both = noisy.known & clean.known
    off = noisy.pos.norm(dim=-1) - clean.pos.norm(dim=-1)
    assert float(off[both].std()) == pytest.approx(0.05, rel=0.05)
    kept = streets(8, replace(EXACT, dropout=0.25), users=0, poles=0, walls=0).known.sum() / clean.known.sum()
    assert float(kept) == pytest.approx(0.75, abs=0.02)


def test_directions_see_the_field_of_view() -> None:
    rays = EXACT.directions()
    torch.testing.assert_close(rays.norm(dim=-1), torch.ones(len(rays), dtype=torch.float64))
    across = torch.atan2(rays[:, 1], rays[:, 0]).rad2deg()
    assert 44 < float(across.max()) < 45
    assert float(across.max()) == pytest.approx(-float(across.min()))
    whole = replace(EXACT, field=360.0).directions()[: EXACT.azimuths]
    turns = torch.atan2(whole[:, 1], whole[:, 0]).sort().values
    torch.testing.assert_close(
        turns.diff(), torch.full((EXACT.azimuths - 1,), 2 * math.pi / EXACT.azimuths, dtype=torch.float64)
    )


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: traffic(-1), "count = -1"),
        (lambda: traffic(1, users=500), "users = 500.*holds"),
        (lambda: traffic(1, seconds=-1.0), "seconds = -1.0"),
        (lambda: traffic(1, scanner=Scanner(beams=0)), "beams = 0"),
    ],
)
def test_bad_input_is_named(call, match) -> None:
    with pytest.raises(ErlangenError, match=match):
        call()

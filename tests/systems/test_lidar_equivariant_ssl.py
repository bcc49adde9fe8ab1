"""Equivariant pre-training on laser scans: maps and warps by hand, losses of small cases, boxes there and back, bad input."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from erlangen.errors import DataError, DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.groups import Shifts
from erlangen.simulate import Scanner
from erlangen.survey import Run
from erlangen.symmetry import Symmetry
from erlangen.systems.points.lidar_equivariant_ssl import (
    EquivariantPretraining,
    Grid,
    MapBackbone,
    Sweeps,
    Weights,
    data,
    flow_loss,
    flow_warp,
    road_motions,
)
from erlangen.systems.points.lidar_equivariant_ssl import experiment as system
from erlangen.systems.points.lidar_equivariant_ssl._detector import DetectionLoss, Detector, scores
from erlangen.systems.points.lidar_equivariant_ssl.method import (
    GROUP,
    chosen_points,
    move_points,
    road_motion,
    turn_bins,
)
from erlangen.systems.points.lidar_equivariant_ssl.rivals import (
    ClassPretraining,
    ContrastPretraining,
    InvariantPretraining,
)

GRID = Grid(1.0, 8, 8)
SCANNER = Scanner(beams=16, azimuths=32)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def road(count: int = 3, points: int = 60) -> tuple[Tensor, Tensor]:
    u = torch.rand(count, points, 3, generator=seeded(1))
    return u * torch.tensor([8.0, 8.0, 2.0]) - torch.tensor([0.0, 4.0, 1.0]), torch.rand(
        count, points, generator=seeded(2)
    ) < 0.8


def whole() -> EquivariantPretraining:
    torch.manual_seed(0)
    return EquivariantPretraining(MapBackbone(4, 1, stride=1), GRID, points=32)


def rolls(padding: str = "circular") -> tuple[MapBackbone, Tensor, dict[str, Any]]:
    """Convolutions that close up at the edges commute with shifts of the map by its cells."""
    torch.manual_seed(0)
    symmetry = Symmetry(Shifts(8, 8), input="image", output="image")
    return MapBackbone(4, 1, stride=1, padding=padding), torch.randn(2, 6, 8, 8), {"symmetry": symmetry}


def heads() -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """What is asked of pre-training as a layer is what its backbone does."""
    _, x, options = rolls()
    net = EquivariantPretraining(rolls()[0], GRID)
    return net, x, options


LAYERS = {"MapBackbone": rolls, "EquivariantPretraining": heads}


# --- maps ------------------------------------------------------------------------------------------------------------
def test_pillars_by_hand() -> None:
    """Two points in the cell (2, 5), one alone, one that is not there, one outside."""
    pos = torch.tensor([[[2.25, 1.5, -1.0], [2.75, 1.0, 0.5], [0.5, -3.5, 0.25], [4.0, 0.0, 9.0], [9.0, 0.0, 0.0]]])
    known = torch.tensor([[True, True, True, False, True]])
    found = GRID.pillars(pos, known)
    assert found.shape == (1, 6, 8, 8)
    expected = torch.tensor([math.log(3), 0.0, -0.25, -0.25, -1.0, 0.5])
    torch.testing.assert_close(found[0, :, 2, 5], expected)
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([math.log(2), 0.0, 0.0, 0.25, 0.25, 0.25]))
    assert int((found[0, 0] > 0).sum()) == 2
    assert GRID.occupied(pos, known).sum() == 2


def test_reading_between_the_middles_of_cells() -> None:
    x = torch.zeros(1, 2, 8, 8)
    x[0, 0], x[0, 1] = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    pos = torch.tensor([[[2.5, -1.5, 0.0], [3.0, -1.0, 5.0]]])
    torch.testing.assert_close(GRID.read(x, pos)[0], torch.tensor([[2.0, 2.0], [2.5, 2.5]]))


def test_warp_by_hand() -> None:
    """Two points of different cells arrive in one, which gets their mean; one leaves the map, one is not there."""
    x = torch.arange(64.0).view(1, 1, 8, 8)
    pos = torch.tensor([[[0.5, -3.5, 0], [1.5, -3.5, 0], [7.5, 3.5, 0], [3.5, 0.5, 0]]])
    flow = torch.tensor([[[2.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0], [0.0, 0, 0]]])
    known = torch.tensor([[True, True, True, False]])
    carried, there = flow_warp(x, pos, flow, known, GRID)
    assert there.nonzero().tolist() == [[0, 2, 0]]
    assert float(carried[0, 0, 2, 0]) == 4.0  # of 0 and 8


def test_flow_loss_by_hand() -> None:
    now = torch.tensor([[1.0, 0.0], [0.0, 2.0]])[None, :, None]  # one row of two cells: (1, 0) and (0, 2)
    carried = torch.tensor([[3.0, 1.0], [0.0, 0.0]])[None, :, None]
    both = torch.tensor([[[True, True]]])
    assert float(flow_loss(now, carried, both)) == pytest.approx(1.0)  # 0 and 2, over two cells
    assert float(flow_loss(now, carried, torch.tensor([[[True, False]]]))) == 0


# --- motions ---------------------------------------------------------------------------------------------------------
def test_motions_have_the_ranges_of_the_paper_and_are_of_the_group() -> None:
    found = road_motions(4000, generator=seeded(3), dtype=torch.float64)
    assert bool(GROUP.contains(found.matrix).all())
    assert math.pi / 2 * 0.99 < float(found.angle.abs().max()) <= math.pi / 2
    assert 0.95 <= float(found.factor.min()) < 0.951
    assert 0.199 < float(found.shift.abs().max()) <= 0.2
    assert float((found.side < 0).double().mean()) == pytest.approx(0.5, abs=0.03)
    turned = torch.bincount(turn_bins(found.angle, 10), minlength=10)
    assert int(turned.min()) > 300


def test_a_mirror_comes_before_the_turn() -> None:
    g = road_motion(torch.tensor([math.pi / 2]), torch.tensor([2.0]), torch.tensor([[1.0, 0, 0]]), torch.tensor([-1.0]))
    x = torch.tensor([[[1.0, 1.0, 1.0]]], dtype=torch.float64)  # mirrored (1, -1, 1), turned (1, 1, 1), twice, shifted
    torch.testing.assert_close(move_points(g, x)[0, 0], torch.tensor([3.0, 2, 2], dtype=torch.float64))


def test_augmented_boxes_hold_the_points_that_they_held() -> None:
    x, y = data.scenes(6, SCANNER, seeded(4))
    moved, there = data.augmented(x, y, generator=seeded(5))

    def held(pos: Tensor, boxes: Tensor) -> Tensor:
        away = pos[:, None] - boxes[:, :, None, :3]
        c, s = boxes[..., 6, None].cos(), boxes[..., 6, None].sin()
        local = torch.stack(
            [c * away[..., 0] + s * away[..., 1], c * away[..., 1] - s * away[..., 0], away[..., 2]], -1
        )
        return (local.abs() < boxes[:, :, None, 3:6] / 2 + 0.1).all(-1)

    before, after = held(x["pos"], y["boxes"]), held(moved["pos"], there["boxes"])
    assert int((before & x["known"][:, None]).sum()) > 50
    assert float((before != after).double().mean()) < 1e-3  # at the edges


def test_noisy_flow() -> None:
    pairs = data.sweeps(2, SCANNER, seeded(6))
    found = (data.noisy(pairs, seeded(7)).flow - pairs.flow).norm(dim=-1)
    assert 0.05 < float(found.median()) < 0.3
    assert bool((found > 0.5).any())


# --- pre-training ----------------------------------------------------------------------------------------------------
def sweeps() -> Sweeps:
    pos, known = road()
    return Sweeps(torch.stack([pos, pos], 1), torch.stack([known, known], 1), torch.zeros_like(pos))


@pytest.mark.parametrize(
    ("contrast", "turns", "flow"), [(True, False, False), (False, True, False), (False, False, True)]
)
def test_losses_are_separate(contrast, turns, flow) -> None:
    torch.manual_seed(0)
    net = EquivariantPretraining(
        MapBackbone(4, 1, stride=1), GRID, contrast=contrast, turns=turns, flow=flow, points=32
    )
    losses = net.losses(sweeps(), generator=seeded())
    assert list(losses) == [name for name, on in (("contrast", contrast), ("turns", turns), ("flow", flow)) if on]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in net.backbone.parameters())
    before = [p.clone() for p in net.target.parameters()] if net.target else []
    net.update()
    assert all(torch.equal(a, b) for a, b in zip(before, net.target.parameters(), strict=True)) if net.target else True


def test_contrast_by_a_loop() -> None:
    torch.manual_seed(0)
    net = EquivariantPretraining(MapBackbone(4, 1, stride=1), GRID, turns=False, flow=False, points=20).eval()
    pos, known = road(2)
    found = net.losses(
        Sweeps(torch.stack([pos, pos], 1), torch.stack([known, known], 1), torch.zeros_like(pos)), generator=seeded(8)
    )
    draw = seeded(8)
    motions = [road_motions(2, generator=draw) for _ in range(2)]
    views = [move_points(m.matrix, pos) for m in motions]
    both = known & GRID.inside(views[0]) & GRID.inside(views[1])
    rows = chosen_points(both, 20, draw)
    total = 0.0
    for i in range(2):
        kept = [int(r) for r in rows[i] if both[i, r]]
        features = []
        for view in views:
            m = net.contrast(net.backbone(GRID.pillars(view, known)))
            features.append(normalize(GRID.read(m, view)[i, kept], dim=-1))
        logits = features[0] @ features[1].mT / 0.1
        total += float((logits.logsumexp(-1) - logits.diagonal()).sum().detach())
    assert float(found["contrast"].detach()) == pytest.approx(total / 2, rel=1e-4)


def test_flow_by_a_loop() -> None:
    """Features of the earlier sweep are carried by the flow before the projector sees them; means where two points meet."""
    torch.manual_seed(0)
    net = EquivariantPretraining(MapBackbone(4, 1, stride=1), GRID, contrast=False, turns=False).eval()
    pos, known = road(2)
    flow = torch.randn(pos.shape, generator=seeded(13))
    found = net.losses(Sweeps(torch.stack([pos, pos + flow], 1), torch.stack([known, known], 1), flow))["flow"]
    encoder, projector = net.target.copy.children()
    h = encoder(GRID.pillars(pos, known))
    now = net.predictor(net.projector(net.backbone(GRID.pillars(pos + flow, known))))
    cells, there = GRID.cells(pos), GRID.cells(pos + flow)
    total = 0.0
    for b in range(2):
        for cell in range(64):
            arrive = [n for n in range(60) if known[b, n] and int(cells[b, n]) < 64 and int(there[b, n]) == cell]
            if arrive:
                mean = torch.stack([h[b].flatten(1)[:, int(cells[b, n])] for n in arrive]).mean(0)
                z = projector(mean[None, :, None, None])[0, :, 0, 0]
                total += float(
                    (normalize(now[b].flatten(1)[:, cell], dim=0) - normalize(z, dim=0)).square().sum().detach()
                )
    assert float(found.detach()) == pytest.approx(total / 128, rel=1e-4)


def test_all_kinds_of_pretraining_learn_something_of_their_own() -> None:
    """Each loss falls on the data that it trains on."""
    pairs = data.sweeps(8, SCANNER, seeded(9))
    grid = Grid(2.0, 16, 16)
    for make in (
        lambda b: InvariantPretraining(b, grid),
        lambda b: ContrastPretraining(b, grid, points=64),
        lambda b: ClassPretraining(b, grid),
        lambda b: EquivariantPretraining(b, grid, points=64),
    ):
        torch.manual_seed(0)
        net = make(MapBackbone(8, 1))
        steps = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 3e-3)
        found = []
        for _ in range(12):
            loss = torch.stack(list(net.losses(pairs, generator=seeded(10)).values())).sum()
            steps.zero_grad()
            loss.backward()
            steps.step()
            net.update()
            found.append(float(loss.detach()))
        assert found[-1] < 0.95 * found[0], type(net).__name__


def test_pretrained_backbones_are_kept_and_copied() -> None:
    kept = system.Pretrained(Run("smoke", budget=system.BUDGETS["smoke"]))
    first = kept.backbone(system.ALL, 0)
    nn.init.zeros_(first.first[0].weight)
    second, scratch = kept.backbone(system.ALL, 0), kept.backbone(system.SCRATCH, 0)
    assert bool(second.first[0].weight.any())
    assert not torch.equal(second.first[0].weight, scratch.first[0].weight)
    torch.manual_seed(0)
    assert torch.equal(MapBackbone(8).first[0].weight, scratch.first[0].weight)


def test_published_weights() -> None:
    assert Weights() == Weights(0.01, 1.0, 300.0)


# --- detection -------------------------------------------------------------------------------------------------------
def perfect(y: dict[str, Tensor], loss: DetectionLoss) -> tuple[Tensor, Tensor]:
    """Answers that say exactly what is there."""
    grid = loss.grid
    heat = torch.full((len(y["kind"]), 3, grid.rows, grid.columns), -20.0)
    numbers = torch.zeros(len(heat), 8, grid.rows, grid.columns)
    cells, inside, right = grid.cells(y["boxes"]), grid.inside(y["boxes"]), loss.numbers(y["boxes"])
    for b, u in ((inside) & (y["kind"] >= 0)).nonzero().tolist():
        i, j = divmod(int(cells[b, u]), grid.columns)
        heat[b, y["kind"][b, u], i, j] = 20.0
        numbers[b, :, i, j] = right[b, u]
    return heat, numbers


class Answer(nn.Module):
    def __init__(self, heat: Tensor, numbers: Tensor) -> None:
        super().__init__()
        self.found = heat, numbers

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        return self.found


def test_boxes_come_back_from_numbers() -> None:
    x, y = data.scenes(5, SCANNER, seeded(11))
    loss = DetectionLoss(Grid(1.0, 32, 32))
    found = perfect(y, loss)
    row = scores(Answer(*found), loss, {name: t[:5] for name, t in x.items()}, y)  # type: ignore[arg-type]
    assert row["mean precision"] > 95  # two in neighbouring cells can hide each other
    assert row["heading error, deg"] < 1e-2
    assert float(loss(found, y)) < 0.5


def test_loss_of_a_number_by_hand() -> None:
    loss = DetectionLoss(GRID)
    y = {
        "boxes": torch.tensor([[[2.5, 0.5, -1.0, 4.0, 2.0, 1.5, 0.3], [9.0, 0, 0, 1, 1, 1, 0]]]),
        "kind": torch.tensor([[0, 1]]),
    }
    heat, numbers = perfect(y, loss)
    base = float(loss((heat, numbers), y))
    numbers[0, 2, 2, 4] += 0.7  # its height
    assert float(loss((heat, numbers), y)) - base == pytest.approx(0.7, rel=1e-4)
    heat[0, 0, 2, 4] = 0.0  # (1 - 1/2)^2 log 2
    assert float(loss((heat, numbers), y)) - base - 0.7 == pytest.approx(0.25 * math.log(2), rel=1e-3)


def test_a_detector_learns_a_few_scenes() -> None:
    torch.manual_seed(0)
    x, y = data.scenes(4, SCANNER, seeded(12))
    grid = Grid(1.0, 32, 32)
    model, loss = Detector(MapBackbone(16, 1), grid), DetectionLoss(grid.coarser(2))
    steps = torch.optim.Adam(model.parameters(), 1e-2)
    found = []
    for _ in range(60):
        value = loss(model(x), y)
        steps.zero_grad()
        value.backward()
        steps.step()
        found.append(float(value.detach()))
    assert found[-1] < found[0] / 3


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: road_motions(2, turn=45.0), ErlangenError, "give radians"),
        (lambda: road_motions(2, scale=1.0), ErlangenError, "scale = 1"),
        (lambda: road_motions(2, flip=1.5), ErlangenError, "flip = 1.5"),
        (lambda: road_motions(2, shift=-1.0), ErlangenError, "shift = -1"),
        (lambda: road_motion(torch.zeros(1), torch.zeros(1), torch.zeros(1, 3), torch.ones(1)), ErlangenError, "factor"),
        (lambda: turn_bins(torch.zeros(2), 1), ErlangenError, "bins = 1"),
        (lambda: turn_bins(torch.tensor([30.0]), 10), ErlangenError, "give radians up to 1.571"),
        (lambda: EquivariantPretraining(MapBackbone(4), GRID, bins=1), ErlangenError, "bins = 1"),
        (lambda: EquivariantPretraining(MapBackbone(4), GRID, points=0), ErlangenError, "points = 0"),
        (lambda: Grid(0.0), ErlangenError, "cell = 0"),
        (lambda: Grid(1.0, 0, 4), ErlangenError, "rows = 0"),
        (lambda: GRID.pillars(road()[0][0], road()[1]), ShapeError, r"give \[B, N, 3\]"),
        (lambda: GRID.pillars(road()[0], road()[1][:, :5]), ShapeError, "known"),
        (lambda: GRID.pillars(road()[0].long(), road()[1]), DtypeError, "pos"),
        (lambda: GRID.pillars(road()[0] / 0, road()[1]), NotFiniteError, "pos"),
        (lambda: flow_warp(torch.zeros(3, 2, 8, 8), road()[0], torch.zeros(3, 59, 3), road()[1], GRID), ShapeError, "flow"),
        (lambda: flow_warp(torch.zeros(3, 2, 4, 8), road()[0], road()[0], road()[1], GRID), ShapeError, "map of 8 x 8"),
        (lambda: whole().losses(sweeps()._replace(pos=sweeps().pos + 100)), DataError, "no point of any scene is in both views"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()

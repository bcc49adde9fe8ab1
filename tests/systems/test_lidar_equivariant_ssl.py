"""Equivariant pre-training on laser scans: maps and warps by hand, losses of small cases, boxes there and back, bad input."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from erlangen.errors import (
    ActionError,
    DataError,
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    NotFiniteError,
    ShapeError,
)
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
from erlangen.systems.points.lidar_equivariant_ssl._motions import GROUP, move_points, road_motion, turn_bins
from erlangen.systems.points.lidar_equivariant_ssl.method import chosen_points
from erlangen.systems.points.lidar_equivariant_ssl.rivals import ClassPretraining, InvariantPretraining

GRID = Grid(1.0, 8, 8)
SCANNER = Scanner(beams=16, azimuths=32)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def road(count: int = 3, points: int = 60) -> tuple[Tensor, Tensor]:
    u = torch.rand(count, points, 3, generator=seeded(1))
    return u * torch.tensor([8.0, 8.0, 2.0]) - torch.tensor([0.0, 4.0, 1.0]), torch.rand(
        count, points, generator=seeded(2)
    ) < 0.8


def tilted() -> Tensor:
    """A turn about x."""
    g = torch.eye(4)
    g[1, 1], g[1, 2], g[2, 1], g[2, 2] = 0.0, -1.0, 1.0, 0.0
    return g[None]


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
        lambda b: EquivariantPretraining(b, grid, turns=False, flow=False, points=64),
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


def test_one_scene_without_points_is_left_out_and_told() -> None:
    x = sweeps()
    known = x.known.clone()
    known[1] = False
    net = EquivariantPretraining(MapBackbone(4, 1, stride=1), GRID, turns=False, flow=False, points=20).eval()
    with pytest.warns(ErlangenWarning, match="1 of 3 scenes have no point in both views"):
        found = net.losses(x._replace(known=known), generator=seeded(8))["contrast"]
    assert 0 < float(found.detach()) < math.inf
    found.backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.backbone.parameters())


def test_one_point_has_no_contrast() -> None:
    pos, known = torch.tensor([2.0, 0.0, 0.0]).expand(1, 2, 1, 3), torch.ones(1, 2, 1, dtype=torch.bool)
    found = whole().eval().losses(Sweeps(pos, known, torch.zeros(1, 1, 3)), generator=seeded(1))
    assert float(found["contrast"].detach()) == pytest.approx(0.0, abs=1e-6)
    assert 0 <= float(found["flow"].detach()) <= 4 / 64


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_cells_of_the_smaller_map_see_around_their_own_middle(stride) -> None:
    """The first layer of a mirrored and turned map with a kernel that is alike on all sides is the map mirrored and turned."""
    torch.manual_seed(0)
    net = MapBackbone(4, 0, stride=stride).eval()
    with torch.no_grad():
        kernel = net.first[0].weight
        kernel.copy_(sum(torch.rot90(k, n, (-2, -1)) for k in (kernel, kernel.flip(-1)) for n in range(4)) / 8)
    x = torch.randn(2, 6, 24, 24)
    y = net(x)
    assert y.shape[-2:] == (24 // stride, 24 // stride)
    torch.testing.assert_close(net(x.flip(-1)), y.flip(-1))
    torch.testing.assert_close(net(torch.rot90(x, 1, (-2, -1))), torch.rot90(y, 1, (-2, -1)))


def test_objectives_differ_in_their_losses_alone() -> None:
    b = system.BUDGETS["smoke"]
    pairs = data.sweeps(4, SCANNER, seeded(9))
    due = {
        system.INVARIANT: {"invariance"},
        system.CONTRAST: {"contrast"},
        system.CLASSES: {"classes"},
        system.SPATIAL: {"contrast", "turns"},
        system.TEMPORAL: {"flow"},
        system.ALL: {"contrast", "turns", "flow"},
    }
    for name, losses in due.items():
        net = system.pretraining(name, b, MapBackbone(8))
        assert set(net.losses(pairs, generator=seeded(10))) == losses
        if hasattr(net, "target") and net.target is not None:
            assert net.target.decay == b.decay
    ours, theirs = (
        system.pretraining(system.ALL, b, MapBackbone(8)),
        system.pretraining(system.INVARIANT, b, MapBackbone(8)),
    )
    for part in ("projector", "predictor"):
        assert str(getattr(ours, part)) == str(getattr(theirs, part))


def test_a_probe_reads_turns_where_features_have_a_direction() -> None:
    """Untrained maps tell turns better than chance; a map that is the same everywhere does not."""
    pairs = data.sweeps(60, SCANNER, seeded(15))
    pos, known, grid = pairs.pos[:, 1], pairs.known[:, 1], Grid(2.0, 16, 16)
    torch.manual_seed(0)
    net = MapBackbone(8, 1).eval()
    with torch.no_grad():
        assert system.turns_read(net, grid, pos, known, 0, seeded(16)) > 15
        for p in net.parameters():
            nn.init.zeros_(p)
        assert system.turns_read(net, grid, pos, known, 0, seeded(16)) < 25


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


def blank(count: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(count, 3, 8, 8), torch.zeros(count, 8, 8, 8)


@pytest.mark.parametrize("users", [0, 2])
def test_scenes_without_boxes(users) -> None:
    """All heat is wrong then, and nothing else is."""
    y = {"boxes": torch.ones(1, users, 7), "kind": torch.full((1, users), -1)}
    found = DetectionLoss(GRID)(blank(1), y)
    assert float(found) == pytest.approx(3 * 64 * 0.25 * math.log(2), rel=1e-5)
    model, loss = Detector(MapBackbone(4, 1, stride=1), GRID).eval(), DetectionLoss(GRID)
    row = scores(model, loss, {"pos": torch.zeros(1, 5, 3), "known": torch.zeros(1, 5).bool()}, y)
    assert math.isnan(row["mean precision"])


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
        (lambda: whole().losses(sweeps()._replace(pos=sweeps().pos + 100)), DataError, "no scene has points on the map"),
        (lambda: whole().losses(sweeps()._replace(known=sweeps().known & False)), DataError, "no scene has points on the map"),
        (lambda: whole().losses(Sweeps(torch.zeros(1, 2, 0, 3), torch.ones(1, 2, 0).bool(), torch.zeros(1, 0, 3))),
         DataError, "no scene has points on the map"),
        (lambda: whole().losses(sweeps()._replace(pos=sweeps().pos[:, :1])), ShapeError, r"give \[B, 2, N, 3\]"),
        (lambda: whole().losses(sweeps()._replace(known=sweeps().known[:, :1])), ShapeError, r"give \[B, 2, N, 3\]"),
        (lambda: whole().losses(sweeps()._replace(flow=sweeps().flow[:, :5])), ShapeError, "a vector for each point"),
        (lambda: whole().losses(sweeps()._replace(flow=sweeps().flow / 0)), NotFiniteError, "flow"),
        (lambda: whole().losses(sweeps()._replace(pos=sweeps().pos / 0)), NotFiniteError, "pos"),
        (lambda: whole().losses(sweeps()._replace(known=sweeps().known.float())), DtypeError, "known"),
        (lambda: InvariantPretraining(MapBackbone(4), GRID).losses(sweeps()._replace(flow=sweeps().flow / 0)),
         NotFiniteError, "flow"),
        (lambda: ClassPretraining(MapBackbone(4), GRID).losses(sweeps()._replace(pos=sweeps().pos + 100)), DataError, "no scene"),
        (lambda: GRID.pillars(road()[0], road()[1].long()), DtypeError, "known"),
        (lambda: GRID.read(torch.zeros(3, 2, 4, 8), road()[0]), ShapeError, "map of 8 x 8"),
        (lambda: GRID.coarser(3), ErlangenError, "stride = 3"),
        (lambda: flow_warp(torch.zeros(3, 2, 8, 8), road()[0], road()[0] / 0, road()[1], GRID), NotFiniteError, "flow"),
        (lambda: flow_loss(torch.zeros(3, 2, 8, 8), torch.zeros(3, 2, 8, 8), torch.ones(8, 8) > 0), ShapeError, "both"),
        (lambda: turn_bins(torch.tensor([math.nan]), 10), ErlangenError, "give radians"),
        (lambda: road_motions(-1), ErlangenError, "count = -1"),
        (lambda: road_motions(2, shift=math.inf), ErlangenError, "shift = inf"),
        (lambda: road_motion(torch.zeros(1) / 0, torch.ones(1), torch.zeros(1, 3), torch.ones(1)), NotFiniteError, "angle"),
        (lambda: data.BOXES.output.act(tilted(), torch.ones(1, 2, 7)), ActionError, "tilts the vertical"),
        (lambda: DetectionLoss(GRID)(blank(1), {"boxes": -torch.ones(1, 2, 7), "kind": torch.zeros(1, 2).long()}), DataError,
         "sizes down to -1"),
        (lambda: DetectionLoss(GRID)(blank(1), {"boxes": torch.ones(1, 2, 7) / 0, "kind": torch.zeros(1, 2).long()}),
         NotFiniteError, "boxes"),
        (lambda: DetectionLoss(GRID)(blank(2), {"boxes": torch.ones(1, 2, 7), "kind": torch.zeros(1, 2).long()}), ShapeError,
         "of 2 scenes"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()

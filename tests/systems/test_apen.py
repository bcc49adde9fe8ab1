"""The network that finds parts: its order, targets and scores against loops, bad input, and real scans."""

import importlib.util
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from erlangen.enforce import PiecewiseFrameAverage, act_piecewise
from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.geometry import farthest_points, is_refinement, voronoi
from erlangen.groups import E
from erlangen.simulate import room_clouds
from erlangen.survey import Run
from erlangen.symmetry import Symmetry
from erlangen.systems.points.apen import APEN, SegmentNet, apen_loss, vote_targets
from erlangen.systems.points.apen import _properties as properties
from erlangen.systems.points.apen import _reposed as reposed
from erlangen.systems.points.apen import experiment as system

needs = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None or importlib.util.find_spec("gymnasium") is None,
    reason="needs the extra scenes (mujoco, gymnasium)",
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(**options) -> APEN:
    torch.manual_seed(0)
    return APEN(6, (16, 8, 5), 8, reach=0.5, **options).eval()


OF_BODIES = (properties.clean_cells_exact, properties.delta_falls)


def apen_layer() -> tuple[APEN, dict[str, torch.Tensor], dict[str, object]]:
    """With known parts: cells that it draws are others in another batch. Labels are checked by their values."""
    pos, labels = properties.clouds(3, 0, torch.float32)
    answers = {"logits": "invariant", "votes": "vectors", "labels": "invariant", "guesses": "invariant"}
    kinds = {"pos": "points", "labels": "invariant"}
    symmetry = Symmetry("E(3)", input=kinds, output=answers | {"uncertainty": "invariant"})
    return network(), {"pos": pos, "labels": labels}, {"symmetry": symmetry, "skip": ["vmap", "compile"]}


def piecewise_layer() -> tuple[PiecewiseFrameAverage, dict[str, torch.Tensor], dict[str, object]]:
    """Labels are checked by their values."""
    pos, labels = properties.clouds(2, 0, torch.float32)
    return properties.layer(properties.FINE, 0, torch.float32), {"pos": pos, "labels": labels}, {"skip": ["vmap"]}


LAYERS = {"APEN": apen_layer, "PiecewiseFrameAverage": piecewise_layer}


# --- exact properties ------------------------------------------------------------------------------------------------
def test_properties_hold_over_a_hundred_clouds() -> None:
    chosen = [one for one in properties.PROPERTIES if one not in OF_BODIES]
    run = Run("full", seed=1, budget=system.BUDGETS["full"])
    assert [claim.id for one in chosen for claim in one.claims(run) if not claim.holds] == []


def test_merging_keeps_the_order_and_the_number_of_parts() -> None:
    model = network()
    pos = torch.randn(20, 100, 3, generator=generator())
    labels = model(pos)["labels"]
    for fine, coarse in pairwise(labels.unbind(1)):
        assert bool(is_refinement(fine, coarse).all())
    merged = APEN(6, (16, 8, 5), 8, reach=0.5, apart=None).eval()(pos)["labels"]
    for level, count in enumerate(model.counts):
        assert max(len(row.unique()) for row in merged[:, level]) <= count
        assert int(labels[:, level].max()) < sum(model.counts[: level + 1])


def test_known_parts_make_it_exactly_invariant() -> None:
    """With the true parts, each piece may turn by itself: to rounding, which capsule-like legs amplify."""
    model = network().double()
    found = room_clouds(6, 200, generator=generator(), dtype=torch.float64)
    g = E(3).sample((6, 5), generator=generator(1), dtype=torch.float64)
    moved = act_piecewise(E(3), g, found.pos, found.piece)
    with torch.no_grad():
        out = model({"pos": found.pos, "labels": found.piece})
        again = model({"pos": moved, "labels": found.piece})
        free = model(moved)
    assert float((again["logits"] - out["logits"]).abs().max()) < 1e-8 * float(out["logits"].abs().max())
    assert float(out["uncertainty"].abs().max()) == 0
    assert torch.equal(out["labels"], found.piece[:, None].expand(-1, 3, -1))
    assert float((free["logits"] - out["logits"]).abs().max()) > 1e-3


def test_same_answer_in_eval_mode_and_other_cells_in_training() -> None:
    model = network()
    pos = torch.randn(2, 80, 3, generator=generator())
    assert torch.equal(model(pos)["logits"], model(pos)["logits"])
    model.train()
    assert not torch.equal(model(pos)["labels"][:, 0], model(pos)["labels"][:, 0])


def test_few_points_and_coincident_points() -> None:
    model = network()
    assert model(torch.randn(2, 4, 3, generator=generator()))["logits"].shape == (2, 4, 6)
    out = model(torch.ones(2, 40, 3))
    assert all(bool(value.isfinite().all()) for value in out.values())
    assert float((out["logits"] - out["logits"][:, :1]).detach().abs().max()) == 0


# --- targets and scores ----------------------------------------------------------------------------------------------
def test_votes_point_to_the_middle_of_the_body() -> None:
    pos = torch.randn(3, 20, 3, generator=generator(), dtype=torch.float64)
    body = torch.randint(4, (3, 20), generator=generator())
    votes = vote_targets(pos, body, 0.5)
    for b in range(3):
        for i in range(20):
            middle = pos[b][body[b] == body[b, i]].mean(0)
            torch.testing.assert_close(pos[b, i] + 0.5 * votes[b, i], middle)


def test_votes_follow_the_motion_of_the_bodies() -> None:
    pos, labels = properties.clouds(4, 0)
    g = E(3).sample((4, properties.FINE), generator=generator(), dtype=torch.float64)
    moved = vote_targets(act_piecewise(E(3), g, pos, labels), labels, 1.0)
    expected = act_piecewise(E(3), g, vote_targets(pos, labels, 1.0), labels, vectors=True)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-9)


def test_mean_iou_by_hand() -> None:
    predictions, labels = torch.tensor([[0, 0, 1, 2]]), torch.tensor([[0, 1, 1, 1]])
    assert abs(system.mean_iou(predictions, labels, 4) - 100 * (1 / 2 + 1 / 3) / 2) < 1e-4


def test_loss_of_perfect_answers() -> None:
    label = torch.tensor([[0, 1]])
    logits = 50 * torch.eye(2)[label]
    vote = torch.randn(1, 2, 3)
    out = {"logits": logits, "votes": vote[:, None], "guesses": logits[:, None]}
    assert float(apen_loss(out, {"label": label, "vote": vote})) < 1e-6
    worse = apen_loss(out | {"votes": vote[:, None] + 2}, {"label": label, "vote": vote}, votes=0.25)
    assert abs(float(worse) - 1) < 1e-6


def test_pooled_sets_do_not_mix() -> None:
    torch.manual_seed(0)
    block = SegmentNet(2, 7, 8).double()
    rows = torch.randn(10, 5, dtype=torch.float64)
    index = torch.tensor([0, 1] * 5)
    both = block(rows, index, 3)
    torch.testing.assert_close(both[::2], block(rows[::2], torch.zeros(5, dtype=torch.long), 1))
    torch.testing.assert_close(both[1::2], block(rows[1::2], torch.zeros(5, dtype=torch.long), 1))


# --- the bound -------------------------------------------------------------------------------------------------------
@needs
def test_the_bound_holds_and_is_not_empty() -> None:
    run = Run("full", seed=3, budget=replace(system.BUDGETS["full"], moved=8))
    assert all(claim.holds for one in OF_BODIES for claim in one.claims(run))
    rows = properties.moved_rows(run)
    assert all(0 < row["error"] <= row["bound"] for row in rows)
    assert rows[-1]["points that must not err"] > 100
    assert rows[0]["delta"] > rows[-1]["delta"]


def test_sure_points_by_hand() -> None:
    """Six points of two bodies. In the first layer one cell is mixed, in the second one has lost a point."""
    body = torch.tensor([[0, 0, 0, 0, 1, 1]])
    before = torch.tensor([[[0, 0, 1, 1, 1, 2], [0, 0, 0, 3, 3, 2]]])
    assert reposed.sure_points(before, before, body).tolist() == [[False, False, False, False, False, True]]
    clean = torch.tensor([[[0, 0, 1, 1, 3, 2], [0, 0, 0, 0, 3, 2]]])
    assert reposed.sure_points(clean, clean, body).all()
    assert reposed.sure_points(clean, 4 - clean, body).all()  # names do not matter
    after = torch.tensor([[[0, 0, 1, 1, 3, 2], [0, 0, 0, 1, 3, 2]]])
    assert reposed.sure_points(clean, after, body).tolist() == [[False] * 4 + [True] * 2]


def test_labels_that_stay_by_hand() -> None:
    old, new, label = torch.tensor([[0, 1, 2, 2]]), torch.tensor([[0, 2, 2, 1]]), torch.tensor([[0, 1, 0, 2]])
    found = reposed.stays(old, new, label)
    assert found == pytest.approx({"labels that stay": 50, "right before and after": 25})


def test_sure_points_of_rooms_that_tumble_do_not_change() -> None:
    """An untrained network in float64: exact where it has to be, and not elsewhere."""
    model = APEN(6, (16, 8, 5), 8, reach=0.5, spacing=0.3).eval()
    clouds = system._rooms().draw(10, 200, "unseen", generator())
    found = reposed.bounds(model, clouds.pos, clouds.moved, clouds.part)
    assert found["change of sure points"] < 1e-6
    assert 0 < found["may change"] < 100
    assert next(model.parameters()).dtype == torch.float32


def test_tumbled_parts_turn_about_their_middles() -> None:
    pos, labels = properties.clouds(3, 0)
    moved = system.tumbled(pos, labels, generator())
    for b in range(3):
        for part in range(properties.FINE):
            old, new = (x[b][labels[b] == part] for x in (pos, moved))
            torch.testing.assert_close(old.mean(0), new.mean(0))
            torch.testing.assert_close(torch.cdist(old, old), torch.cdist(new, new))
            assert float((old - new).abs().max()) > 0.1


# --- real scans ------------------------------------------------------------------------------------------------------
def test_scanned_objects_that_move_apart(shared_data: Path) -> None:
    """Four scanned objects on a table, each moved rigidly: cells lie in one object each, and the layer is exact."""
    files = sorted((shared_data / "ycb_meshes").glob("*.npz"))[:4]
    if len(files) < 4:
        pytest.skip(f"needs four meshes in {shared_data / 'ycb_meshes'}")
    scans = []
    for place, file in enumerate(files):
        with np.load(file) as data:
            corners = torch.tensor(data["vertices"], dtype=torch.float64)
        chosen = corners[torch.randperm(len(corners), generator=generator(place))[:100]]
        scans.append(chosen - chosen.mean(0) + torch.tensor([0.8 * place, 0.0, 0.0], dtype=torch.float64))
    pos, piece = torch.cat(scans)[None], torch.arange(4).repeat_interleave(100)[None]
    seeds = farthest_points(pos, 16, generator=generator())
    cells = voronoi(pos, pos.gather(1, seeds[..., None].expand(-1, -1, 3)))
    assert bool(is_refinement(cells, piece).all())
    torch.manual_seed(0)
    layer = PiecewiseFrameAverage(SegmentNet(0, 11, 16), E(3), 16, features=8, vectors=1, on_degenerate="allow")
    layer = layer.double().eval().requires_grad_(False)
    g = E(3).sample((1, 4), generator=generator(), dtype=torch.float64)
    moved = layer({"pos": act_piecewise(E(3), g, pos, piece), "labels": cells})
    out = layer({"pos": pos, "labels": cells})
    expected = act_piecewise(E(3), g, out["vectors"], piece, vectors=True)
    torch.testing.assert_close(moved["features"], out["features"], rtol=0, atol=1e-9)
    torch.testing.assert_close(moved["vectors"], expected, rtol=0, atol=1e-9)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: APEN(3, ()), ShapeError, "counts = "),
        (lambda: APEN(3, (4, 8)), ShapeError, "not increasing"),
        (lambda: network()({"labels": torch.zeros(1, 20).long()}), ShapeError, "x has no pos"),
        (lambda: network()(torch.ones(1, 20, 3).long()), DtypeError, "pos has dtype torch.int64"),
        (lambda: vote_targets(torch.zeros(1, 20, 3), torch.zeros(1, 19).long(), 1.0), ShapeError, "body .1, 19."),
        (lambda: APEN(3, (8, 4), reach=0.0), ErlangenError, "reach = 0.0"),
        (lambda: APEN(3, (8, 4), temperature=-1.0), ErlangenError, "temperature = -1.0"),
        (lambda: APEN(3, (8, 4), spacing=-1.0), ErlangenError, "spacing = -1.0"),
        (lambda: APEN(3, (8, 4), apart=-1.0), ErlangenError, "apart = -1.0"),
        (lambda: network()(torch.full((1, 20, 3), torch.nan)), NotFiniteError, "pos has 60 values"),
        (lambda: network()(torch.zeros(1, 0, 3)), ShapeError, "n at least 1"),
        (lambda: network()({"pos": torch.zeros(1, 20, 3), "labels": torch.full((1, 20), 16)}), ShapeError, "0 to 15"),
        (
            lambda: network()({"pos": torch.zeros(1, 20, 3), "labels": torch.zeros(1, 19).long()}),
            ShapeError,
            "one label",
        ),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

"""EqMotion: its contract, degenerate scenes, rivals, and bad input."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import dct
from torch import Tensor

from erlangen.errors import DataError, DtypeError, ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.groups import E
from erlangen.measure import assert_equivariant, average_displacement, best_of
from erlangen.nn import VectorReLU
from erlangen.simulate import springs
from erlangen.survey import Run, Sizes, Training
from erlangen.survey.tables import Table
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.eqmotion import (
    EqMotion,
    MotionLayer,
    cosine_basis,
    finite_velocity,
    reasoning_accuracy,
)
from erlangen.systems.motion.eqmotion import _forecasts as forecasts
from erlangen.systems.motion.eqmotion import (
    experiment as system,
)
from erlangen.systems.motion.eqmotion._parts import Reasoning, pairs_of, straight
from erlangen.systems.motion.eqmotion.data import CROWDS, captured, molecule, particles, people, walkers
from erlangen.systems.motion.eqmotion.rivals import PlainReasoning, Shape, Straight
from erlangen.testing import check_layer

TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


def scene(batch: int = 4, agents: int = 5, frames: int = 6, dim: int = 3, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(batch, agents, frames, dim, generator=generator, dtype=torch.float64).cumsum(-2)
    return {"pos": pos, "vel": torch.randn(pos.shape, generator=generator, dtype=torch.float64)}


def network(past: int = 6, future: int = 4, **options: object) -> EqMotion:
    torch.manual_seed(0)
    sizes = {"features": 8, "channels": 6, "layers": 1} | options
    return EqMotion(past, future, **sizes).double().eval()  # type: ignore[arg-type]


def motion_layer() -> tuple[MotionLayer, tuple[Tensor, ...], dict[str, object]]:
    h, G, V = torch.randn(3, 4, 5), torch.randn(3, 4, 6, 3), torch.randn(3, 4, 6, 3)
    return MotionLayer(5, 6, 2), (h, G, V, torch.softmax(torch.randn(3, 4, 4, 2), -1)), {}


LAYERS = {"EqMotion": lambda: (network(), scene(), {}), "MotionLayer": motion_layer}


# --- rivals ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", ["full", "paper"])
def test_rivals_have_equally_many_parameters(scale: str) -> None:
    split = particles("charges", Sizes(4, 2, 2), 20, 0)
    shape, widths = Shape.of(split), system.BUDGETS[scale].widths
    assert shape == (20, 20, 3, 0, 1)
    models = {name: rival.make() for name, rival in forecasts.rivals_of(shape, widths).items()}
    models[system.MEMORY] = forecasts.network(shape, widths, memory=1)
    models[system.COORDINATES] = forecasts.guessing_from_coordinates(shape, widths)  # larger than ours, not smaller
    x, y = split.test
    for model in models.values():
        assert model(x).shape == y["future"].shape
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    assert sizes.pop(system.CONSTANT) == 0
    assert 1 < sizes.pop(system.COORDINATES) / sizes[system.OURS] < 1.15
    assert max(sizes.values()) / min(sizes.values()) < 1.1
    for name in (system.CONSTANT, forecasts.EGNN):
        doubles = {key: value.double() for key, value in x.items()}
        motions = Symmetry("SE(3)", input=forecasts.actions_of(x), output="points")
        assert_equivariant(models[name].double(), doubles, motions)


def test_rivals_with_many_answers_and_masks() -> None:
    """Agents that do not exist have no influence, EGNN and straight motion stay equivariant, all have as many answers."""
    shape = Shape(6, 4, 2, 0, samples=5)
    x = scene(dim=2) | {"mask": torch.arange(5) < torch.tensor([[5], [3], [2], [4]])}
    x = {
        key: torch.where(x["mask"][..., None, None], leaf, 0.0) if leaf.dim() == 4 else leaf for key, leaf in x.items()
    }
    known = x["mask"][:, None, :, None, None]
    moved = x | {"pos": torch.where(x["mask"][..., None, None], x["pos"], 50.0)}
    for name, rival in forecasts.rivals_of(shape, forecasts.Widths(8, 8, 8, 8, 1), masked=True).items():
        torch.manual_seed(0)
        model = rival.make().double().eval()
        with torch.no_grad():
            found = model(x)
            torch.testing.assert_close(torch.where(known, model(moved), 0.0), torch.where(known, found, 0.0))
        assert found.shape == (4, 5, 5, 4, 2)
        if name in (system.CONSTANT, forecasts.EGNN, system.OURS):
            motions = Symmetry("SE(2)", input=forecasts.actions_of(x), output="points")
            assert_equivariant(model, x, motions)


def test_several_straight_answers_go_about_the_one() -> None:
    """Directions are quantiles of a normal distribution: the middle one is straight on, and all steps are as long."""
    x = {"pos": scene(dim=2)["pos"]}
    several, one = Straight(4, 5)(x), Straight(4)(x)
    torch.testing.assert_close(several[:, 2], one)
    last = x["pos"][:, None, :, -1:]
    far = (one - last[:, 0]).norm(dim=-1)
    torch.testing.assert_close((several - last).norm(dim=-1), far[:, None].expand(-1, 5, -1, -1))
    cosine = ((several[:, 4] - last[:, 0]) * (one - last[:, 0])).sum(-1) / far.square()
    wanted = math.cos(math.radians(25) * 1.2815515655446004)  # the 90th percentile of a normal distribution
    torch.testing.assert_close(cosine, torch.full_like(cosine, wanted))


def test_a_guess_from_coordinates_turns_with_the_scene() -> None:
    """The control of the reasoning: it treats agents alike, but changes under rotations, as ours does not."""
    torch.manual_seed(0)
    model = network(extrapolate=False)
    model.reasoning = PlainReasoning(8, 6, 2, 3).double()
    x = scene()
    g = E(3).sample(1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).expand(4, 4, 4)
    with torch.no_grad():
        guess = model.interactions(x)
        turned = model.interactions(model.symmetry.input.act(g, x))
        order = torch.tensor([3, 0, 4, 1, 2])
        mixed = model.interactions({key: value[:, order] for key, value in x.items()})
    assert float((turned - guess).abs().max()) > 1e-3
    torch.testing.assert_close(mixed, guess[:, order][:, :, order])


def test_displacements_count_agents_and_the_best_answer_of_each() -> None:
    """Against the metrics of the library, scene by scene."""
    generator = torch.Generator().manual_seed(0)
    future = torch.randn(3, 4, 6, 2, generator=generator)
    prediction = torch.randn(3, 5, 4, 6, 2, generator=generator)
    mask = torch.arange(4) < torch.tensor([[4], [1], [2]])
    y = {"future": future, "mask": mask}
    away = (prediction - future[:, None]).norm(dim=-1)
    wanted = away.mean(-1).amin(1)[mask].mean(), away[..., -1].amin(1)[mask].mean()
    torch.testing.assert_close(forecasts.displacements(prediction, y), wanted)
    plain = average_displacement(prediction[:, 0], future).mean()
    torch.testing.assert_close(forecasts.displacement(prediction[:, 0], {"future": future}), plain)
    several = best_of(prediction.transpose(0, 1), future)[0].mean()
    torch.testing.assert_close(forecasts.displacement(prediction, {"future": future}), several)


def test_scenes_turn_with_their_future() -> None:
    x, y = particles("springs", Sizes(3, 1, 1), 4, 0).train
    elsewhere, there = forecasts.turned(x, y, generator=torch.Generator().manual_seed(0))
    for old, new in ((x["pos"], elsewhere["pos"]), (y["future"], there["future"])):
        torch.testing.assert_close(old.norm(dim=-1), new.norm(dim=-1))
    last, step = elsewhere["pos"][:, :, -1], there["future"][:, :, 0]
    torch.testing.assert_close((last - step).norm(dim=-1), (x["pos"][:, :, -1] - y["future"][:, :, 0]).norm(dim=-1))
    assert torch.equal(there["kinds"], y["kinds"])


def test_noise_of_the_categories_grows_to_one() -> None:
    split = particles("springs", Sizes(4, 1, 1), 4, 0)
    model = network(4, 4, memory=1).float()
    system.sharpened(model, split, 1e-3, Training(forecasts.displacement, 10, 4, (1e-3,)), torch.Generator())
    assert model.noise == 1.0


# --- equivariance ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dim", "options"),
    [
        (2, {"in_features": 2, "masked": True, "extrapolate": True, "samples": 3}),
        (3, {"memory": 1, "categories": 3}),
    ],
)
def test_contract(dim: int, options: dict[str, object]) -> None:
    x = scene(dim=dim)
    x |= {"x": torch.randn(4, 5, 2).double()} if "in_features" in options else {}
    x |= {"mask": torch.arange(5) < torch.tensor([[5], [3], [1], [4]])} if "masked" in options else {}
    check_layer(network(dim=dim, **options), x)
    single = {key: value.float() if value.is_floating_point() else value for key, value in x.items()}
    assert_equivariant(network(dim=dim, **options).float(), single)


def test_gradients_of_a_layer() -> None:
    layer = MotionLayer(3, 2, 2, dim=2).double()
    x = (torch.randn(1, 3, 3), torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2), torch.rand(1, 3, 3, 2))
    assert torch.autograd.gradcheck(layer, tuple(leaf.double().requires_grad_() for leaf in x))


@torch.no_grad()
def test_far_away() -> None:
    x = {key: value.float() for key, value in scene().items()}
    model = network().float()
    near, far = model(x), model({**x, "pos": x["pos"] + 1000}) - 1000
    assert float((far - near).abs().max() / near.std()) < 1e-3


@pytest.mark.parametrize(("dtype", "tol"), TOLERANCES)
def test_guesses_are_invariant_and_agents_are_interchangeable(dtype: torch.dtype, tol: float) -> None:
    x = {key: value.to(dtype) for key, value in scene().items()}
    for options in ({}, {"memory": 2}):
        model = network(**options).to(dtype)
        guess, future = model.interactions(x), model(x)
        torch.testing.assert_close(guess.sum(-1), torch.ones_like(guess[..., 0]))
        for g in E(3).sample(100, generator=torch.Generator().manual_seed(0), dtype=dtype):
            moved = model.symmetry.input.act(g.expand(4, 4, 4), x)
            torch.testing.assert_close(model.interactions(moved), guess, rtol=0, atol=tol)
        order = torch.tensor([3, 0, 4, 1, 2])
        mixed = {key: value[:, order] for key, value in x.items()}
        torch.testing.assert_close(model.interactions(mixed), guess[:, order][:, :, order], rtol=0, atol=tol)
        torch.testing.assert_close(model(mixed), future[:, order], rtol=tol, atol=10 * tol)


def test_agents_that_are_masked_do_not_count() -> None:
    x = scene()
    model = network(masked=True)
    mask = torch.tensor([True, True, True, False, False]).expand(4, 5)
    few = model({key: value[:, :3] for key, value in x.items()} | {"mask": mask[:, :3]})
    torch.testing.assert_close(model(x | {"mask": mask})[:, :3], few)
    guess = model.interactions({key: value[:, :3] for key, value in x.items()} | {"mask": mask[:, :3]})
    torch.testing.assert_close(model.interactions(x | {"mask": mask})[:, :3, :3], guess)
    nobody = model(x | {"mask": torch.zeros(4, 5, dtype=torch.bool)})
    assert bool(torch.isfinite(nobody).all())


@torch.no_grad()
def test_with_memory_the_past_passes_through_the_categories_alone() -> None:
    x, model = scene(), network(memory=2, extrapolate=True)
    other = {key: torch.cat([scene(seed=1)[key][..., :-2, :], value[..., -2:, :]], -2) for key, value in x.items()}
    known = torch.zeros(4, 5, 5, dtype=torch.int64)
    torch.testing.assert_close(model(other, categories=known), model(x, categories=known))
    assert float((model(other) - model(x)).abs().max()) > 1e-6
    assert float((model(x, categories=known) - model(x, categories=1 - known)).abs().max()) > 1e-6


# --- degenerate scenes -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", ["one agent", "coincident", "static", "straight"])
def test_degenerate_scenes_have_finite_gradients(case: str) -> None:
    x = scene(agents=1 if case == "one agent" else 3)
    if case == "coincident":
        x = {key: value[:, :1].expand(-1, 3, -1, -1).clone() for key, value in x.items()}
    if case == "static":
        x = {"pos": x["pos"][..., :1, :].expand(-1, -1, 6, -1).clone(), "vel": torch.zeros_like(x["vel"])}
    if case == "straight":
        x["vel"] = x["vel"][..., :1, :].expand(-1, -1, 6, -1).clone()
    model = network()
    leaves = [leaf.requires_grad_() for leaf in x.values()]
    out = model(x)
    grads = torch.autograd.grad(out.square().sum(), [*leaves, *model.parameters()], allow_unused=True)
    assert bool(torch.isfinite(out).all())
    assert all(bool(torch.isfinite(grad).all()) for grad in grads if grad is not None)
    if case == "coincident":
        torch.testing.assert_close(out, out[:, :1].expand_as(out))


# --- parts -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_cosine_basis(n: int) -> None:
    basis = cosine_basis(n, torch.float64)
    torch.testing.assert_close(basis @ basis.mT, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-14)
    x = torch.randn(n, 3, dtype=torch.float64)
    torch.testing.assert_close(basis @ x, torch.from_numpy(dct(x.numpy(), axis=0, norm="ortho")))
    torch.testing.assert_close((cosine_basis(n).mT @ (cosine_basis(n) @ x.float())).double(), x, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_cut_keeps_what_points_along_the_direction() -> None:
    cut = VectorReLU(6).double()
    x = torch.randn(50, 6, 3, dtype=torch.float64)
    q, k, out = cut.value(x), cut.direction(x), cut(x)
    along = (q * k).sum(-1) >= 0
    torch.testing.assert_close(out[along], q[along])
    # Of the part against k, eps / (|k|^2 + eps) stays.
    left = (out * k).sum(-1)[~along]
    assert float(left.max()) <= 0
    assert float(left.min()) >= -1e-4 * float((q * k).sum(-1)[~along].abs().max() / k.square().sum(-1)[~along].min())


def test_velocities_and_straight_motion() -> None:
    pos = torch.tensor([[0.0, 0.0], [1.0, 2.0], [4.0, 4.0]])
    assert finite_velocity(pos).tolist() == [[1, 2], [1, 2], [3, 2]]
    assert straight(pos, 3).tolist() == [[7, 6], [10, 8], [13, 10]]
    model = network(past=3, future=5, extrapolate=True)
    with torch.no_grad():
        model.write.weight.zero_()
        # Without weights of the head what is left is straight motion, but for the mean over channels and agents.
        x = scene(frames=3)
        rest = model(x) - straight(x["pos"], 5)
    torch.testing.assert_close(rest, rest[:, :1].expand_as(rest))


def test_pairs_and_their_networks_do_not_see_the_diagonal() -> None:
    assert pairs_of(torch.zeros(2, 3, 4), None)[..., 0].tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    reasoning = Reasoning(4, 3, 2, None)
    h, G, V = torch.randn(1, 2, 4), torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    assert reasoning(h, G, V, pairs_of(h, None)).shape == (1, 2, 2, 2)


def test_accuracy_of_guesses_ignores_names_and_diagonal() -> None:
    labels = springs(3, 4, steps=100, generator=torch.Generator().manual_seed(0)).coupling.long()
    wrong_names = torch.nn.functional.one_hot(1 - labels, 2).float()
    assert reasoning_accuracy(wrong_names, labels) == 1.0
    ones = torch.nn.functional.one_hot(torch.ones_like(labels), 2).float()
    share = float(labels.sum()) / (3 * 12)
    assert reasoning_accuracy(ones, labels) == pytest.approx(max(share, 1 - share))
    spoiled = wrong_names.clone()
    spoiled[:, 3], spoiled[:, :, 3] = 0.5, 0.5
    mask = torch.tensor([True, True, True, False]).expand(3, 4)
    assert reasoning_accuracy(spoiled, labels, mask) == 1.0


def test_trajectories_of_a_molecule_are_in_one_part_each_and_turned() -> None:
    """Trajectory k stands at height k, which shows in lengths, whatever the turn."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(20, 2, 3, generator=generator).cumsum(0)
    tracks = [(k + 1) * (10 + steps) for k in range(4)]
    task = molecule(tracks, torch.eye(2), Sizes(2, 1, 1), 5, 3, generator)
    windows = [tuple(torch.cat([x["pos"], y["future"]], 2).norm(dim=-1)[:, 0, 0].tolist()) for x, y in task]
    alone = [tuple(track[::3][:4, 0].norm(dim=-1).tolist()) for track in tracks]
    assert windows[0] == pytest.approx((*alone[0], *alone[1]), rel=1e-4)
    assert windows[1] == pytest.approx(alone[2], rel=1e-4)
    assert windows[2] == pytest.approx(alone[3], rel=1e-4)
    assert float((task.test[0]["pos"][0, :, 0] - tracks[3][0]).abs().max()) > 1
    assert float(task.train[0]["vel"].square().sum(-1).mean()) == pytest.approx(1, rel=1e-5)


def test_people_have_one_split() -> None:
    first, second = people(10, 0), people(10, 1)
    assert torch.equal(first.test[0]["pos"], second.test[0]["pos"])
    assert Shape.of(first) == (10, 10, 3, 15, 1)
    known = {tuple(row) for x, _ in (first.train, first.validation) for row in x["pos"][:, 0, 0].tolist()}
    assert known.isdisjoint(tuple(row) for row in first.test[0]["pos"][:, 0, 0].tolist())


# --- bad input -------------------------------------------------------------------------------------------------------
def test_bad_input() -> None:
    x, model = scene(), network()
    with pytest.raises(ErlangenError, match="past = 1"):
        EqMotion(1, 5)
    with pytest.raises(ErlangenError, match="memory = 7"):
        EqMotion(6, 5, memory=7)
    with pytest.raises(ErlangenError, match="temperature = 0"):
        EqMotion(6, 5, temperature=0.0)
    with pytest.raises(ErlangenError, match="noise = -1"):
        EqMotion(6, 5, noise=-1.0)
    with pytest.raises(ErlangenError, match="layers = 0"):
        EqMotion(6, 5, layers=0)
    with pytest.raises(ShapeError, match="6, 3"):
        model(scene(dim=2))
    with pytest.raises(ShapeError, match="vel has shape"):
        model({**x, "vel": x["vel"][:, :4]})
    bad = {**x, "pos": x["pos"].clone()}
    bad["pos"][1, 2, 0, 0] = math.nan
    with pytest.raises(NotFiniteError, match=r"pos is not finite at index \(1, 2"):
        model(bad)
    with pytest.raises(ShapeError, match="reads a dict of"):
        model({"pos": x["pos"]})
    with pytest.raises(ShapeError, match="mask has shape"):
        network(masked=True)({**x, "mask": torch.ones(4, 3, dtype=torch.bool)})
    with pytest.raises(DtypeError, match="mask"):
        network(masked=True)({**x, "mask": torch.ones(4, 5)})
    with pytest.raises(DtypeError, match="pos"):
        model({key: value.long() for key, value in x.items()})
    with pytest.raises(ShapeError, match="T at least 2"):
        finite_velocity(torch.zeros(1, 3))
    with pytest.raises(ShapeError, match="pos, vel or c"):
        MotionLayer(2, 2, 2)(torch.zeros(1, 2, 2))
    good = [torch.zeros(1, 3, 4), torch.zeros(1, 3, 2, 3), torch.zeros(1, 3, 2, 3), torch.zeros(1, 3, 3, 2)]
    for place in range(4):
        with pytest.raises(ShapeError, match="h, pos, vel and c have shapes"):
            MotionLayer(4, 2, 2)(*(t[..., :-1] if k == place else t for k, t in enumerate(good)))
    with pytest.raises(ErlangenError, match="n = 0"):
        cosine_basis(0)


def test_bad_categories() -> None:
    x, model = scene(), network()
    for labels, error, match in (
        (torch.full((4, 5, 5), 2), UnknownNameError, "known are 0 to 1"),
        (torch.zeros(4, 5, 4, dtype=torch.int64), ShapeError, "pass"),
        (torch.zeros(4, 5, 5), DtypeError, "int64"),
    ):
        with pytest.raises(error, match=match):
            model(x, categories=labels)
        with pytest.raises(error, match=match):
            reasoning_accuracy(model.interactions(x), labels)
    with pytest.raises(ErlangenError, match="at most 6"):
        reasoning_accuracy(torch.zeros(1, 2, 2, 7), torch.zeros(1, 2, 2, dtype=torch.int64))
    with pytest.raises(ErlangenError, match="no pair"):
        reasoning_accuracy(torch.zeros(2, 1, 1, 2), torch.zeros(2, 1, 1, dtype=torch.int64))


# --- real data -------------------------------------------------------------------------------------------------------
def test_walkers_leave_their_scene_out(shared_data: Path) -> None:
    folder = str(shared_data / "eth_ucy")
    zara, hotel = (walkers(folder, scene, 40, 6) for scene in ("ZARA1", "HOTEL"))
    for split in (zara, hotel):
        x, y = split.train
        assert x["pos"].shape[1:] == (6, 8, 2)
        assert y["future"].shape[1:] == (6, 12, 2)
        assert bool(x["mask"].any(1).all())
        known = {tuple(row) for part in (split.train, split.validation) for row in part[0]["pos"][:, 0, 0].tolist()}
        assert known.isdisjoint(tuple(row) for row in split.test[0]["pos"][:, 0, 0].tolist())
    assert zara.test[0]["pos"].shape[1] != hotel.test[0]["pos"].shape[1]  # everybody is there
    assert sorted(CROWDS) == ["ETH", "HOTEL", "UNIV", "ZARA1", "ZARA2"]


def test_pedestrians_best_of_twenty(shared_data: Path) -> None:
    """Trained with masks and twenty heads, better than one straight answer on a scene that it has not seen."""
    split = walkers(str(shared_data / "eth_ucy"), "ZARA1", 12, 8)
    shape = Shape.of(split, samples=20)
    model = forecasts.rivals_of(shape, forecasts.Widths(ours=16), masked=True)[system.OURS].make()
    forecasts.training(6, 16).fit(model, split, 5e-3, torch.Generator().manual_seed(0))
    model.eval()
    x, y = split.test
    row = forecasts.measure(model, x, y, torch.Generator().manual_seed(0))
    plain = forecasts.measure(Straight(12), x, y, torch.Generator().manual_seed(0))
    assert row["ADE"] < 0.75 * plain["ADE"]
    assert row["FDE"] < 0.75 * plain["FDE"]
    assert row["ADE, rotated"] == pytest.approx(row["ADE"], rel=1e-4)
    assert not any(column.startswith("MSE") for column in row)
    assert any(column.startswith("MSE") for column in plain)


def test_captured_people(shared_data: Path) -> None:
    """The split is that of the file; straight motion is a forecast of some centimetres, better than standing still."""
    task = captured(str(shared_data / "cmu_mocap" / "cmu_mocap_xyz30.npz"), 10, stride=60)
    assert task.train[0]["pos"].shape[1:] == (38, 10, 3)
    assert Shape.of(task) == (10, 10, 3, 38, 1)
    x, y = task.test
    row = forecasts.measure(Straight(10), x, y, torch.Generator().manual_seed(0))
    stands = float((y["future"] - x["pos"][:, :, -1:]).norm(dim=-1).mean())
    assert 0.01 < row["ADE"] < stands


def test_gains_count_all_rivals_but_no_variant_of_ours() -> None:
    rows = [
        {"model": name, "seed": seed, "ADE": error + 0.01 * seed}
        for name, error in (
            (system.CONSTANT, 2.0),
            (system.GNN, 1.0),
            (system.CENTRE, 0.1),
            (system.OURS, 0.5),
        )
        for seed in (0, 1, 2)
    ]
    table = Table("people, CMU", rows, Run("full"))
    claim = system.gain(table, "captured")
    assert (claim.id, claim.verdict) == ("captured-gain", "holds")
    assert claim.measured == pytest.approx(0.505, abs=1e-3)
    assert system.gain(table, "captured", 0.4).verdict == "fails"


def test_data_that_are_not_given_are_named() -> None:
    (claim,) = system.skipped("pedestrians", "needs the recordings").claims
    assert (claim.id, claim.verdict, claim.threshold) == (
        "pedestrians-gain",
        "not measurable here",
        "needs the recordings",
    )
    assert "9.2 %" in str(claim.published)


def test_captured_people_need_a_split(tmp_path: Path) -> None:
    clip = np.zeros((30, 2, 3))
    np.savez(tmp_path / "clips.npz", parent=[-1, 0], mirror=[0, 1], fps=30.0, walk=clip)
    with pytest.raises(DataError, match="0 clips of 20 frames to test and 1 others"):
        captured(str(tmp_path / "clips.npz"), 10, stride=5)

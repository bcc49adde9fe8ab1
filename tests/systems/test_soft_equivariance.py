"""Soft equivariance: the tasks' symmetries, and that networks differ in linear maps alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator

import erlangen as er
from erlangen.errors import DataError, ErlangenError
from erlangen.reps import T
from erlangen.survey import Run, Sizes, Split, Training
from erlangen.survey.options import read_options
from erlangen.systems.learning.soft_equivariance import _training as training
from erlangen.systems.learning.soft_equivariance import data as tasks
from erlangen.systems.learning.soft_equivariance import experiment as system
from erlangen.systems.learning.soft_equivariance.rivals import ProductGate, ResidualPathway, hidden_of, residual_prior


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


# --- tasks -----------------------------------------------------------------------------------------------------------
def test_inertia_by_cross_products_and_its_stretch() -> None:
    x = system.inertia_task(0.0).draw(50, Generator().manual_seed(0), 0.0)[0]
    plain, stretched = (tasks.inertia(x, eps).view(-1, 3, 3) for eps in (0.0, 0.5))
    mass, pos = x[:, :5].double(), x[:, 5:].reshape(-1, 5, 3).double()
    cross = torch.linalg.cross(pos[..., None, :].expand(-1, -1, 3, 3), torch.eye(3).double().expand(50, 5, 3, 3))
    expected = torch.einsum("bk,bkin,bkjn->bij", mass, cross, cross)  # sum m (r x e_i) . (r x e_j)
    torch.testing.assert_close(plain.double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(stretched @ torch.diag(torch.tensor([1, 1, 1 / 1.5])), plain)


@pytest.mark.parametrize("breaks", ["nothing", "scaling", "rotation"])
def test_cosine_breaks_what_it_says(breaks: tasks.Breaks) -> None:
    x, y = tasks.cosine_task(breaks).draw(100, Generator().manual_seed(0))
    turn = er.SO(3).sample(1, generator=Generator().manual_seed(1))[0]
    turned = (x.view(-1, 3, 3) @ turn.mT).flatten(1)
    assert torch.allclose(tasks.cosine(2 * x, breaks), y, atol=1e-5) == (breaks != "scaling")
    assert torch.allclose(tasks.cosine(turned, breaks), y, atol=1e-5) == (breaks != "rotation")


@pytest.mark.parametrize("eps", [0.0, 0.3, -1.0])
def test_kept_groups_are_kept_by_the_data(eps: float) -> None:
    task = system.inertia_task(eps)
    x, y = task.draw(20, Generator().manual_seed(0), 0.0)
    for symmetry in task.symmetries:
        g = symmetry.group.sample(20, generator=Generator().manual_seed(1))
        answer = tasks.inertia(symmetry.input.act(g, x), eps)
        same = torch.allclose(symmetry.output.act(g, y), answer, rtol=1e-4, atol=1e-3)
        assert same == tasks.respects(task, symmetry.group)


def test_moved_inputs_are_shifted_by_one() -> None:
    x, moved = (system.cosine_task("scaling").draw(20, Generator().manual_seed(0), shift)[0] for shift in (0.0, 1.0))
    torch.testing.assert_close(moved, x + 1)


def test_whole_group_of_the_cosine_is_generated_by_the_others() -> None:
    """A map of the common space is one for rotations and for scalings, and the other way round."""
    whole, rotations, scalings = (
        5 * tasks.V(G) + T(2)(G) + 2 * T(0)(G) for G in tasks.cosine_task("rotation").candidates
    )
    W = torch.randn(whole.size, whole.size, generator=seeded(), dtype=torch.float64)
    common, *two = (er.reps.hom_basis(rep >> rep) for rep in (whole, rotations, scalings))
    for one in two:
        torch.testing.assert_close(one.project(common.project(W)), common.project(W))
    both = two[0].project(two[1].project(W))  # the projections commute here
    torch.testing.assert_close(both, common.project(W))


def test_levels_of_the_data_by_hand() -> None:
    """With the targets themselves as model, rotations and scalings err as much as the data do, and kept ones not at all."""
    for breaks, exact in (("rotation", 2), ("scaling", 1)):
        task = tasks.cosine_task(breaks)
        errors = training.levels(task.answer, task, task.draw(50, seeded())[0].double())
        assert errors[exact] < 1e-12
        assert min(error for place, error in enumerate(errors) if place != exact) > 0.05


# --- pedestrians -----------------------------------------------------------------------------------------------------
def write_walks(folder: Path) -> None:
    """Three recordings of 100 frames; pedestrian k of recording f walks (k + 1, f) per frame."""
    for f in range(3):
        rows = [(10 * t, k, (k + 1) * t, f * t) for t in range(100) for k in range(2)]
        (folder / f"{f}.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))


def test_walks_are_split_by_recording_and_time(tmp_path: Path) -> None:
    write_walks(tmp_path)
    split = tasks.walks(tmp_path, 1, Sizes(1000, 1000, 1000))
    for (x, y), recordings in ((split.train, {0.0, 2.0}), (split.validation, {0.0, 2.0}), (split.test, {1.0})):
        x, y = x.unflatten(1, (7, 2)), y.unflatten(1, (12, 2))
        speed = y[:, 0]  # places are relative to the last one seen
        assert set(speed[:, 1].tolist()) == recordings
        steps = torch.arange(-7, 0)[:, None], torch.arange(1, 13)[:, None]
        torch.testing.assert_close(x, steps[0] * speed[:, None])
        torch.testing.assert_close(y, steps[1] * speed[:, None])
    # 81 windows of two people in a recording; 20 starts lie in the part that chooses, and 20 more overlap it.
    counts = [len(x) for x, _ in split]
    assert counts[2] == 162
    assert counts[0] + counts[1] < 2 * 162
    with pytest.raises(DataError, match="0 text files"):
        tasks.walks(tmp_path / "none", 0, Sizes(1, 1, 1))


def test_people_are_forecast(shared_data: Path) -> None:
    run = Run("smoke", 0, replace(system.BUDGETS["smoke"], epochs=4, samples=Sizes(200, 50, 50)))
    part = system.walks_part(run, str(shared_data / "eth_ucy"))
    assert [row["model"] for row in part.rows] == ["mlp", "emlp", "rpp", "per"]
    assert all(0.1 < row["ade"] < 10 for row in part.rows)
    assert {claim.id for claim in part.claims} == {"pedestrians-over-rpp", "pedestrians-over-baselines"}


def test_reflections_of_the_plane() -> None:
    for k, flip in enumerate(tasks.walks_task().candidates[2:]):
        sampled = flip.sample(50, generator=seeded())
        assert {tuple(g.diagonal().tolist()) for g in sampled} == {(1, 1), (1 - 2 * (k == 1), 1 - 2 * (k == 0))}


# --- networks --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", system.METHODS)
def test_exact_networks_are_exact_and_only_they(method: system.Method) -> None:
    task = system.inertia_task(0.3)
    model = system.build(task, method, 24, seeded()).double()
    for parameter in model.parameters():  # dense maps start equivariant
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=Generator().manual_seed(1), dtype=torch.float64)
    x = task.draw(20, Generator().manual_seed(0), 0.0)[0].double()
    errors = [float(er.equivariance_error(model, s, x, reduce="max")) for s in task.symmetries[:2]]
    assert (errors[0] < 1e-12) == (method == "emlp")
    assert (errors[1] < 1e-12) == (method in ("emlp", "oracle"))


@pytest.mark.parametrize(
    "task", [system.inertia_task(0.0), system.cosine_task("rotation"), system.cosine_task("scaling")]
)
def test_no_candidate_has_a_lead_at_the_start(task: tasks.Task) -> None:
    """Also on the cosine task, where neither of the two groups holds the other."""
    model = system.build(task, "per", 24, seeded())
    assert float(system.regulariser(model, task, 24).violations().detach().max()) < 1e-9


def test_residual_pathways_start_near_exact_ones() -> None:
    model = system.build(system.cosine_task("rotation"), "rpp", 68, seeded())
    for path in (m for m in model.modules() if isinstance(m, ResidualPathway)):
        basic, scale = path.basic.weight.detach(), 1e-3 * path.basic.in_features**-0.5
        assert float(basic.std()) == pytest.approx(scale, rel=0.2)


def test_mlps_start_orthogonal() -> None:
    task = system.inertia_task(0.0)
    weights = [
        layer.weight
        for layer in system.build(task, "mlp", 24, seeded()).modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    for W in weights:
        gram = W @ W.mT if W.shape[0] < W.shape[1] else W.mT @ W
        torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)


def test_products_and_gates_by_hand() -> None:
    """One scalar, one vector, one matrix and two gates, with mixtures that are known."""
    rep = T(0)(er.O(3)) + T(1)(er.O(3)) + T(2)(er.O(3))
    layer = ProductGate(rep)
    layer.mixtures.data = torch.tensor([2.0, 0, 0, 3, 1, 0.5, 1, 1, 1, 1, 1, 0])[:, None]
    x = torch.randn(7, rep.size + 2, generator=Generator().manual_seed(0))
    s, v, M, gates = x[:, :1], x[:, 1:4], x[:, 4:13].view(-1, 3, 3), x[:, 13:].sigmoid()
    expected = torch.cat(
        [
            torch.nn.functional.silu(s + 2 * v.square().sum(1, keepdim=True)),
            gates[:, :1] * v,
            (gates[:, 1, None, None] * (M + 4 * v[:, :, None] * v[:, None, :])).flatten(1),
        ],
        1,
    )
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("width", "copies"), [(48, (15, 5, 2)), (128, (41, 14, 5)), (13, (1, 1, 1))])
def test_hidden_layouts_fill_the_width(width: int, copies: tuple[int, int, int]) -> None:
    rep = hidden_of(width)(er.O(3))
    assert rep.size == width
    assert tuple(n for n, _ in rep.summands()) == copies


def test_residual_prior_by_hand() -> None:
    model = system.build(system.cosine_task("rotation"), "rpp", 24, seeded())
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
    paths = [m for m in model.modules() if isinstance(m, ResidualPathway)]
    numbers = [
        sum(w.numel() for w in weights)
        for weights in ([p.equivariant.weight for p in paths], [p.basic.weight for p in paths])
    ]
    assert float(residual_prior(model).detach()) == pytest.approx(1e-5 * numbers[0] + numbers[1])


def test_methods_differ_in_parameters_alone() -> None:
    """All methods at the same width: dense maps have more numbers than equivariant ones, sums have both."""
    task = system.inertia_task(0.3)
    counts = {m: sum(p.numel() for p in system.build(task, m, 24).parameters()) for m in system.METHODS}
    assert counts["mlp"] == counts["mlp, same start"] == counts["per"] == counts["per, fixed"]
    assert counts["emlp"] < counts["oracle"] < counts["mlp"] < counts["rpp"]


def test_errors_are_relative() -> None:
    """A network that answers zero has the error one."""
    task = system.inertia_task(0.3)
    x, y = task.draw(20_000, seeded(1), 0.0)
    assert float((y / task.square**0.5).square().mean()) == pytest.approx(1, rel=0.05)
    zero = torch.nn.Linear(20, 9)
    torch.nn.init.zeros_(zero.weight)
    torch.nn.init.zeros_(zero.bias)
    objective = training.objective_of(task, "mlp")
    assert float(objective(zero, x, y / task.square**0.5).detach()) == pytest.approx(1, rel=0.05)
    zero.bias.data[0] = 3.0
    decay = float(objective(zero, x, torch.zeros_like(y)).detach()) - 1.0  # the answer itself has the mean square one
    assert decay == pytest.approx(1e-4 * 9 / task.square, rel=1e-2)


def test_strengths_are_adjusted_once_and_kept_by_the_network() -> None:
    task, budget = system.inertia_task(0.3), system.BUDGETS["smoke"]
    x, y = task.draw(60, seeded(), 0.0)
    how = Training(torch.nn.functional.mse_loss, 8, 40, (1e-2,))
    for adjusts, equal in ((True, False), (False, True)):
        model = system.build(task, "per", budget.hidden, seeded())
        split = Split.of(x, y / task.square**0.5, Sizes(40, 10, 10))
        training.regularised(task, budget, adjusts)(model, split, 1e-2, how, seeded())
        whole, *about = model.strengths
        assert whole == 0
        assert max(about) == pytest.approx(100)
        assert (len(set(about)) == 1) == equal


def test_options_are_read_and_kept() -> None:
    words = ["hidden=128", "epochs=8000", "lr=0.001", "eps=0.9,-1"]
    options = read_options(system.experiment, words, "soft_equivariance")
    assert options == {"hidden": 128, "epochs": 8000, "lr": 0.001, "eps": (0.9, -1.0)}


def test_options_replace_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[system.Budget] = []
    monkeypatch.setattr(system, "properties", lambda run, *_: seen.append(run.budget))
    monkeypatch.setattr(system, "inertia_parts", lambda run: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        system.experiment(Run("full", 0, system.BUDGETS["full"]), hidden=24, lr=0.5, eps=(0.9, -1.0))
    assert (seen[0].hidden, seen[0].rates, seen[0].eps, seen[0].epochs) == (24, (0.5,), (0.9, -1.0), 400)


def test_bad_input() -> None:
    with pytest.raises(ErlangenError, match="hidden = 12"):
        hidden_of(12)

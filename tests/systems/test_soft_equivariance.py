"""Soft equivariance: the tasks' symmetries, and that networks differ in linear maps alone."""

import pytest
import torch
from torch import Generator

import erlangen as er
from erlangen.errors import ErlangenError
from erlangen.reps import T
from erlangen.survey import Run, Sizes, Split, Training
from erlangen.survey.options import read_options
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
    x, y = tasks.draw_cosine(100, Generator().manual_seed(0), 0.0, breaks)
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


def test_regularised_networks_start_where_exact_ones_do_and_mlps_orthogonal() -> None:
    task = system.inertia_task(0.0)
    model = system.build(task, "per", 24, seeded())
    assert float(system.regulariser(model, task, 24).violations().detach().max()) < 1e-9
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
    assert counts["mlp"] == counts["per"] == counts["per, fixed"]
    assert counts["emlp"] < counts["oracle"] < counts["mlp"] < counts["rpp"]


def test_errors_are_relative() -> None:
    """A network that answers zero has the error one."""
    task = system.inertia_task(0.3)
    x, y = task.draw(20_000, seeded(1), 0.0)
    assert float((y / task.square**0.5).square().mean()) == pytest.approx(1, rel=0.05)
    zero = torch.nn.Linear(20, 9)
    torch.nn.init.zeros_(zero.weight)
    torch.nn.init.zeros_(zero.bias)
    objective = system.objective_of(task, "mlp")
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
        system.regularised(task, budget, adjusts)(model, split, 1e-2, how, seeded())
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
    assert (seen[0].hidden, seen[0].rates, seen[0].eps, seen[0].epochs) == (24, (0.5,), (0.9, -1.0), 500)


def test_bad_input() -> None:
    with pytest.raises(ErlangenError, match="hidden = 12"):
        hidden_of(12)

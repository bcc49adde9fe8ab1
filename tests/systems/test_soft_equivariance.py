"""Soft equivariance: the smoke run, the tasks' symmetries, and that networks differ in linear maps alone."""

from typing import Any

import pytest
import torch
from torch import Generator

import erlangen as er
from erlangen.errors import ErlangenError
from erlangen.reps import T
from erlangen.survey.ledger import discover_systems, run
from erlangen.survey.options import read_options
from erlangen.systems.learning import _soft_tasks as tasks
from erlangen.systems.learning import soft_equivariance as system
from erlangen.systems.learning._soft_network import ProductGate, ResidualPathway, hidden_of, residual_prior


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    return run("soft_equivariance", "smoke", 0)


def test_smoke_run(entry: dict[str, Any]) -> None:
    assert discover_systems()["soft_equivariance"] == "erlangen.systems.learning.soft_equivariance"
    holds = {claim["id"]: claim["holds"] for claim in entry["claims"]}
    assert holds.pop("motion-forecasting") is None
    for trained in ("adjusted-over-baselines", "adjusted-over-oracle", "strengths-agree-where-all-hold"):
        assert holds.pop(trained) in (True, False)  # a few steps of training settle nothing
    assert [name for name, verdict in holds.items() if not verdict] == []


def test_rows_have_all_baselines_and_their_budget(entry: dict[str, Any]) -> None:
    rows = [row for row in entry["rows"] if row["part"] == "training"]
    assert {row["method"] for row in rows} == set(system.METHODS)
    assert len({(row["samples"], row["epochs"], row["seeds"], row["batch"], row["hidden"]) for row in rows}) == 1
    assert all(row["ood"] > 0 for row in rows)
    counts = {row["method"]: row["parameters"] for row in rows}
    assert counts["mlp"] == counts["per"] == counts["per, fixed"]
    assert counts["emlp"] < counts["oracle"] < counts["mlp"] < counts["rpp"]
    for row in rows:  # exact networks are exact for what they were built for
        if row["method"] in ("emlp", "oracle"):
            assert row["error O(2) about z"] < 1e-5
        assert (row["error O(3)"] < 1e-5) == (row["method"] == "emlp")


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
    model = system.build(task, method, 24, 0).double()
    for parameter in model.parameters():  # dense maps start equivariant
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=Generator().manual_seed(1), dtype=torch.float64)
    x = task.draw(20, Generator().manual_seed(0), 0.0)[0].double()
    errors = [float(er.equivariance_error(model, s, x, reduce="max")) for s in task.symmetries[:2]]
    assert (errors[0] < 1e-12) == (method == "emlp")
    assert (errors[1] < 1e-12) == (method in ("emlp", "oracle"))


def test_regularised_networks_start_where_exact_ones_do_and_mlps_orthogonal() -> None:
    task = system.inertia_task(0.0)
    model = system.build(task, "per", 24, 0)
    assert float(system.regulariser(model, task, 24).violations().detach().max()) < 1e-9
    weights = [
        layer.weight for layer in system.build(task, "mlp", 24, 0).modules() if isinstance(layer, torch.nn.Linear)
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
    model = system.build(system.cosine_task("rotation"), "rpp", 24, 0)
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
    paths = [m for m in model.modules() if isinstance(m, ResidualPathway)]
    numbers = [
        sum(w.numel() for w in weights)
        for weights in ([p.equivariant.weight for p in paths], [p.basic.weight for p in paths])
    ]
    assert float(residual_prior(model).detach()) == pytest.approx(1e-5 * numbers[0] + numbers[1])


def test_rates_are_tuned_on_validation_data(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float, int]] = []

    def trial(task: system.Task, method: str, budget: system.Budget, lr: float, seed: int) -> dict[str, float]:
        seen.append((method, lr, budget.epochs))
        return {"validation": abs(lr - (0.01 if method == "per" else 0.02)) if lr < 0.05 else float("nan")}

    monkeypatch.setattr(system, "train", trial)
    task, budget = system.inertia_task(0.3), system.Budget(50, 12)
    assert system.tuned(task, ["mlp", "per"], budget, [0.09, 0.01, 0.02], 0) == {"mlp": 0.02, "per": 0.01}
    assert {epochs for _, _, epochs in seen} == {10}
    assert len(seen) == 6
    assert system.tuned(task, ["mlp"], budget, [0.5], 0) == {"mlp": 0.5}


def test_options_are_read_and_kept() -> None:
    words = ["hidden=128", "epochs=8000", "lr=0.001", "eps=0.9,-1"]
    options = read_options(system.experiment, words, "soft_equivariance")
    assert options == {"hidden": 128, "epochs": 8000, "lr": 0.001, "eps": (0.9, -1.0)}


def test_bad_input() -> None:
    with pytest.raises(ErlangenError, match="adjust_at = 9, epochs = 9"):
        system.Budget(9, 9)
    with pytest.raises(ErlangenError, match="hidden = 12"):
        hidden_of(12)

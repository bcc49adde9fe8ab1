"""Equilibrium propagation: errors against unrolled and implicit gradients, complex nudges, what is refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ErlangenWarning, NotConvergedWarning, ShapeError
from erlangen.solve import asymmetry
from erlangen.systems.learning.equilibrium_propagation import (
    EquilibriumNetwork,
    Propagation,
    exact_nudge,
    limits,
    nudged_error,
    online_error,
)
from erlangen.systems.learning.equilibrium_propagation.experiment import LONG, tiny
from erlangen.systems.learning.equilibrium_propagation.method import ACTIVATIONS
from erlangen.systems.learning.equilibrium_propagation.rivals import LOOP, RECIPROCAL


def network() -> EquilibriumNetwork:
    return EquilibriumNetwork((6, 5, 4), 3)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


# --- the network -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_slopes_are_derivatives_also_of_complex_numbers(name: str) -> None:
    z = torch.randn(50, dtype=torch.complex128, generator=torch.Generator().manual_seed(0)) * 0.3
    value, slope = ACTIVATIONS[name](z)
    h = 1e-6
    for direction in (h, 1j * h):  # a holomorphic function has one derivative in all directions
        ahead, back = ACTIVATIONS[name](z + direction)[0], ACTIVATIONS[name](z - direction)[0]
        assert torch.allclose((ahead - back) / (2 * direction), slope, atol=1e-8)
    assert value.dtype == torch.complex128


def test_activations_are_those_of_the_paper() -> None:
    z = torch.tensor([0.5, -1.0, 3.0], dtype=torch.float64)
    assert torch.allclose(ACTIVATIONS["sigmoid"](z)[0], 1 / (1 + torch.exp(-4 * z + 2)))
    step = 0.5 * z / (1 + torch.exp(-z)) + (1 - 0.5 * z) / (1 + torch.exp(-(z - 2)))
    assert torch.allclose(ACTIVATIONS["dsilu"](z)[0], step)
    assert float(ACTIVATIONS["sigmoid"](torch.tensor(0.5))[1]) == pytest.approx(1)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0])
def test_the_angle_at_the_start(degrees: float) -> None:
    torch.manual_seed(0)
    net = EquilibriumNetwork((784, 256, 256), degrees=degrees)
    assert net.angle() == pytest.approx(degrees, abs=1)
    assert (net.jacobian_symmetry() == pytest.approx(1)) is (degrees == 0)
    feed = net.weights["1-2"]
    assert float(feed.detach().var() * 256) == pytest.approx(1, abs=0.02)


def test_wirings() -> None:
    assert EquilibriumNetwork((7, 6, 5, 4)).connections == [(0, 1), (1, 2), (2, 3), (2, 1), (3, 2)]
    loop = EquilibriumNetwork((7, 6, 5, 4), wiring="loop")
    assert loop.connections == [(0, 1), (1, 2), (2, 3), (3, 1)]
    assert math.isnan(loop.angle())
    assert sorted(loop.biases) == ["1", "2", "3"]


def test_one_step_is_written_out() -> None:
    """The block matrix against sums over connections."""
    net, x, _, u = tiny(0, 90)
    s = net.squash(u)
    parts = {1: s[:, :4], 2: s[:, 4:8], 3: s[:, 8:]}
    due = {layer: net.biases[f"{layer}"].expand(len(x), -1) for layer in parts}
    for pre, post in net.connections:
        due[post] = due[post] + (x if pre == 0 else parts[pre]) @ net.weights[f"{pre}-{post}"].mT
    assert torch.allclose(s @ net.matrix().mT + net.drive(x), torch.cat([due[1], due[2], due[3]], 1))


def alternating() -> tuple[EquilibriumNetwork, Tensor]:
    """Two layers that silence each other one step later: from equal states both jump together, for ever."""
    net = EquilibriumNetwork((5, 4, 4, 4), 3, free_steps=100)
    with torch.no_grad():
        for weight in net.weights.values():
            weight.zero_()
        for key in ("1-2", "2-1"):
            net.weights[key].copy_(-3 * torch.eye(4))
        for key in ("1", "2"):
            net.biases[key].fill_(1)
    return net, torch.rand(8, 5)


def test_states_that_alternate_are_no_rest() -> None:
    net, x = alternating()
    u, motion = net.settle(x)
    with torch.no_grad():
        twice = net.squash(net.squash(u) @ net.matrix().mT + net.drive(x)) @ net.matrix().mT + net.drive(x)
    assert torch.allclose(twice, u, atol=1e-4)  # every second step looks like rest
    assert float(motion.min()) > 1


# --- errors ----------------------------------------------------------------------------------------------------------
def test_the_pull_is_the_gradient_of_the_loss() -> None:
    net, _, y, u = tiny(0, 90)
    s = net.squash(u).requires_grad_()
    (due,) = torch.autograd.grad(net.loss(net.answer(s), y) * len(y), s)
    assert torch.allclose(net.pull(s.detach(), y), due, atol=1e-12)


def test_at_no_nudge_nothing_moves_and_answers_of_a_batch_are_their_own() -> None:
    net, x, y, u = tiny(0, 90)
    whole = nudged_error(net, x, y, u, beta=0.05, points=4, steps=50)
    one = nudged_error(net, x[2:3], y[2:3], u[2:3], beta=0.05, points=4, steps=50)
    assert torch.allclose(whole[2:3], one, atol=1e-12)
    assert torch.allclose(net.squash(u) @ net.matrix().mT + net.drive(x), u, atol=1e-11)


def test_a_perfect_output_has_no_error() -> None:
    torch.manual_seed(0)
    net = EquilibriumNetwork((5, 4, 4), None, free_steps=300).double()
    x = 0.3 * torch.randn(3, 5, dtype=torch.float64)
    u, _ = net.settle(x)
    perfect = net.answer(net.squash(u))
    assert not exact_nudge(net, x, perfect, u, steps=50).any()
    assert float(nudged_error(net, x, perfect, u, beta=0.1, points=2, steps=50).abs().max()) < 1e-12
    ep, bp = limits(net, perfect + 1, u)
    assert min(float(ep.norm()), float(bp.norm())) > 0.01


def test_the_exact_nudge_is_the_forward_derivative() -> None:
    """Of 20 nudged steps by beta, from states that are not at rest too."""
    net, x, y, u = tiny(0, 90)
    begin, weights, drive = u + 0.3, net.matrix().mT.detach(), net.drive(x).detach()

    def run(beta: Tensor) -> Tensor:
        state = begin
        for _ in range(20):
            s = net.squash(state)
            state = s @ weights + drive + beta * net.pull(s, y)
        return net.squash(state)

    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    with torch.no_grad():
        due = torch.func.jvp(run, (zero,), (one,))[1]
    assert torch.allclose(exact_nudge(net, x, y, begin, steps=20), due, atol=1e-12)


def test_without_a_free_phase() -> None:
    net, x, y, u = tiny(0, 90)
    rest, error = online_error(net, x, y, beta=0.05, turns=10, steps=200)
    ep, _ = limits(net, y, u)
    assert relative(error, ep) < 1e-3
    assert float((rest - u).abs().max()) < 1e-3


@pytest.mark.parametrize("wiring", ["reciprocal", "loop"])
def test_through_time_is_autograd_of_the_last_steps(wiring: Any) -> None:
    net, x, y, _ = tiny(0, 90, wiring=wiring)
    Propagation("time", steps=LONG)(net, x, y).backward()
    (exact,) = torch.autograd.grad(net.loss(net(x), y), [net.weights["1-2"]])
    grad = net.weights["1-2"].grad
    assert grad is not None
    assert relative(grad, exact) < 1e-8


def test_the_gradient_is_local() -> None:
    """The update of a connection is the mean outer product of the error after it and the activity before it."""
    net, x, y, u = tiny(0, 90)
    Propagation(steps=30)(net, x, y).backward()
    error, s = exact_nudge(net, x, y, u, steps=30), net.squash(u)
    grad = net.weights["1-2"].grad
    assert grad is not None
    assert torch.allclose(grad, error[:, 4:8].mT @ s[:, :4] / len(x), atol=1e-8)
    bias = net.biases["2"].grad
    assert bias is not None
    assert torch.allclose(bias, error[:, 4:8].mean(0), atol=1e-8)


def test_the_penalty_is_estimated_without_bias() -> None:
    net, x, _, u = tiny(0, 90)
    s = net.squash(u)
    with torch.no_grad():
        weights, drive = net.matrix().mT, net.drive(x)
        draws = asymmetry(lambda v: v @ weights + drive - v, s, probes=4000, generator=torch.Generator().manual_seed(0))
    due = sum(float((ahead - back.mT).detach().square().sum()) for ahead, back in net.pairs())
    assert float((draws.mean() / due - 1).abs()) < 0.03


def test_homeostasis_aligns_weights_without_a_task() -> None:
    torch.manual_seed(0)
    net, x = EquilibriumNetwork((6, 8, 8, 4), free_steps=30), torch.rand(10, 6)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    before = net.angle()
    how = Propagation(homeostasis=1.0)
    for _ in range(60):
        optimizer.zero_grad()
        penalty = how._penalty(net, x, net.squash(net.settle(x)[0]))
        assert isinstance(penalty, Tensor)
        penalty.backward()
        optimizer.step()
    assert before > 60
    assert net.angle() < 5


def test_all_rivals_are_in_the_tables(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("equilibrium_propagation")["rows"]
    assert [row["model"] for row in rows if row["part"] == "digits"] == list(RECIPROCAL)
    assert [row["model"] for row in rows if row["part"] == "loop"] == list(LOOP)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: EquilibriumNetwork((5,)), "at least one layer"),
        (lambda: EquilibriumNetwork((5, 0)), "sizes = 0"),
        (lambda: EquilibriumNetwork((5, 4), wiring="star"), "wiring = 'star'"),  # pyright: ignore[reportArgumentType]
        (lambda: EquilibriumNetwork((5, 4), activation="relu"), "holomorphic"),
        (lambda: EquilibriumNetwork((5, 4), classes=1), "classes = 1"),
        (lambda: Propagation("backward"), "error = 'backward'"),  # pyright: ignore[reportArgumentType]
        (lambda: Propagation(on_unsettled="no"), "on_unsettled = 'no'"),  # pyright: ignore[reportArgumentType]
        (lambda: Propagation(beta=0), "beta = 0"),
        (lambda: Propagation(points=-1), "points = -1"),
        (lambda: Propagation(homeostasis=-1), "homeostasis = -1"),
    ],
)
def test_what_is_refused(make: Callable[[], object], word: str) -> None:
    with pytest.raises(ErlangenError, match=word):
        make()


def test_inputs_of_another_size() -> None:
    with pytest.raises(ShapeError, match="6 numbers a sample"):
        network()(torch.rand(4, 5))


def test_warnings() -> None:
    with pytest.warns(ErlangenWarning, match="one nudge of beta = 0.5"):
        Propagation(points=1, beta=0.5)
    net, x = alternating()
    with pytest.warns(NotConvergedWarning, match="far from rest"):
        Propagation()(net, x, torch.zeros(8, dtype=torch.long))

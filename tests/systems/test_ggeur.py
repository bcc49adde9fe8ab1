"""GGEUR: guide sets by hand, moments of what is drawn, counts, what is sent, what is refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from erlangen.errors import DataError, ErlangenError, NotFiniteError, ShapeError
from erlangen.learn import ClassStatistics, federated_average, run_federated
from erlangen.systems.learning.ggeur import (
    aggregate,
    collect,
    draw,
    fill,
    fill_across_domains,
    guide_set,
    method,
    shapes,
)
from erlangen.systems.learning.ggeur._clients import METHODS, FedAvg, FedDyn, FedNTD, FedOpt, FedProx, Moon, Scaffold
from erlangen.systems.learning.ggeur._embeddings import DOMAINS, pictures
from erlangen.systems.learning.ggeur.rivals import domain_arms, filled, label_arms, round_shape


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=Generator().manual_seed(seed), dtype=torch.float64)


def client(counts: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return randn(len(labels), 4, seed=seed) + 3 * labels[:, None], labels


# --- the server ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("counts", "share", "chosen"),
    [
        ([10, 50, 40], 0.8, [False, True, True]),
        ([10, 80, 10], 0.8, [False, True, False]),
        ([25, 25, 25, 25], 0.5, [True, True, False, False]),  # of equals the first
        ([0, 3, 7], 1.0, [False, True, True]),  # who has nothing is not asked
        ([1, 1, 8], 0.81, [True, False, True]),
    ],
)
def test_guide_sets_by_hand(counts: list[int], share: float, chosen: list[bool]) -> None:
    assert guide_set(torch.tensor(counts)[:, None], share)[:, 0].tolist() == chosen


def test_only_the_guide_set_counts() -> None:
    data = [client([90, 5], 1), client([10, 95], 2)]
    total = aggregate(collect(data, 2), 0.8)
    due = ClassStatistics.of(data[0][0][:90], data[0][1][:90], 2)
    assert total.counts.tolist() == [90, 95]
    assert torch.allclose(total.covariances[0], due.covariances[0], atol=1e-12)


def test_without_the_distances_of_the_clients() -> None:
    """Two clients whose classes differ in place alone: the shape is that of each."""
    z, y = client([200])
    far = [(z, y), (z + 50, y)]
    inside = aggregate(collect(far, 1), 1, between=False)
    outside = aggregate(collect(far, 1), 1)
    assert torch.allclose(inside.covariances[0], torch.cov(z.mT, correction=0), atol=1e-10)
    shift = 25 * torch.ones(4, dtype=torch.float64)
    assert torch.allclose(outside.covariances[0], inside.covariances[0] + torch.outer(shift, shift), atol=1e-8)


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, means and scatters: no tensor with as many rows as a client has samples."""
    sent: list[dict[str, tuple[int, ...]]] = []

    def spied(server: Any, client: Any, **options: Any) -> Any:
        def told(number: int, parcel: Any) -> Any:
            answer = client(number, parcel)
            sent.append({name: tuple(t.shape) for name, t in answer.tensors.items()})
            return answer

        return run_federated(server, told, **options)

    monkeypatch.setattr(method, "run_federated", spied)
    collect([client([7, 6]), client([5, 8])], 2)
    assert sent == [{"counts": (2,), "means": (2, 4), "scatters": (2, 4, 4)}] * 2


def test_shapes_of_low_rank_and_of_a_single_row() -> None:
    z = randn(30, 2) @ randn(2, 4, seed=1)
    factor = shapes(ClassStatistics.of(z, torch.zeros(30, dtype=torch.int64), 1))[0]
    assert int((factor.norm(dim=0) > 0).sum()) == 2
    best = shapes(ClassStatistics.of(z, torch.zeros(30, dtype=torch.int64), 1), rank=1)[0]
    values = torch.linalg.eigvalsh(torch.cov(z.mT, correction=0))
    assert float(best.square().sum()) == pytest.approx(float(values[-1]))
    assert not shapes(ClassStatistics.of(z[:1], torch.zeros(1, dtype=torch.int64), 1)).any()


# --- a client --------------------------------------------------------------------------------------------------------
def test_rows_around_rows_have_both_covariances() -> None:
    """Over a set of anchors the covariance is that of the anchors plus that of the draws."""
    anchors = 2 * randn(200_000, 3)
    factor = randn(3, 2, seed=1)
    z = draw(anchors, factor, scale=0.5, generator=Generator().manual_seed(2))
    due = torch.cov(anchors.mT) + 0.5 * factor @ factor.mT
    assert float((torch.cov(z.mT) - due).norm() / due.norm()) < 0.02


def test_counts_after_filling() -> None:
    z, y = client([3, 50, 0, 12])
    factors = shapes(ClassStatistics.of(z, y, 4))
    _, names = fill(z, y, factors, 20, generator=Generator().manual_seed(0))
    assert torch.bincount(names, minlength=4).tolist() == [20, 50, 0, 20]
    copies, _ = fill(z, y, torch.zeros(4, 4, 1, dtype=torch.float64), 20, generator=Generator().manual_seed(0))
    assert torch.isin(copies, z).all()
    uses = torch.stack([(copies[names == 0] == row).all(1).sum() for row in z[:3]])
    assert int(uses.max() - uses.min()) <= 1  # every row as often as the others


def test_counts_across_domains() -> None:
    z, y = client([3, 50, 0])
    factors = shapes(ClassStatistics.of(z, y, 3))
    prototypes = torch.zeros(2, 3, 4, dtype=torch.float64)
    prototypes[:, 2] = torch.tensor([100.0, torch.nan])[:, None]  # one domain lacks class 2 too
    more, names = fill_across_domains(
        z, y, factors, prototypes, 20, own=20, each=20, generator=Generator().manual_seed(0)
    )
    assert torch.bincount(names).tolist() == [20, 20, 20]
    assert torch.equal(more[:3], z[:3])
    assert float((more[names == 2] - 100).abs().max()) == 0  # no own row, so no shape: copies of the prototype
    assert torch.isin(more[names == 1], z).all()  # a part of its own rows


def test_round_shapes_have_the_same_trace() -> None:
    factors = randn(3, 5, 2)
    ball = round_shape(factors.float()).double()
    assert torch.allclose(ball.square().sum((1, 2)), factors.square().sum((1, 2)), rtol=1e-5)


def test_ways_of_filling_differ_in_the_shape_alone() -> None:
    rows = [(z.float(), y) for z, y in (client([3, 9], 1), client([20, 2], 2))]
    made = {
        how: filled(how, 15, rows, 2, Generator().manual_seed(0))
        for how in ("copies", "isotropic", "own covariance", "GGEUR")
    }
    for how, clients in made.items():
        assert [torch.bincount(y).tolist() for _, y in clients] == [[15, 15], [20, 15]], how
    values = [clients[0][0] for clients in made.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])


# --- federated methods -----------------------------------------------------------------------------------------------
def number(value: float) -> nn.Linear:
    """A network of one weight."""
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(net.weight, value)
    return net


def served(local: FedAvg, rounds: int, rate: float = 0.1, steps: int = 200) -> float:
    """Three clients with parabolas of other curvature and place; they minimise theirs by many steps, the server averages."""
    curves = ((1.0, 0.0), (2.0, 3.0), (9.0, 1.0))
    net = number(0.5)

    def train(net: nn.Module, client: int, step: int) -> float:
        curve, place = curves[client]
        local.begin(net, client, step)
        for _ in range(steps):
            (w,) = net.parameters()
            nothing = torch.zeros(1)
            loss = curve / 2 * (w - place).square().sum() + local.penalty(net, nothing, nothing, nothing)
            (gradient,) = torch.autograd.grad(loss, w)
            with torch.no_grad():
                w -= rate * gradient
        local.end(net, steps, rate)
        return 1.0

    federated_average(net, train, clients=3, rounds=rounds, weights="uniform")
    return float(net.weight.detach())


def test_corrected_clients_find_the_minimum_of_all() -> None:
    """It is (0 + 6 + 9) / 12; clients alone find 0, 3 and 1, and their mean."""
    assert served(FedAvg(), 3) == pytest.approx(4 / 3)
    assert served(FedDyn(), 120, steps=40) == pytest.approx(15 / 12, abs=1e-5)
    assert served(Scaffold(), 300, rate=0.01, steps=10) == pytest.approx(15 / 12, abs=1e-6)


def test_controls_are_mean_gradients_and_wait_for_the_round() -> None:
    local = Scaffold()
    served(local, 1, rate=0.01, steps=2)
    # The first client: 0.5, and 0.5 - 0.01 * 0.5 after a step; the others alike.
    due = {0: (0.5 + 0.495) / 2, 1: 2 * (-2.5 - 2.45) / 2, 2: 9 * (-0.5 - 0.455) / 2}
    assert {client: float(control) for client, control in local.controls.items()} == pytest.approx(due)
    local.begin(number(0), 1, 1)
    assert float(local.mean) == pytest.approx(sum(due.values()) / 3)
    local.controls[1] = torch.full((1,), 99.0).double()
    local.begin(number(0), 2, 1)
    assert float(local.mean) == pytest.approx(sum(due.values()) / 3)


def test_the_server_goes_half_the_way() -> None:
    assert served(FedOpt(), 1) == pytest.approx((0.5 + 4 / 3) / 2)


def test_distances_to_the_server() -> None:
    local, net = FedProx(), number(2.0)
    local.begin(net, 0, 0)
    nn.init.constant_(net.weight, 5.0)
    nothing = torch.zeros(1)
    assert float(local.penalty(net, nothing, nothing, nothing).detach()) == pytest.approx(0.01 / 2 * 9)


def test_answers_are_drawn_to_the_server_and_off_the_last_round() -> None:
    local, net = Moon(), nn.Linear(2, 2, bias=False)
    z, y = torch.tensor([[1.0, 0.0]]), torch.tensor([1])
    local.begin(net, 3, 0)
    first = local.penalty(net, z, y, net(z))
    assert float(first.detach()) == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(first, net.weight)
    assert float(gradient.abs().max()) < 1e-6  # both are one network
    with torch.no_grad():
        net.weight.copy_(torch.eye(2))
    local.end(net, 1, 0.1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    local.begin(net, 3, 1)  # the server says (0, 1), the last round said (1, 0)
    logits = torch.tensor([[3.0, 4.0]])
    due = -math.log(math.exp(0.8 / 0.5) / (math.exp(0.8 / 0.5) + math.exp(0.6 / 0.5)))
    assert float(local.penalty(net, z, y, logits)) == pytest.approx(due)


def test_distilled_without_the_true_class() -> None:
    local, net = FedNTD(), nn.Linear(1, 3)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.copy_(torch.tensor([9.0, 0.0, math.log(3)]))
    local.begin(net, 0, 0)
    z, y = torch.zeros(2, 1), torch.tensor([0, 0])
    assert float(local.penalty(net, z, y, net(z)).detach()) == pytest.approx(0, abs=1e-6)
    # The server says 1/4 and 3/4 of the last two, these logits a half each.
    due = 0.5 * (0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5))
    assert float(local.penalty(net, z, y, torch.tensor([[5.0, 1.0, 1.0]] * 2))) == pytest.approx(due)


def test_every_method_stands_with_and_without() -> None:
    for arms in (label_arms(1), domain_arms(1)):
        for name, kind in METHODS.items():
            assert arms[name][1] is arms[f"{name} + GGEUR"][1] is kind
    assert set(label_arms(1, ("FedAvg", "FedProx"))) < set(label_arms(1))


@pytest.mark.parametrize("domain", DOMAINS)
def test_domains_are_digits_of_their_own(domain: str) -> None:
    x, y = pictures(domain, "test")
    assert x.shape[1:] == (1, 28, 28)
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    assert set(y.tolist()) == set(range(10))
    assert torch.equal(x, pictures(domain, "test")[0])


def test_all_arms_are_in_the_tables(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("ggeur")["rows"]
    assert [row["model"] for row in rows if row["part"] == "labels, alpha 0.05"] == list(label_arms(1))
    for part in ("domains", "domains and labels, alpha 0.1"):
        assert [row["model"] for row in rows if row["part"] == part] == list(domain_arms(1))


# --- bad input -------------------------------------------------------------------------------------------------------
def _stats(scatter: float) -> ClassStatistics:
    return ClassStatistics(torch.tensor([5]), torch.zeros(1, 2), scatter * torch.eye(2)[None])


Z, Y = client([4, 4])
F = shapes(ClassStatistics.of(Z, Y, 2))


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: guide_set(torch.tensor([[0, 1]])), DataError, "class 0 has no rows"),
        (lambda: guide_set(torch.tensor([[3, 1]]), 0.0), ErlangenError, "share = 0"),
        (lambda: guide_set(torch.tensor([3.0])), ShapeError, "clients, classes"),
        (lambda: aggregate([]), ErlangenError, "at least one client"),
        (lambda: aggregate([_stats(1), _stats(-1)]), DataError, "client 1 sent a scatter of class 0"),
        (lambda: collect([(Z, Y), (Z[:, :3], Y)], 2), ShapeError, r"\[3, 4\] dimensions"),
        (lambda: shapes(ClassStatistics.of(Z, Y, 2), rank=5), ErlangenError, "rank = 5"),
        (lambda: draw(Z, F[0][:3]), ShapeError, "factor"),
        (lambda: draw(Z, F[0], scale=-1), ErlangenError, "scale = -1"),
        (lambda: fill(Z, Y, F, 0), ErlangenError, "target = 0"),
        (lambda: fill(Z, Y + 1, F, 9), DataError, "labels go from 1 to 2"),
        (lambda: fill(Z[:, :3], Y, F, 9), ShapeError, "3 dimensions"),
        (lambda: fill(Z / 0, Y, F, 9), NotFiniteError, "features"),
        (lambda: fill_across_domains(Z, Y, F, torch.zeros(1, 3, 4), 9), ShapeError, "prototypes"),
        (
            lambda: fill_across_domains(Z, Y, F, torch.zeros(1, 2, 4, dtype=torch.float64), 90, own=5, each=5),
            DataError,
            "raise own or each",
        ),
    ],
)
def test_what_is_refused(call: Callable[[], object], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        call()

"""Federated rounds in this process, and the same numbers through Flower."""

import pytest
import torch
from torch import nn

from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError
from erlangen.learn import ClassStatistics, Parcel, average, federated_average, run_federated

CLIENTS = 3


def data(client: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(client)
    x = torch.randn(20 + 10 * client, 4, generator=generator, dtype=torch.float64)
    return x, (x[:, 0] + 0.3 * client > 0).long()


def train(model: nn.Module, client: int, step: int) -> float:
    x, y = data(client)
    opt = torch.optim.SGD(model.parameters(), lr=0.5)
    for rows in torch.randperm(len(x), generator=torch.Generator().manual_seed(10 * step + client)).split(10):
        opt.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        opt.step()
    return len(x)


def statistics(number: int, parcel: Parcel) -> Parcel:
    stats = ClassStatistics.of(*data(number), 2)
    return Parcel({"counts": stats.counts, "means": stats.means, "scatters": stats.scatters}, {"of": number})


def collect(ask) -> ClassStatistics:
    answers = ask(Parcel())
    assert [answer.numbers["of"] for answer in answers] == list(range(CLIENTS))
    parts = [ClassStatistics(a.tensors["counts"], a.tensors["means"], a.tensors["scatters"]) for a in answers]
    assert [answer.numbers["of"] for answer in ask(Parcel(), [2, 0])] == [2, 0]
    return sum(parts[1:], parts[0])


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 2).double()


def averaged(engine: str) -> tuple[nn.Linear, list[dict[str, float]]]:
    net = network()
    x = torch.cat([data(i)[0] for i in range(CLIENTS)])
    y = torch.cat([data(i)[1] for i in range(CLIENTS)])
    evaluate = lambda m, step: {"loss": nn.functional.cross_entropy(m(x), y).item()}  # noqa: E731
    return net, federated_average(net, train, clients=CLIENTS, rounds=4, evaluate=evaluate, engine=engine)


def test_a_round_is_the_mean_of_what_clients_trained() -> None:
    net, start = network(), network()
    rows = federated_average(net, train, clients=CLIENTS, rounds=1)
    want, total = torch.zeros(2, 4).double(), 0.0
    for i in range(CLIENTS):
        local = network()
        want, total = want + train(local, i, 0) * local.weight.detach(), total + len(data(i)[0])
    torch.testing.assert_close(net.weight, want / total)
    assert not torch.allclose(net.weight, start.weight)
    assert rows == [{"round": 1, "samples": 90.0}]


def test_losses_fall_and_one_client_is_central_training() -> None:
    _, rows = averaged("local")
    losses = [row["loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)
    alone, central = network(), network()
    federated_average(alone, train, clients=1, rounds=3)
    for step in range(3):
        train(central, 0, step)
    assert torch.equal(alone.weight, central.weight)


def test_statistics_are_those_of_all_rows() -> None:
    merged = run_federated(collect, statistics, clients=CLIENTS)
    x = torch.cat([data(i)[0] for i in range(CLIENTS)])
    whole = ClassStatistics.of(x, torch.cat([data(i)[1] for i in range(CLIENTS)]), 2)
    torch.testing.assert_close(merged.scatters, whole.scatters, rtol=1e-12, atol=1e-12)


def test_parcels_share_no_memory() -> None:
    mine = torch.zeros(2)

    def client(number: int, parcel: Parcel) -> Parcel:
        parcel.tensors["w"].add_(1)
        return parcel

    answers = run_federated(lambda ask: ask(Parcel({"w": mine})), client, clients=2)
    assert mine.tolist() == [0, 0]
    assert [a.tensors["w"].tolist() for a in answers] == [[1, 1], [1, 1]]


def test_equal_states_are_averaged_bit_for_bit() -> None:
    w = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(average([{"w": w}] * 3, [0.1, 0.7, 0.3])["w"], w)
    assert average([{"n": torch.tensor(3)}, {"n": torch.tensor(5)}], [1, 1])["n"] == 3


def test_flower_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flwr")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    torch.set_num_threads(1)  # as in the workers
    (here, rows), (there, same) = averaged("local"), averaged("flower")
    torch.testing.assert_close(here.weight, there.weight, rtol=0, atol=1e-12)
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in same], abs=1e-12)
    a, b = (run_federated(collect, statistics, clients=CLIENTS, engine=e) for e in ("local", "flower"))
    assert torch.equal(a.counts, b.counts)
    torch.testing.assert_close(a.scatters, b.scatters, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: run_federated(collect, statistics, clients=0), ErlangenError, "clients = 0"),
        (lambda: run_federated(collect, statistics, clients=1, engine="grpc"), UnknownNameError, "engine = 'grpc'"),
        (lambda: run_federated(lambda ask: ask(Parcel(), [5]), statistics, clients=2), DataError, "client 5 was asked"),
        (lambda: run_federated(lambda ask: ask({}), statistics, clients=2), DataError, "the question is a dict"),
        (
            lambda: run_federated(lambda ask: ask(Parcel()), lambda i, p: {}, clients=2),
            DataError,
            "answer of client 0 is a dict",
        ),
        (
            lambda: run_federated(lambda ask: ask(Parcel({"w": 3.0})), statistics, clients=2),
            DataError,
            "'w' is a float among the tensors",
        ),
        (lambda: federated_average(network(), train, clients=2, rounds=0), ErlangenError, "rounds = 0"),
        (
            lambda: federated_average(network(), train, clients=2, rounds=1, weights="equal"),
            UnknownNameError,
            "'equal'",
        ),
        (lambda: federated_average(network(), lambda m, i, r: 0.0, clients=2, rounds=1), ErlangenError, "not all zero"),
        (lambda: average([{"a": torch.zeros(1)}, {"b": torch.zeros(1)}], [1, 1]), ShapeError, "different names"),
    ],
)
def test_bad_input(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()

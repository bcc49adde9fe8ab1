"""Federated runs: a server that asks clients, in this process or through Flower; the data of a client never leave it."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from erlangen.errors import DataError, ErlangenError, MissingExtraError, ShapeError, UnknownNameError, check_integer

T = TypeVar("T")
Numbers = dict[str, float]


@dataclass(frozen=True)
class Parcel:
    """What is sent: tensors and numbers by name, nothing else.

    Attributes:
        tensors: weights or statistics.
        numbers: such as a round, a seed, a count of samples.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    def copied(self) -> Parcel:
        """A parcel that shares no memory with this one, as after a journey."""
        return Parcel({name: t.detach().cpu().clone() for name, t in self.tensors.items()}, dict(self.numbers))


class Ask(Protocol):
    """What a server is given: it sends one parcel to clients and gets their answers in the order of the clients."""

    def __call__(self, parcel: Parcel, clients: Sequence[int] | None = None) -> list[Parcel]:
        """Answers of all clients, or of those that are named, in that order."""
        ...


Client = Callable[[int, Parcel], Parcel]
"""``client(number, parcel) -> answer``; numbers are 0, ..., clients - 1. State that must last belongs on the server."""


def run_federated(
    server: Callable[[Ask], T],
    client: Client,
    *,
    clients: int,
    engine: Literal["local", "flower"] = "local",
    cpus: float = 1,
) -> T:
    """Run a server that talks to clients, and return what it returns.

    >>> data = [torch.tensor([1.0, 3.0]), torch.tensor([8.0])]
    >>> def client(number, parcel):
    ...     return Parcel({"sum": data[number].sum()}, {"samples": len(data[number])})
    >>> def server(ask):
    ...     answers = ask(Parcel())
    ...     return sum(a.tensors["sum"] for a in answers) / sum(a.numbers["samples"] for a in answers)
    >>> run_federated(server, client, clients=2)
    tensor(4.)

    Args:
        server: called once, with `Ask`.
        client: called for every question; for "flower" it is pickled to worker processes with what it closes over.
        clients: how many.
        engine: "local" calls one client after the other in this process; "flower" runs Flower's simulation on Ray (extra
            `federated`; telemetry is off), with the same parcels, so the numbers are the same. `flower_apps` gives the two
            apps for a deployment on several machines.
        cpus: of each client under "flower".

    Raises:
        ErlangenError: no client.
        DataError: the question or an answer is no parcel of tensors and numbers, or a client failed (its number is named).
        MissingExtraError: Flower is not installed.
    """
    check_integer("clients", clients, 1)
    if engine == "flower":
        return _run_flower(server, client, clients, cpus)
    if engine != "local":
        raise UnknownNameError(f"engine = {engine!r}: choose 'local' or 'flower'")

    count = clients

    def ask(parcel: Parcel, clients: Sequence[int] | None = None) -> list[Parcel]:
        question = _checked(parcel, "the question")
        chosen = _chosen(clients, count)
        return [
            _checked(client(number, question.copied()), f"the answer of client {number}").copied() for number in chosen
        ]

    return server(ask)


def federated_average(
    model: nn.Module,
    train: Callable[[nn.Module, int, int], float],
    *,
    clients: int,
    rounds: int,
    weights: Literal["samples", "uniform"] = "samples",
    evaluate: Callable[[nn.Module, int], Numbers] | None = None,
    engine: Literal["local", "flower"] = "local",
    cpus: float = 1,
) -> list[Numbers]:
    """Federated averaging: each round the clients train copies of the model, and the server takes their mean.

    >>> def train(model, client, round):  # each client pulls towards its own number
    ...     with torch.no_grad():
    ...         model.weight.fill_(float(client))
    ...     return 1.0 + client  # as if it had so many samples
    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = federated_average(net, train, clients=2, rounds=1)
    >>> round(net.weight.item(), 6)
    0.666667

    McMahan et al. (2017), algorithm 1, with all clients in every round. Proximal terms (FedProx) and the like belong into
    `train`, which sees the weights of the server when it is called. Averages are taken in float64 and rounded once;
    integer buffers are those of the first client.

    Args:
        model: changed in place; the global model.
        train: ``train(model, client, round) -> samples`` trains a model in place on the data of a client, by its own random
            generator, and returns its weight in the mean.
        clients: how many.
        rounds: how many.
        weights: "samples", or "uniform" for a plain mean.
        evaluate: ``evaluate(model, round) -> numbers`` on the server after each round.
        engine: see `run_federated`.
        cpus: see `run_federated`.

    Returns:
        A row for each round with ``round``, ``samples``, and what `evaluate` returns.

    Raises:
        ErlangenError: a client that gives no samples, all of them zero.
    """
    check_integer("rounds", rounds, 1)
    if weights not in ("samples", "uniform"):
        raise UnknownNameError(f"weights = {weights!r}: choose 'samples' or 'uniform'")

    def client(number: int, parcel: Parcel) -> Parcel:
        model.load_state_dict(dict(parcel.tensors))
        samples = train(model, number, int(parcel.numbers["round"]))
        return Parcel(model.state_dict(), {"samples": float(samples)})

    def server(ask: Ask) -> list[Numbers]:
        state = Parcel(model.state_dict()).copied().tensors
        rows: list[Numbers] = []
        for step in range(rounds):
            answers = ask(Parcel(state, {"round": step}))
            samples = [answer.numbers["samples"] for answer in answers]
            state = average([a.tensors for a in answers], samples if weights == "samples" else [1.0] * len(answers))
            model.load_state_dict(dict(state))
            rows.append({"round": step + 1, "samples": sum(samples), **(evaluate(model, step + 1) if evaluate else {})})
        return rows

    return run_federated(server, client, clients=clients, engine=engine, cpus=cpus)


def average(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of tensors by name; equal ones stay bit for bit.

    >>> average([{"w": torch.tensor(1.0)}, {"w": torch.tensor(4.0)}], [2, 1])
    {'w': tensor(2.)}

    Raises:
        ErlangenError: weights that are negative or all zero.
        ShapeError: states of different names.
    """
    if len(states) != len(weights) or not states or min(weights) < 0 or not sum(weights) > 0:
        raise ErlangenError(
            f"weights = {list(weights)} for {len(states)} states; give one each, none negative, not all zero"
        )
    if any(set(state) != set(states[0]) for state in states):
        raise ShapeError("the states have tensors of different names; average states of one model")
    total = float(sum(weights))
    mean: dict[str, Tensor] = {}
    for name, first in states[0].items():
        if not first.is_floating_point():
            mean[name] = first.clone()
            continue
        # Steps from the first state: equal states leave it as it is, whatever the weights round to.
        base = first.double()
        steps = [weight / total * (state[name].double() - base) for state, weight in zip(states, weights, strict=True)]
        mean[name] = (base + torch.stack(steps).sum(0)).to(first.dtype)
    return mean


def _chosen(clients: Iterable[int] | None, count: int) -> list[int]:
    chosen = list(range(count)) if clients is None else list(clients)
    for number in chosen:
        if not 0 <= number < count:
            raise DataError(f"client {number} was asked, but clients are 0 to {count - 1}")
    return chosen


def _checked(parcel: object, what: str) -> Parcel:
    if not isinstance(parcel, Parcel):
        raise DataError(f"{what} is a {type(parcel).__name__}; give a Parcel of tensors and numbers")
    for name, tensor in parcel.tensors.items():
        if not isinstance(tensor, Tensor):
            raise DataError(f"{what}: {name!r} is a {type(tensor).__name__} among the tensors")
    return parcel


# --- Flower ----------------------------------------------------------------------------------------------------------
def flower_apps(server: Callable[[Ask], T], client: Client, count: int) -> tuple[Any, Any, list[T]]:
    """A Flower ``ServerApp`` and ``ClientApp`` for a deployment, and the list into which the server's answer is put.

    Client numbers are the ``partition-id`` of the node. Raises `MissingExtraError` where Flower is not installed.
    """
    flwr = _flower()
    result: list[T] = []
    client_app = flwr.clientapp.ClientApp()

    @client_app.query()
    def answer(message: Any, context: Any) -> Any:
        number = int(context.node_config["partition-id"])
        numbers: dict[str, float] = dict(message.content["numbers"])
        if numbers.pop("erlangen-introduction", 0.0):
            reply = Parcel({}, {})
        else:
            reply = _checked(client(number, Parcel(_unpacked(message.content["tensors"]), numbers)), f"client {number}")
        return flwr.app.Message(_packed(flwr, reply, number), reply_to=message)

    server_app = flwr.serverapp.ServerApp()

    @server_app.main()
    def main(grid: Any, context: Any) -> None:
        nodes: dict[int, int] = {}

        def ask_nodes(parcel: Parcel, ids: list[int]) -> dict[int, tuple[int, Parcel]]:
            content = _packed(flwr, parcel, -1)
            messages = [flwr.app.Message(content, dst_node_id=node, message_type="query") for node in ids]
            answers: dict[int, tuple[int, Parcel]] = {}
            for reply in grid.send_and_receive(messages):
                node = reply.metadata.src_node_id
                if reply.has_error():
                    number = {n: i for i, n in nodes.items()}.get(node, "?")
                    raise DataError(f"client {number} failed: {reply.error.reason}")
                numbers = dict(reply.content["numbers"])
                answers[node] = (
                    int(numbers.pop("erlangen-client")),
                    Parcel(_unpacked(reply.content["tensors"]), numbers),
                )
            return answers

        while len(list(grid.get_node_ids())) < count:  # nodes join one by one
            time.sleep(0.1)
        for node, (number, _) in ask_nodes(
            Parcel({}, {"erlangen-introduction": 1.0}), list(grid.get_node_ids())
        ).items():
            nodes[number] = node

        def ask(parcel: Parcel, clients: Sequence[int] | None = None) -> list[Parcel]:
            chosen = _chosen(clients, count)
            answers = ask_nodes(_checked(parcel, "the question"), [nodes[number] for number in chosen])
            return [answers[nodes[number]][1] for number in chosen]

        result.append(server(ask))

    return server_app, client_app, result


def _run_flower(server: Callable[[Ask], T], client: Client, clients: int, cpus: float) -> T:
    flwr = _flower()
    server_app, client_app, result = flower_apps(server, client, clients)
    options = {"client_resources": {"num_cpus": cpus, "num_gpus": 0.0}}
    flwr.simulation.run_simulation(server_app, client_app, num_supernodes=clients, backend_config=options)
    if not result:
        raise DataError("Flower's run ended without an answer of the server; its log above says why")
    return result[0]


def _flower() -> Any:
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # read when it is imported
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a notice about GPUs that nobody asked for
    try:
        for part in ("app", "clientapp", "serverapp", "simulation"):
            importlib.import_module(f"flwr.{part}")
        return importlib.import_module("flwr")
    except ImportError as error:
        raise MissingExtraError("flwr", "federated", "a federated run through Flower") from error


def _packed(flwr: Any, parcel: Parcel, client: int) -> Any:
    sent = parcel.copied()
    numbers = {name: float(value) for name, value in sent.numbers.items()}
    if client >= 0:
        numbers["erlangen-client"] = float(client)
    tensors = flwr.app.ArrayRecord({name: flwr.app.Array(tensor.numpy()) for name, tensor in sent.tensors.items()})
    return flwr.app.RecordDict({"tensors": tensors, "numbers": flwr.app.ConfigRecord(numbers)})


def _unpacked(record: Any) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array.numpy().copy()) for name, array in record.items()}

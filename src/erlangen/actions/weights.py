"""Groups that act on the weights of a network: streams of units, and the tensors that they run through.

What flows between two layers is a stream of n units. A key g of the stream changes what makes the units to
``g W`` and what reads them to ``W g^-1``; where the layers between commute with g, the network stays the same function.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from erlangen.actions.base import Action, Tree, broadcast_lead, tree_structure
from erlangen.errors import ActionError, ShapeError, SymmetryError
from erlangen.groups import DirectProduct, Group, Hyperoctahedral, Monomial, Symmetric, Wreath

Role = Literal["out", "in", "places"]
"""What a stream does along an axis: g (units are made), its inverse transpose (they are read), or its permutation alone."""


@dataclass(frozen=True)
class Port:
    """An axis of one tensor of a ``state_dict`` that a stream runs through.

    Attributes:
        parameter: name in the ``state_dict``.
        axis: of the tensor, from the front.
        role: "out" where units are made, "in" where they are read, "places" where they are only renamed (statistics of a
            batch normalisation).
        start: first entry of the stream on the axis.
        inner: entries per unit, for example the pixels of a channel behind a flatten.
        entries: first entry of each unit instead of `start`, where units do not follow one another.
        factors: which set of factors applies, for `Monomial` with several; which of the groups, for `Wreath` with several.
    """

    parameter: str
    axis: int
    role: Role = "out"
    start: int = 0
    inner: int = 1
    entries: tuple[int, ...] | None = None
    factors: int = 0

    def index(self, n: int) -> Tensor:
        """Entries of the axis ``[n * inner]``, unit by unit."""
        first = torch.tensor(self.entries) if self.entries is not None else self.start + self.inner * torch.arange(n)
        return (first[:, None] + torch.arange(self.inner)).flatten()


@dataclass(frozen=True)
class Stream:
    """Units that a group may mix, and all ports through which they run.

    Args:
        name: what it is called in reports.
        group: `Symmetric`, `Hyperoctahedral` or `Monomial` for units behind a pointwise activation, or a group that acts on
            R^n, such as ``O(n)`` or ``GL+(n)``, for units that only linear maps touch; `Wreath` for heads, which may change
            places too.
        ports: where.
    """

    name: str
    group: Group
    ports: tuple[Port, ...]

    @property
    def n(self) -> int:
        """Units."""
        if isinstance(self.group, Wreath):
            return self.group.units
        return self.group.n if isinstance(self.group, (Monomial, Hyperoctahedral)) else self.group.space_dim


@dataclass(frozen=True)
class WeightStreams:
    """The streams of a network; each may have its own key, so the group is their product.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> streams = WeightStreams.declare(net, [
    ...     Stream("hidden", Symmetric(8), (Port("0.weight", 0), Port("0.bias", 0), Port("2.weight", 1, "in"))),
    ... ])
    >>> other = streams.transformed(net, streams.group.sample(1)[0])
    >>> x = torch.randn(5, 4)
    >>> torch.allclose(net(x), other(x), atol=1e-6)
    True

    `erlangen.actions.weight_streams` finds them by following the network. `Weights` is the action on a ``state_dict``.

    Attributes:
        streams: in the order of the network.
        shapes: name and shape of every tensor of the ``state_dict``.
        aliases: names under which one and the same tensor appears again, with its first name.
    """

    streams: tuple[Stream, ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    aliases: tuple[tuple[str, str], ...] = ()

    @classmethod
    def declare(cls, model: nn.Module, streams: list[Stream] | tuple[Stream, ...]) -> WeightStreams:
        """Streams by hand, checked against the tensors of a model.

        Raises:
            SymmetryError: a port names no tensor, entries that its axis does not have, or a tensor by its second name.
        """
        shapes, aliases = tensor_shapes(model)
        known, tied = dict(shapes), dict(aliases)
        for stream in streams:
            for port in stream.ports:
                where = f"stream {stream.name!r}: port {port.parameter!r}"
                if port.parameter not in known:
                    raise SymmetryError(f"{where} is no tensor of the model; its tensors are {', '.join(known)}")
                if port.parameter in tied:  # it would be overwritten by what happens to the first
                    raise SymmetryError(
                        f"{where} is tied to {tied[port.parameter]!r}, one tensor with one key: declare its ports under that name"
                    )
                shape = known[port.parameter]
                if not 0 <= port.axis < len(shape):
                    raise SymmetryError(f"{where} of shape {shape} has no axis {port.axis}")
                index = port.index(stream.n)
                if len(index) != stream.n * port.inner or int(index.max()) >= shape[port.axis] or int(index.min()) < 0:
                    raise SymmetryError(
                        f"{where}: {stream.n} units of {port.inner} entries from {port.start} on do not fit on axis {port.axis} "
                        f"of shape {shape}"
                    )
        return cls(tuple(streams), shapes, aliases)

    @property
    def group(self) -> Group:
        """The product of the groups of all streams; that of the only stream where there is one."""
        if not self.streams:
            raise SymmetryError(
                "no unit of this network can be moved without changing its function: there are no streams"
            )
        groups = [stream.group for stream in self.streams]
        return DirectProduct(*groups) if len(groups) > 1 else groups[0]

    def only(self, *names: str) -> WeightStreams:
        """The streams of these names; `SymmetryError` for a name that is none."""
        known = [stream.name for stream in self.streams]
        for name in names:
            if name not in known:
                raise SymmetryError(f"there is no stream {name!r}; streams are {', '.join(known)}")
        return WeightStreams(tuple(s for s in self.streams if s.name in names), self.shapes, self.aliases)

    def keys(self, g: Tensor) -> dict[str, Tensor]:
        """The key of each stream in an element of `group`, by name."""
        group = self.group
        if len(self.streams) == 1 or not isinstance(group, DirectProduct):
            return {self.streams[0].name: g}
        parts = iter(group.split(g))
        return {stream.name: _gathered(stream.group, parts) for stream in self.streams}

    def joined(self, keys: Mapping[str, Tensor]) -> Tensor:
        """The element of `group` with these keys; the inverse of `keys`."""
        group = self.group
        if set(keys) != {stream.name for stream in self.streams}:
            raise SymmetryError(
                f"keys are those of {', '.join(keys)}; give one for each of {[s.name for s in self.streams]}"
            )
        if len(self.streams) == 1 or not isinstance(group, DirectProduct):
            return keys[self.streams[0].name]
        parts: list[Tensor] = []
        for stream in self.streams:
            key = keys[stream.name]
            parts += stream.group.split(key) if isinstance(stream.group, DirectProduct) else (key,)
        return group.join(*parts)

    def act(self, g: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights after the change g; the first axes of every tensor stand against those of g.

        Args:
            g: elements of `group`. Products are taken in the wider of the dtypes of g and of a tensor, and rounded once.
            state: tensors by name, at least those that a port names; others are passed on.

        Raises:
            SymmetryError: a tensor is missing.
            ShapeError: a tensor has another shape than in the network.
        """
        keys, lead = self.keys(g), len(self.group.batch_shape(g))
        moved = dict(state)
        shapes, aliases = dict(self.shapes), dict(self.aliases)
        for name, tensor in state.items():
            shape = shapes.get(name, ())
            if tuple(tensor.shape[tensor.ndim - len(shape) :]) != shape or tensor.ndim < len(shape) + lead:
                raise ShapeError(
                    f"{name} has shape {tuple(tensor.shape)}: give {lead} batch axes, as many as g has, or more, and {shape}"
                )
            batch = broadcast_lead(tuple(self.group.batch_shape(g)), tuple(tensor.shape[:lead]))
            moved[name] = tensor.expand((*batch, *tensor.shape[lead:]))
        for stream in self.streams:
            for port in stream.ports:
                if port.parameter not in moved:
                    raise SymmetryError(
                        f"the weights lack {port.parameter!r}, which the stream {stream.name!r} runs through"
                    )
                axis = port.axis - len(shapes[port.parameter])
                moved[port.parameter] = _move(stream, keys[stream.name], port, moved[port.parameter], axis)
        for alias, name in aliases.items():
            if alias in moved and name in moved:
                moved[alias] = moved[name]
        return moved

    def transformed(self, model: nn.Module, g: Tensor) -> nn.Module:
        """A copy of the model with its weights changed by one element g."""
        if self.group.batch_shape(g):
            raise ShapeError(f"g has shape {tuple(g.shape)}; give one element of shape {self.group.shape}")
        twin = copy.deepcopy(model)
        twin.load_state_dict(self.act(g, {name: t.detach() for name, t in model.state_dict().items()}))
        return twin

    def charges(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What gradient flow conserves: for each stream ``sum of W W^T where it is made - sum of W^T W where it is read``.

        ``[n, n]`` for groups of matrices; the diagonal ``[n]`` for `Monomial`, whose factors are a flow each (Du, Hu and Lee
        2018, theorem 2.1 and corollary 2.1). Streams of permutations or signs alone have no flow, hence no charge.
        Discrete steps of size eta move charges by O(eta) over a fixed time; weight decay shrinks them.
        """
        found: dict[str, Tensor] = {}
        for stream in self.streams:
            if stream.group.dim == 0:
                continue
            total: Tensor | None = None
            for port in stream.ports:
                if port.role == "places":
                    continue
                rows = state[port.parameter].movedim(port.axis, 0)[port.index(stream.n)]
                rows = rows.reshape(stream.n, -1)
                part = rows.square().sum(1) if isinstance(stream.group, Monomial) else rows @ rows.mT
                part = part if port.role == "out" else -part
                total = part if total is None else total + part
            if total is not None:
                found[stream.name] = total
        return found

    def __str__(self) -> str:
        rows = [f"{s.name}: {s.group.name}, {', '.join(_port_text(p) for p in s.ports)}" for s in self.streams]
        return "\n".join(rows) or "no streams"


@dataclass(frozen=True)
class Weights(Action):
    """A ``state_dict`` (tensors by name) under the keys of its streams.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    >>> streams = WeightStreams.declare(net, [
    ...     Stream("hidden", Hyperoctahedral(8), (Port("0.weight", 0), Port("0.bias", 0), Port("2.weight", 1, "in"))),
    ... ])
    >>> move = Weights(streams).on(streams.group)
    >>> move.act(streams.group.sample(7), {k: v[None] for k, v in net.state_dict().items()})["2.weight"].shape
    torch.Size([7, 3, 8])
    """

    streams: WeightStreams
    item_ndim = 0

    @property
    @override
    def name(self) -> str:
        return "weights"

    def check_group(self, group: Group) -> None:
        """The group must be that of the streams."""
        if group != self.streams.group:
            raise ActionError(f"weights: the streams have the group {self.streams.group.name}, not {group.name}")

    def apply(self, group: Group, g: Tensor, x: Tree) -> dict[str, Tensor]:
        """Every tensor by the keys of the streams that run through it."""
        if not isinstance(x, Mapping):
            raise ActionError(f"x is {tree_structure(x)}, but weights are tensors by name, as state_dict() gives them")
        return self.streams.act(g, x)


def _gathered(group: Group, parts: Iterator[Tensor]) -> Tensor:
    """The next element of a factor; a product inside of a product lies there with its own factors side by side."""
    if not isinstance(group, DirectProduct):
        return next(parts)
    return group.join(*(next(parts) for _ in group.factors))


def tensor_shapes(model: nn.Module) -> tuple[tuple[tuple[str, tuple[int, ...]], ...], tuple[tuple[str, str], ...]]:
    """Names and shapes of all tensors of a model, and second names of tensors that it holds twice."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    aliases: list[tuple[str, str]] = []
    first: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        shapes.append((name, tuple(tensor.shape)))
        if id(tensor) in first:
            aliases.append((name, first[id(tensor)]))
        first.setdefault(id(tensor), name)
    return tuple(shapes), tuple(aliases)


def _move(stream: Stream, key: Tensor, port: Port, tensor: Tensor, axis: int) -> Tensor:
    """A tensor whose negative axis the key moves; batch axes of the key stand against the first ones of the tensor."""
    lead = len(stream.group.batch_shape(key))
    rows = tensor.movedim(axis, -1)
    index = port.index(stream.n).to(tensor.device)
    units = rows.index_select(-1, index).unflatten(-1, (stream.n, port.inner))
    middle = [1] * (units.ndim - lead - 2)
    group = stream.group
    if isinstance(group, (Symmetric, Monomial, Hyperoctahedral)):
        places = key if isinstance(group, Symmetric) else group.places(key)
        if not isinstance(group, Symmetric) and port.role != "places":
            factors = group.factors(key)[..., port.factors, :]
            factors = factors.reshape(*factors.shape[:-1], *middle, stream.n, 1).to(_wider(tensor, key))
            units = units.to(factors.dtype) * (factors if port.role == "out" else factors.reciprocal())
        back = places.argsort(-1).reshape(*places.shape[:-1], *middle, stream.n, 1)
        units = units.gather(-2, back.expand(units.shape))
    elif port.role == "places":
        raise SymmetryError(
            f"stream {stream.name!r}: {group.name} mixes units and cannot only rename them at {port.parameter!r}"
        )
    else:
        matrix = group.matrices(key, port.factors) if isinstance(group, Wreath) else group.linear(key)
        matrix = matrix.to(_wider(tensor, matrix))
        # Where units are read W becomes W g^-1, which is the inverse transpose along the axis.
        matrix = matrix if port.role == "out" else torch.linalg.inv(matrix).mT
        units = matrix.reshape(*matrix.shape[:-2], *middle, stream.n, stream.n) @ units.to(matrix.dtype)
    return rows.index_copy(-1, index, units.flatten(-2).to(tensor.dtype)).movedim(-1, axis)


def _wider(tensor: Tensor, key: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, key.dtype) if key.is_floating_point() else tensor.dtype


def _port_text(port: Port) -> str:
    return f"{port.parameter}[{port.axis}] {port.role}"

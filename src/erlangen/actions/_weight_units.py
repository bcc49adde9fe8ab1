"""What is known of the units of a network while its graph is followed: who shares them, and what they allow."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from erlangen.actions.weights import Port, Role, Stream
from erlangen.groups import GLPlus, Group, Hyperoctahedral, Monomial, O, Symmetric

POSITIVE, SIGN = "positive", "sign"
ALL = frozenset({POSITIVE, SIGN})
LINEAR, ORTHOGONAL, MONOMIAL, FIXED = 3, 2, 1, 0
"""How much a set of units may be mixed: by any matrix, by orthogonal ones, by renaming and factors, not at all."""

MAX_DENSE = 64
"""Units that a key of GL+ may have, whose proposal needs a basis of n^4 numbers; wider streams get factors."""


class Class:
    """A class of a union-find structure."""

    def __init__(self) -> None:
        self._parent: Any = None

    @property
    def root(self) -> Any:
        return self if self._parent is None else self._parent.root


class Places(Class):
    """Units that share one permutation."""

    def __init__(self, n: int, name: str, level: int = LINEAR) -> None:
        super().__init__()
        self.n, self.name, self.level = n, name, level

    def limit(self, level: int) -> None:
        self.root.level = min(self.root.level, level)

    def unite(self, other: Places) -> None:
        a, b = self.root, other.root
        if a is not b:
            a.level = min(a.level, b.level)
            b._parent = a


class Factors(Class):
    """Units that share one set of factors, and which factors are allowed."""

    def __init__(self, allowed: frozenset[str] = ALL) -> None:
        super().__init__()
        self.allowed = allowed

    def limit(self, allowed: frozenset[str]) -> None:
        self.root.allowed &= allowed

    def unite(self, other: Factors) -> None:
        a, b = self.root, other.root
        if a is not b:
            a.allowed &= b.allowed
            b._parent = a


@dataclass(frozen=True)
class Piece:
    """A run of units on an axis, each of `inner` entries."""

    places: Places
    factors: Factors
    inner: int = 1

    @property
    def size(self) -> int:
        return self.places.n * self.inner

    def limit(self, level: int, allowed: frozenset[str] = ALL) -> None:
        self.places.limit(level)
        self.factors.limit(allowed)


@dataclass(frozen=True)
class Value:
    """A tensor with units along one axis, counted from the end."""

    axis: int
    pieces: tuple[Piece, ...]

    def limit(self, level: int, allowed: frozenset[str] = ALL) -> None:
        for piece in self.pieces:
            piece.limit(level, allowed)


@dataclass
class Passage:
    """Units that run along an axis of a tensor, from entry `start` on: a `Port` of which the group is not known yet."""

    parameter: str
    axis: int
    role: Role
    start: int
    piece: Piece


NONE: frozenset[str] = frozenset()
KEEP = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
AVERAGES = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.Upsample, nn.ZeroPad1d, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d),
)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU)
ODD = (nn.Tanh, nn.Softsign, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink)
POINTWISE = (
    *(nn.GELU, nn.SiLU, nn.Sigmoid, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Mish, nn.Hardswish, nn.Hardsigmoid),
    *(nn.ReLU6, nn.LogSigmoid, nn.Hardtanh),
)
FUNCTIONS: dict[Any, frozenset[str] | None] = {
    # what a pointwise function allows; None for one that allows all
    **dict.fromkeys(
        (F.relu, torch.relu, F.leaky_relu, F.max_pool1d, F.max_pool2d, F.adaptive_max_pool2d), frozenset({POSITIVE})
    ),
    **dict.fromkeys((torch.tanh, F.tanh, torch.erf, torch.sin, torch.asinh, operator.neg), frozenset({SIGN})),
    **dict.fromkeys((F.gelu, F.silu, torch.sigmoid, F.sigmoid, F.elu, F.softplus, torch.exp, torch.cos, F.mish), NONE),
    **dict.fromkeys((F.dropout, F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool2d, F.interpolate), None),
}
METHODS: dict[str, frozenset[str] | None] = {
    **dict.fromkeys(("relu",), frozenset({POSITIVE})),
    **dict.fromkeys(("tanh",), frozenset({SIGN})),
    **dict.fromkeys(("sigmoid", "exp"), NONE),
    **dict.fromkeys(("contiguous", "float", "double", "clone", "detach", "to"), None),
}


class Passages:
    """All passages of units through tensors, as they are found.

    Attributes:
        shapes: of the tensors by name.
        first: the first name of a tensor that has several, by its other names.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], first: dict[str, str]) -> None:
        self.shapes, self.first = shapes, first
        self.ports: list[Passage] = []

    def along(self, parameter: str, axis: int, role: Role, value: Value) -> None:
        """Record that the units of a value run along an axis of a tensor, if the model has it."""
        if parameter not in self.shapes:
            return
        parameter = self.first.get(parameter, parameter)
        start = 0
        for piece in value.pieces:
            self.record(Passage(parameter, axis, role, start, piece))
            start += piece.size

    def record(self, port: Passage) -> None:
        for known in self.ports:
            if (known.parameter, known.axis) != (port.parameter, port.axis):
                continue
            same = (known.start, known.piece.inner, known.piece.places.n) == (
                port.start,
                port.piece.inner,
                port.piece.places.n,
            )
            apart = known.start + known.piece.size <= port.start or port.start + port.piece.size <= known.start
            if same:  # a tensor that is used twice
                known.piece.places.unite(port.piece.places)
                if known.role == port.role:
                    known.piece.factors.unite(port.piece.factors)
                elif {known.role, port.role} == {"in", "out"}:
                    # Made and read by one tensor: the key must be its own inverse transpose.
                    known.piece.limit(ORTHOGONAL, frozenset({SIGN}))
                    known.piece.factors.unite(port.piece.factors)
                else:
                    known.piece.factors.limit(NONE)
                    port.piece.factors.limit(NONE)
                return
            if not apart:
                known.piece.limit(FIXED)
                port.piece.limit(FIXED)
        self.ports.append(port)

    def tie(self, a: Value | None, b: Value | None) -> None:
        """Two values that hold the same units with the same factors."""
        if a is None or b is None:
            for value in (a, b):
                if value is not None:
                    value.limit(FIXED)
            return
        if self.tie_places(a, b):
            for p, q in zip(a.pieces, b.pieces, strict=True):
                p.factors.unite(q.factors)

    @staticmethod
    def tie_places(a: Value, b: Value) -> bool:
        sizes = [[(p.places.n, p.inner) for p in value.pieces] for value in (a, b)]
        if a.axis != b.axis or sizes[0] != sizes[1]:
            a.limit(FIXED)
            b.limit(FIXED)
            return False
        for p, q in zip(a.pieces, b.pieces, strict=True):
            p.places.unite(q.places)
        return True

    def streams(self) -> list[Stream]:
        groups: dict[int, list[Passage]] = {}
        for port in self.ports:
            groups.setdefault(id(port.piece.places.root), []).append(port)
        found: list[Stream] = []
        for ports in groups.values():
            places: Places = ports[0].piece.places.root
            if places.level == FIXED or places.n < 2 or not any(port.role == "out" for port in ports):
                continue
            sets: list[Factors] = []
            for port in ports:
                factors = port.piece.factors.root
                if port.role != "places" and factors not in sets:
                    sets.append(factors)
            group, carriers = largest_group(places, sets)
            made = [
                Port(
                    port.parameter,
                    port.axis,
                    port.role if carries(group, port, carriers) else "places",
                    port.start,
                    port.piece.inner,
                    factors=carriers.index(port.piece.factors.root) if port.piece.factors.root in carriers else 0,
                )
                for port in ports
            ]
            found.append(Stream(places.name, group, tuple(made)))
        return found


def carries(group: Group, port: Passage, carriers: list[Factors]) -> bool:
    """Whether a key does more at a port than rename; permutations keep the roles, for those who read the ports."""
    return isinstance(group, Symmetric) or (port.role != "places" and port.piece.factors.root in carriers)


def largest_group(places: Places, sets: list[Factors]) -> tuple[Group, list[Factors]]:
    """The largest group that units allow, and the sets of factors that it moves."""
    n = places.n
    if len(sets) == 1 and places.level in (LINEAR, ORTHOGONAL) and SIGN in sets[0].allowed:
        both = sets[0].allowed == ALL
        dense = dense_group(n) if places.level == LINEAR and both else O(n)
        if dense is not None:
            return dense, sets
    positive = [s for s in sets if POSITIVE in s.allowed]
    if positive:
        return Monomial(n, sets=len(positive)), positive
    signed = [s for s in sets if SIGN in s.allowed][:1]
    return (Hyperoctahedral(n), signed) if signed else (Symmetric(n), [])


def dense_group(n: int) -> Group | None:
    """All matrices of positive determinant, unless a basis of them were too large."""
    return GLPlus(n) if n <= MAX_DENSE else None

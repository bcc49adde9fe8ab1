"""Keyed obfuscation of a model: the server computes with changed weights on changed data, the client alone holds the key.

Buban, Zhang, Angione et al. (2025), who call it equivariant encryption. A layer F is replaced by F' with ``F'(g x) = h F(x)``,
so that ``dec(F'(enc(x))) = F(x)``; between streams with keys g_in and g_out a map ``W x + b`` becomes ``g_out W g_in^-1`` and
``g_out b``. It hides nothing that these groups leave alone and is no encryption: see `ObfuscationWarning`.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import Port, Stream, WeightStreams, weight_streams
from erlangen.actions.weight_graph import tensor_shapes
from erlangen.errors import DtypeError, ErlangenWarning, ModelError, ShapeError, SymmetryError
from erlangen.groups import CSO, SO, GLPlus, Group, Hyperoctahedral, Monomial, O, Symmetric

NOT_PROTECTED = (
    "keyed obfuscation is no encryption: it is deterministic and keeps equality, frequencies, norms and inner products; it is "
    "undone by a copy of the public weights, by known inputs, or by statistics of the inputs"
)


class ObfuscationWarning(ErlangenWarning):
    """Said once in a process, at the first obfuscation: what it does not protect."""


@dataclass(frozen=True, repr=False)
class ObfuscationKey:
    """An element of the group of a model's streams: one key for each, the client's secret.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    >>> streams = obfuscated_streams(net, torch.zeros(1, 4).double(), input=O(4), output=Symmetric(3))
    >>> import warnings
    >>> warnings.simplefilter("ignore", ObfuscationWarning)  # it says what is not protected
    >>> model = ObfuscatedModel(net, ObfuscationKey.generate(streams, b"a secret"))
    >>> x = torch.randn(5, 4, dtype=torch.float64)
    >>> torch.allclose(model(x), net(x)), torch.allclose(model.server(x), net(x))
    (True, False)

    The key lies apart from the weights; the server's model does not hold it.

    Attributes:
        streams: of the model, with those of the client.
        element: of ``streams.group``; float64 where that is floating.
    """

    streams: WeightStreams
    element: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        group = self.streams.group
        if group.batch_shape(self.element) or not bool(
            group.contains(self.element)
        ):  # an error must not print the secret
            raise SymmetryError(
                "element is none of the group of the streams; make keys with generate, or from other keys"
            )

    @classmethod
    def generate(
        cls, streams: WeightStreams, secret: bytes, *, fixed: Mapping[str, tuple[int, ...]] | None = None
    ) -> ObfuscationKey:
        """A key from a secret: each stream's own seed by HKDF, each key from Haar measure or its group's proposal.

        Args:
            streams: of the model.
            secret: at least one byte; the same secret gives the same key. torch's generator, which turns 56 bits of it into
                a key, is none that cryptography trusts.
            fixed: by name of a stream of permutations, places that stay, such as the ids that the server has to know.

        Raises:
            SymmetryError: an empty secret, or places of a stream that has none.
        """
        if not secret:
            raise SymmetryError("secret is empty; give some random bytes, such as secrets.token_bytes(32)")
        fixed = dict(fixed or {})
        keys: dict[str, Tensor] = {}
        for stream in streams.streams:
            seed = int.from_bytes(hkdf(secret, stream.name.encode(), 7), "big")
            key = stream.group.sample(1, generator=Generator().manual_seed(seed), dtype=torch.float64)[0]
            keys[stream.name] = _kept(stream, key, fixed.pop(stream.name, ()))
        if fixed:
            raise SymmetryError(
                f"fixed names {', '.join(fixed)}, no streams; streams are {', '.join(s.name for s in streams.streams)}"
            )
        return cls(streams, streams.joined(keys))

    @classmethod
    def identity(cls, streams: WeightStreams) -> ObfuscationKey:
        """The key that changes nothing."""
        return cls(streams, streams.group.identity(dtype=torch.float64))

    def inverse(self) -> ObfuscationKey:
        """The key that undoes this one."""
        return ObfuscationKey(self.streams, self.streams.group.inverse(self.element))

    def after(self, first: ObfuscationKey) -> ObfuscationKey:
        """The key of a model that was obfuscated with `first`, and then with this one.

        Raises:
            SymmetryError: the keys have other streams.
        """
        if first.streams != self.streams:
            raise SymmetryError("the keys have different streams; both need those of one model")
        return ObfuscationKey(self.streams, self.streams.group.compose(self.element, first.element))

    def of(self, stream: str) -> Tensor:
        """The key of one stream."""
        return self._keys[self.streams.only(stream).streams[0].name]

    @cached_property
    def _keys(self) -> dict[str, Tensor]:
        return self.streams.keys(self.element)

    def moved(self, stream: str, x: Tensor, axis: int = -1) -> Tensor:
        """What flows through a stream, under its key: units of x along an axis."""
        found = self.streams.only(stream).streams[0]
        if x.shape[axis] != found.n:
            raise ShapeError(f"x has shape {tuple(x.shape)}: axis {axis} needs the {found.n} units of {stream!r}")
        return self.flow(x, {stream: (Port("x", axis % x.ndim),)})

    def flow(self, x: Tensor, ports: Mapping[str, tuple[Port, ...]]) -> Tensor:
        """A tensor "x" under the keys of some streams, through these ports of it."""
        streams = tuple(Stream(name, self.streams.only(name).streams[0].group, there) for name, there in ports.items())
        one = WeightStreams(streams, (("x", tuple(x.shape)),))
        return one.act(one.joined({name: self.of(name) for name in ports}), {"x": x})["x"]

    def __repr__(self) -> str:
        return f"ObfuscationKey({', '.join(f'{s.name}: {s.group.name}' for s in self.streams.streams)})"


@dataclass(frozen=True)
class ObfuscationClient:
    """What the user does: encode inputs, decode answers.

    Args:
        key: the secret.
        input: stream of the inputs; None sends them as they are. Where inputs are ids it is a stream of permutations.
        output: stream of the answers; None where they come back in clear.
        axis: of the units in inputs that are no ids: -1 for vectors, 1 for channels of images.
    """

    key: ObfuscationKey
    input: str | None = "input"
    output: str | None = "output"
    axis: int = -1

    def __post_init__(self) -> None:
        for name in (self.input, self.output):
            if name is not None:
                self.key.streams.only(name)

    def encode(self, x: Tensor) -> Tensor:
        """Inputs as the server gets them; ids, int64, are renamed.

        Raises:
            ShapeError: another number of units.
            DtypeError: neither floating numbers nor whole ones.
            SymmetryError: ids where the stream is none of permutations, or ids that are not in the vocabulary.
        """
        if self.input is None:
            return x
        return self._renamed(self.input, x) if not x.is_floating_point() else self.key.moved(self.input, x, self.axis)

    def decode(self, y: Tensor) -> Tensor:
        """Answers, such as logits ``[..., classes]``, from those of the server; ids that it chose get their own names."""
        if self.output is None:
            return y
        if not y.is_floating_point():
            return ObfuscationClient(self._back, self.output, None)._renamed(self.output, y)
        return self._back.moved(self.output, y)

    @cached_property
    def _back(self) -> ObfuscationKey:
        return self.key.inverse()

    def _renamed(self, stream: str, ids: Tensor) -> Tensor:
        if ids.dtype == torch.bool or ids.is_complex():
            raise DtypeError(f"x has dtype {ids.dtype}; give ids as int64, or vectors of floating numbers")
        found = self.key.streams.only(stream).streams[0]
        if not isinstance(found.group, Symmetric):
            raise SymmetryError(f"x holds ids, but {stream!r} has the group {found.group.name}, no permutations")
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < found.n:
            raise SymmetryError(
                f"x holds ids from {int(ids.min())} to {int(ids.max())}; {stream!r} has 0 to {found.n - 1}"
            )
        return self.key.of(stream)[ids.long()]  # as bytes they would be a mask


class ObfuscatedModel:
    """Client and server in one: ``model(x)`` encodes, asks the server's model, and decodes.

    Attributes:
        server: what the server gets: a model with the same code and shapes, and other weights.
        client: what stays with the user.

    Raises:
        ModelError, ShapeError, SymmetryError: see `obfuscate`.
    """

    def __init__(self, model: nn.Module, key: ObfuscationKey, client: ObfuscationClient | None = None) -> None:
        self.server = obfuscate(model, key)
        self.client = client or ObfuscationClient(key)

    def __call__(self, x: Tensor) -> Tensor:
        """The answer of the original model."""
        return self.client.decode(self.server(self.client.encode(x)))


_warned = False


def obfuscate(model: nn.Module, key: ObfuscationKey) -> nn.Module:
    """The model for the server: its weights under the key, computed in float64 and rounded once. The model stays as it is.

    Raises:
        ShapeError: the key is that of another architecture.
        ModelError: normalisations are in train mode, hooks are registered, or the vocabulary renames an id that the model reads.
        SymmetryError: a tensor of integers under a key that does more than to rename.
    """
    global _warned
    if not _warned:
        warnings.warn(NOT_PROTECTED, ObfuscationWarning, stacklevel=2)
        _warned = True
    _check_model(model, key)
    return key.streams.transformed(model, key.element)


def obfuscated_streams(
    model: nn.Module,
    example: Tensor,
    *,
    input: Group | None = None,  # noqa: A002 - as in er.Symmetry
    output: Group | None = None,
    groups: Mapping[str, Group] | None = None,
) -> WeightStreams:
    """Streams of a model that torch.fx can follow, with those of the client at both ends.

    Args:
        model: for the ends a `torch.nn.Sequential` that begins (after flattening) and ends with a linear map or a convolution.
        example: an input.
        input, output: groups of the client's streams "input" and "output".
        groups: by name of a hidden stream, a smaller group than the largest that its layers commute with.

    Raises:
        ModelError: a layer without a rule (`erlangen.actions.weight_streams`), or ends that are no linear maps.
        SymmetryError: a group that does not commute with the layers of its stream.
    """
    found = weight_streams(model, example)
    chosen = dict(groups or {})
    streams = [_chosen(stream, chosen.pop(stream.name, None)) for stream in found.streams]
    if chosen:
        raise SymmetryError(f"groups names {', '.join(chosen)}; streams are {', '.join(s.name for s in found.streams)}")
    if input is not None:
        name, _ = _end(model, last=False)
        streams.append(Stream("input", input, (Port(f"{name}.weight", 1, "in"),)))
    if output is not None:
        name, layer = _end(model, last=True)
        ports = [Port(f"{name}.weight", 0)] + ([Port(f"{name}.bias", 0)] if layer.bias is not None else [])
        streams.append(Stream("output", output, tuple(ports)))
    return WeightStreams.declare(model, streams)


def fold_gain(norm: nn.LayerNorm | nn.RMSNorm, readers: Iterable[nn.Linear]) -> None:
    """Move gain and bias of a normalisation into all linear maps that read it, in place; they become 1 and 0.

    Where W reads ``gain * n + bias``, ``W diag(gain)`` and ``b + W bias`` read n.

    Raises:
        ModelError: a reader without a bias, where the normalisation has one that is not zero.
    """
    gain, bias = norm.weight, getattr(norm, "bias", None)
    if gain is None:
        return
    for reader in readers:
        with torch.no_grad():
            if bias is not None and bool(bias.any()):
                if reader.bias is None:
                    raise ModelError(
                        "a layer that reads the normalisation has no bias to take that of the normalisation"
                    )
                reader.bias += reader.weight @ bias
            reader.weight *= gain
    with torch.no_grad():
        gain.fill_(1)
        if bias is not None:
            bias.zero_()


def fold_mean(writers: Iterable[tuple[Tensor, int]]) -> None:
    """Subtract the mean over the units of a stream from all that writes to it, in place: tensors and their axis of units.

    A LayerNorm that reads the stream is an RMSNorm with the same eps then, which commutes with all of O(d).
    """
    with torch.no_grad():
        for tensor, axis in writers:
            tensor -= tensor.mean(axis, keepdim=True)


def activation_errors(
    model: nn.Module, server: nn.Module, key: ObfuscationKey, x: Tensor, encoded: Tensor
) -> dict[str, float]:
    """For every layer that a port names: how far what it makes, and what it reads, is from the original's under the key.

    Stronger than a comparison of answers, and it names the layer with a wrong fold.

    Returns:
        Largest difference over the largest entry, by "layer out" and "layer in".
    """
    sides: dict[str, dict[str, tuple[Port, ...]]] = {}
    for stream in key.streams.streams:
        for port in stream.ports:
            layer, _, tensor = port.parameter.rpartition(".")
            module = model.get_submodule(layer)
            embedding, grouped = (
                isinstance(module, nn.Embedding),
                port.role == "places" and not isinstance(module, nn.Linear),
            )
            if tensor == "weight" and not grouped and not (embedding and port.axis == 0):
                side = sides.setdefault(f"{layer} {'out' if port.axis == int(embedding) else 'in'}", {})
                side[stream.name] = (*side.get(stream.name, ()), port)
    plain, found = (_recorded(net, data, sides) for net, data in ((model, x), (server, encoded)))
    errors: dict[str, float] = {}
    for name, ports in sides.items():
        axis = 1 if plain[name].ndim == 4 else plain[name].ndim - 1
        there = {
            stream: tuple(_on_data(port, axis, name.endswith(" in")) for port in ps) for stream, ps in ports.items()
        }
        due = key.flow(plain[name], there)
        errors[name] = float((found[name] - due).abs().max() / due.abs().max())
    return errors


def hkdf(secret: bytes, info: bytes, length: int, salt: bytes = b"") -> bytes:
    """Bytes derived from a secret for one purpose: HKDF with SHA-256 (RFC 5869)."""
    pseudorandom = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    block, out = b"", b""
    while len(out) < length:
        block = hmac.new(pseudorandom, block + info + bytes([len(out) // 32 + 1]), hashlib.sha256).digest()
        out += block
    return out[:length]


# --- inside ----------------------------------------------------------------------------------------------------------
_ALLOWS: dict[type[Group], tuple[type[Group], ...]] = {
    Symmetric: (),
    Monomial: (Symmetric,),
    Hyperoctahedral: (Symmetric,),
    O: (Symmetric, Hyperoctahedral, SO),
    GLPlus: (Symmetric, Hyperoctahedral, Monomial, SO, O, CSO),
}
"""What else a stream's key may be from, by the largest group that its layers commute with."""


def _chosen(stream: Stream, group: Group | None) -> Stream:
    if group is None or group == stream.group:
        return stream
    smaller = Stream(stream.name, group, stream.ports)
    if type(group) not in (type(stream.group), *_ALLOWS.get(type(stream.group), ())) or smaller.n != stream.n:
        raise SymmetryError(
            f"groups: {group.name} does not commute with the layers of the stream {stream.name!r}, which allow "
            f"{stream.group.name}; fold gains first where a normalisation is in the way"
        )
    return Stream(stream.name, group, tuple(replace(port, factors=0) for port in stream.ports))


def _end(model: nn.Module, *, last: bool) -> tuple[str, nn.Linear | nn.Conv2d]:
    layers = list(model.named_children()) if isinstance(model, nn.Sequential) else []
    for name, layer in reversed(layers) if last else layers:
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            return name, layer
        if not isinstance(layer, nn.Identity):
            break
    raise ModelError(
        f"{type(model).__name__} does not {'end' if last else 'begin'} with a linear map; make it a torch.nn.Sequential that "
        "does, or declare the stream with WeightStreams.declare"
    )


def _kept(stream: Stream, key: Tensor, fixed: tuple[int, ...]) -> Tensor:
    """A random permutation made to fix some places; the others are uniform among themselves."""
    if not fixed:
        return key
    if not isinstance(stream.group, Symmetric) or not all(0 <= place < stream.n for place in fixed):
        raise SymmetryError(f"fixed: {stream.name!r} has the group {stream.group.name}, without places {list(fixed)}")
    free = torch.tensor([place for place in range(stream.n) if place not in fixed], dtype=torch.int64)
    kept = torch.arange(stream.n)
    kept[free] = free[key[free].argsort().argsort()]
    return kept


def _check_model(model: nn.Module, key: ObfuscationKey) -> None:
    shapes, aliases = tensor_shapes(model)
    if (shapes, aliases) != (key.streams.shapes, key.streams.aliases):
        other = [name for name, shape in shapes if dict(key.streams.shapes).get(name) != shape]
        raise ShapeError(
            f"key is that of another architecture: {', '.join(other[:3]) or 'tensors'} differ; make one for this model"
        )
    for name, module in model.named_modules():
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)  # pyright: ignore[reportPrivateUsage]
        if norm and module.training:
            raise ModelError(f"{name!r} normalises by the batch, which knows no key; call model.eval()")
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)  # pyright: ignore[reportPrivateUsage]
        if hooks:
            raise ModelError(f"{name!r} has hooks, which would see and change obfuscated activations; remove them")
    state = model.state_dict()
    for stream in key.streams.streams:
        for port in stream.ports:
            tensor = state[port.parameter]
            if not tensor.is_floating_point() and not isinstance(stream.group, Symmetric) and port.role != "places":
                raise SymmetryError(
                    f"{port.parameter!r} holds {tensor.dtype}: {stream.group.name} makes numbers that are none; rename its units "
                    "alone (Symmetric), or obfuscate before the model is quantised"
                )
    read = tuple(getattr(model, "interpreted", ()))
    for stream in key.streams.streams:
        if stream.name == "vocabulary" and any(int(key.of("vocabulary")[i]) != i for i in read):
            raise ModelError(
                f"the model reads the ids {list(read)} itself; pass fixed={{'vocabulary': {read}}} to generate"
            )


def _on_data(port: Port, axis: int, reads: bool) -> Port:
    """The same units on what flows; what a map reads moves inversely to the axis along which it reads."""
    role = port.role if not reads else {"in": "out", "out": "in", "places": "places"}[port.role]
    return replace(port, parameter="x", axis=axis, role=role)


def _recorded(model: nn.Module, x: Tensor, ports: Iterable[str]) -> dict[str, Tensor]:
    """What flows in and out of layers while a copy of the model answers."""
    twin, seen = copy.deepcopy(model), dict[str, Tensor]()
    for name in ports:
        layer, _, side = name.rpartition(" ")

        def note(_: Any, given: tuple[Tensor, ...], made: Tensor, name: str = name, side: str = side) -> None:
            seen[name] = (made if side == "out" else given[0]).detach()

        twin.get_submodule(layer).register_forward_hook(note)
    with torch.no_grad():
        twin(x)
    return seen

"""Streams of a network found by following its graph (torch.fx): which tensors share units, and what these allow."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.fx
from torch import Tensor, nn
from typing_extensions import override

from erlangen.actions import _weight_units as units
from erlangen.actions._weight_units import Factors, Passages, Piece, Places, Value, dense_group
from erlangen.actions.weights import Port, Role, Stream, WeightStreams, tensor_shapes
from erlangen.errors import ModelError


def weight_streams(
    model: nn.Module,
    example: Tensor | tuple[Any, ...],
    *,
    unknown: Literal["error", "fix"] = "error",
) -> WeightStreams:
    """Find the streams of a network: which units may be mixed, by what, and through which tensors they run.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
    >>> print(weight_streams(net, torch.zeros(1, 4)))
    0: Monomial(8), 0.weight[0] out, 0.bias[0] out, 2.weight[1] in
    2: Hyperoctahedral(6), 2.weight[0] out, 2.bias[0] out, 4.weight[1] in

    ReLU, LeakyReLU and max pooling allow permutations with positive factors; odd activations such as tanh those with signs;
    other pointwise ones, and normalisations, permutations alone; RMSNorm without gain O(n); units that only linear maps touch
    GL+(n) (of at most `MAX_DENSE` units). Behind the gain of a normalisation factors are free again. What is added up (residual
    connections) shares its units; inputs and outputs of the network stay as they are. Each head of
    `torch.nn.MultiheadAttention` has a key for queries and keys and one for values.

    Args:
        model: a module that torch.fx can trace, as it is in eval mode; normalisations then use their running statistics.
        example: an input, or a tuple of inputs, for the shapes.
        unknown: what happens at a layer or function whose rule is not known: an error that names it, or "fix", which leaves the
            units on both sides as they are.

    Raises:
        ModelError: torch.fx cannot trace the model, or a rule is not known. Declare the streams by hand then, with
            `WeightStreams.declare`.
    """
    was_training = model.training
    model.eval()
    try:
        traced = torch.fx.symbolic_trace(model)
        _Shapes(traced).run(*(example if isinstance(example, tuple) else (example,)))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise ModelError(
            f"torch.fx cannot follow {type(model).__name__} on the example ({type(error).__name__}: {reason}); declare its "
            "streams with WeightStreams.declare"
        ) from error
    finally:
        model.train(was_training)
    follower = _Follower(model, traced, unknown)
    return follower.follow()


class _Shapes(torch.fx.Interpreter):
    """Runs the graph once and notes the shape of every tensor."""

    @override
    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"] = tuple(result.shape)
        return result


@dataclass
class _Follower:
    """Walks over a traced graph once, and collects ports."""

    model: nn.Module
    traced: torch.fx.GraphModule
    unknown: str
    heads: list[Stream] = field(default_factory=list)
    visited: dict[str, tuple[Value | None, Value | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.modules = dict(self.traced.named_modules(remove_duplicate=False))
        shapes, aliases = tensor_shapes(self.model)
        self.units = Passages(dict(shapes), dict(aliases))
        self.values: dict[torch.fx.Node, Value | None] = {}

    def follow(self) -> WeightStreams:
        for node in self.traced.graph.nodes:
            self.values[node] = self._node(node)
        streams = [*self.units.streams(), *self.heads]
        order = {name: i for i, name in enumerate(self.units.shapes)}
        streams.sort(key=lambda stream: min(order[port.parameter] for port in stream.ports))
        return WeightStreams.declare(self.model, streams)

    # --- nodes -------------------------------------------------------------------------------------------------------
    def _node(self, node: torch.fx.Node) -> Value | None:
        if node.op in ("placeholder", "get_attr"):
            return None
        if node.op == "output":
            self._fix(node)
            return None
        if node.op == "call_module":
            return self._module(node, str(node.target), self.modules[str(node.target)])
        if node.op == "call_method":
            return self._method(node, str(node.target))
        return self._function(node, node.target)

    def _fix(self, node: torch.fx.Node) -> None:
        """Leave all units that come into a node as they are."""
        for source in node.all_input_nodes:
            value = self.values[source]
            if value is not None:
                value.limit(units.FIXED)

    def _stranger(self, node: torch.fx.Node, what: str) -> None:
        if any(self.values[source] is not None for source in node.all_input_nodes):
            if self.unknown == "error":
                raise ModelError(
                    f"no rule is known for how {what} moves units ({node.name}); pass unknown='fix' to leave its units as they "
                    "are, or declare the streams with WeightStreams.declare"
                )
            self._fix(node)

    def _input(self, node: torch.fx.Node) -> Value | None:
        return self.values[node.args[0]] if isinstance(node.args[0], torch.fx.Node) else None

    @staticmethod
    def _shape(node: Any) -> tuple[int, ...]:
        return node.meta.get("shape", ())

    # --- modules -----------------------------------------------------------------------------------------------------
    def _module(self, node: torch.fx.Node, name: str, module: nn.Module) -> Value | None:
        value = self._input(node)
        if isinstance(module, units.KEEP + units.AVERAGES):
            return value
        if isinstance(module, units.MAXIMA + units.HOMOGENEOUS):
            return self._limited(value, frozenset({units.POSITIVE}))
        if isinstance(module, units.ODD):
            return self._limited(value, frozenset({units.SIGN}))
        if isinstance(module, units.POINTWISE):
            return self._limited(value, units.NONE)
        if isinstance(module, nn.Flatten):
            return self._reshaped(node, value)
        known = self.visited.get(name)
        if known is not None:  # the same module again: the units on both sides are the same too
            self.units.tie(known[0], value)
            return known[1]
        result = self._weighted(node, name, module, value)
        self.visited[name] = value, result
        return result

    def _weighted(self, node: torch.fx.Node, name: str, module: nn.Module, value: Value | None) -> Value | None:
        ndim = len(self._shape(node))
        if isinstance(module, nn.Linear):
            return self._dense(name, value, module.out_features, axis=-1, where=-1)
        if isinstance(module, nn.Embedding):
            return self._made(f"{name}.weight", module.embedding_dim, 1, -1, name)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            axis = -len(module.kernel_size) - 1
            if module.groups == 1:
                return self._dense(name, value, module.out_channels, axis=axis, where=axis)
            if module.groups == module.in_channels == module.out_channels and value is not None and value.axis == axis:
                value.limit(units.MONOMIAL)
                self.units.along(f"{name}.weight", 0, "places", value)
                self.units.along(f"{name}.bias", 0, "out", value)
                return value
        if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)) and module.groups == 1:
            axis = -len(module.kernel_size) - 1
            return self._dense(name, value, module.out_channels, axis=axis, where=axis, swapped=True)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            return self._normalised(name, module, value, 1 - ndim)
        if isinstance(module, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)):
            return self._normalised(name, module, value, 1 - ndim)
        if isinstance(module, nn.GroupNorm) and module.num_groups in (1, module.num_channels):
            return self._normalised(name, module, value, 1 - ndim)
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and len(module.normalized_shape) == 1:
            if isinstance(module, nn.RMSNorm) and module.weight is None:
                if value is not None and value.axis == -1:
                    value.limit(units.ORTHOGONAL, frozenset({units.SIGN}))
                return value
            return self._normalised(name, module, value, -1)
        if isinstance(module, nn.MultiheadAttention):
            return self._attention(node, name, module)
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            return self._limited(value, frozenset({units.POSITIVE}))
        self._stranger(node, f"{type(module).__name__} {name!r}")
        return None

    def _dense(self, name: str, value: Value | None, n: int, *, axis: int, where: int, swapped: bool = False) -> Value:
        """A linear map or a convolution: reads the units along `where` of its input, makes n others along `axis`."""
        if value is not None:
            if value.axis == where:
                self.units.along(f"{name}.weight", 0 if swapped else 1, "in", value)
            else:
                value.limit(units.FIXED)
        made = self._made(f"{name}.weight", n, 1 if swapped else 0, axis, name)
        self.units.along(f"{name}.bias", 0, "out", made)
        return made

    def _made(self, parameter: str, n: int, axis: int, where: int, name: str) -> Value:
        value = Value(where, (Piece(Places(n, name), Factors()),))
        self.units.along(parameter, axis, "out", value)
        return value

    def _normalised(self, name: str, module: nn.Module, value: Value | None, axis: int) -> Value | None:
        """Units keep their places; factors end before the normalisation and begin anew with its gain."""
        if value is None:
            return None
        if value.axis != axis:
            value.limit(units.FIXED)
            return None
        value.limit(units.MONOMIAL, units.NONE)
        for statistic in ("running_mean", "running_var"):
            self.units.along(f"{name}.{statistic}", 0, "places", value)
        gain = getattr(module, "weight", None) is not None
        fresh = Value(
            axis, tuple(Piece(p.places, Factors(units.ALL if gain else units.NONE), p.inner) for p in value.pieces)
        )
        self.units.along(f"{name}.weight", 0, "out", fresh)
        self.units.along(f"{name}.bias", 0, "out", fresh)
        return fresh

    def _attention(self, node: torch.fx.Node, name: str, module: nn.MultiheadAttention) -> Value | None:
        query, key, val = (self.values[a] if isinstance(a, torch.fx.Node) else None for a in node.args[:3])
        if module.in_proj_weight is None or module.bias_k is not None:
            self._stranger(node, f"MultiheadAttention {name!r} with kdim, vdim or bias_k")
            return None
        E, d, n_heads = module.embed_dim, module.head_dim, module.num_heads
        self.units.tie(query, key)
        self.units.tie(query, val)
        if query is not None:
            if query.axis != -1:
                query.limit(units.FIXED)
            else:
                self.units.along(f"{name}.in_proj_weight", 1, "in", query)
        out = self._made(f"{name}.out_proj.weight", E, 0, -1, f"{name}.out_proj")
        self.units.along(f"{name}.out_proj.bias", 0, "out", out)
        rows = f"{name}.in_proj_weight", f"{name}.in_proj_bias"
        for h in range(n_heads):
            at = [block * E + h * d for block in range(3)]  # queries, keys, values
            there = [row for row in rows if row in self.units.shapes]
            # Scores q . k stay the same when queries move by g and keys by its inverse transpose.
            scores = [Port(r, 0, "out", at[0]) for r in there] + [Port(r, 0, "in", at[1]) for r in there]
            mixed = [Port(r, 0, "out", at[2]) for r in there] + [Port(f"{name}.out_proj.weight", 1, "in", h * d)]
            group = dense_group(d)
            if group is not None:
                self.heads += [Stream(f"{name}.head{h}.qk", group, tuple(scores))]
                self.heads += [Stream(f"{name}.head{h}.v", group, tuple(mixed))]
        return out

    # --- functions and methods ---------------------------------------------------------------------------------------
    def _function(self, node: torch.fx.Node, target: Any) -> Value | None:
        if target in units.FUNCTIONS:
            allowed = units.FUNCTIONS[target]
            value = self._input(node)
            return value if allowed is None else self._limited(value, allowed)
        if target in (operator.add, operator.iadd, torch.add, operator.sub, torch.sub):
            return self._sum(node)
        if target in (operator.mul, operator.imul, torch.mul, operator.truediv, torch.div):
            return self._product(node, divides=target in (operator.truediv, torch.div))
        if target in (torch.flatten, torch.reshape):
            return self._reshaped(node, self._input(node))
        if target in (torch.cat, torch.concat):
            return self._joined(node)
        if target is operator.getitem:
            return self._item(node)
        if target in (torch.mean, torch.sum):
            return self._reduced(node)
        if target in (torch.transpose, torch.permute):
            return self._turned(node)
        if target is getattr:
            return None
        self._stranger(node, f"the function {getattr(target, '__name__', target)}")
        return None

    def _method(self, node: torch.fx.Node, name: str) -> Value | None:
        if name in units.METHODS:
            allowed = units.METHODS[name]
            value = self._input(node)
            return value if allowed is None else self._limited(value, allowed)
        rules: dict[str, Callable[[torch.fx.Node], Value | None]] = {
            **dict.fromkeys(("add", "add_", "sub"), self._sum),
            **dict.fromkeys(("mul", "mul_", "div"), lambda node: self._product(node, divides=name == "div")),
            **dict.fromkeys(("view", "reshape", "flatten"), lambda node: self._reshaped(node, self._input(node))),
            **dict.fromkeys(("mean", "sum"), self._reduced),
            **dict.fromkeys(("transpose", "permute"), self._turned),
            **dict.fromkeys(("size", "dim"), lambda _: None),
        }
        if name in rules:
            return rules[name](node)
        self._stranger(node, f"the method {name!r}")
        return None

    def _limited(self, value: Value | None, allowed: frozenset[str]) -> Value | None:
        if value is not None:
            value.limit(units.MONOMIAL, allowed)
        return value

    def _sum(self, node: torch.fx.Node) -> Value | None:
        a, b = node.args[:2]
        va, vb = (self.values[x] if isinstance(x, torch.fx.Node) else None for x in (a, b))
        if va is not None and vb is not None:
            self.units.tie(va, vb)
            return va
        value, other = (va, b) if va is not None else (vb, a)
        if value is None:
            return None
        if isinstance(other, torch.fx.Node):
            if other.op == "get_attr" and self._attribute(other, value, "out"):
                return value
            value.limit(units.FIXED)  # what comes from the input, or from a constant of other shape
            return value
        return self._limited(value, units.NONE)  # a number, the same for every unit

    def _product(self, node: torch.fx.Node, *, divides: bool) -> Value | None:
        a, b = node.args[:2]
        va, vb = (self.values[x] if isinstance(x, torch.fx.Node) else None for x in (a, b))
        if va is not None and vb is not None:
            self.units.tie_places(va, vb)
            va.limit(units.MONOMIAL)
            vb.limit(units.MONOMIAL)
            # A factor of the product is one of either operand; the first that is free carries it.
            free = [all(p.factors.root.allowed for p in v.pieces) for v in (va, vb)]
            carrier, other = (vb, va) if divides or not free[0] else (va, vb)
            if divides:
                carrier, other = va, vb
            for piece in other.pieces:
                piece.factors.limit(units.NONE)
            return carrier
        value, other = (va, b) if va is not None else (vb, a)
        if value is None:
            return None
        if not isinstance(other, torch.fx.Node):
            if divides and va is None:
                value.limit(units.MONOMIAL, frozenset({units.SIGN}))
            return value
        if other.op == "get_attr" and self._attribute(other, value, "places"):
            value.limit(units.MONOMIAL)
            return value
        value.limit(units.FIXED)
        return value

    def _attribute(self, node: torch.fx.Node, value: Value, role: Role) -> bool:
        """Let the units of a value run through a tensor that is added or multiplied; False where it has no such axis."""
        name = str(node.target)
        shape = self.units.shapes.get(name)
        size = sum(piece.size for piece in value.pieces)
        if shape is None or len(shape) < -value.axis or shape[value.axis] != size:
            return False
        self.units.along(name, len(shape) + value.axis, role, value)
        return True

    def _joined(self, node: torch.fx.Node) -> Value | None:
        parts, dim = node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if not isinstance(parts, (list, tuple)) or not isinstance(dim, int):
            self._stranger(node, "cat")
            return None
        values = [self.values[part] for part in parts if isinstance(part, torch.fx.Node)]
        ndim = len(self._shape(node))
        axis = dim - ndim if dim >= 0 else dim
        if all(value is not None and value.axis == axis for value in values):
            return Value(axis, tuple(piece for value in values if value is not None for piece in value.pieces))
        if any(value is not None and value.axis == axis for value in values) or any(value is None for value in values):
            self._fix(node)  # beside units of the input
            return None
        for value in values[1:]:
            self.units.tie(values[0], value)
        return values[0]

    def _item(self, node: torch.fx.Node) -> Value | None:
        value = self._input(node)
        source, entry = node.args
        # An entry of a tuple, such as the answer of an attention beside its weights.
        if isinstance(entry, int) and isinstance(source, torch.fx.Node) and not self._shape(source):
            return value if entry == 0 else None
        self._stranger(node, "indexing")
        return None

    def _reduced(self, node: torch.fx.Node) -> Value | None:
        value = self._input(node)
        if value is None:
            return None
        source, *rest = node.args
        dims: Any = rest[0] if rest else node.kwargs.get("dim")
        keeps = bool(node.kwargs.get("keepdim", rest[1] if len(rest) > 1 else False))
        assert isinstance(source, torch.fx.Node)
        ndim = len(self._shape(source))
        every = range(-ndim, 0) if dims is None else [dims] if isinstance(dims, int) else list(dims)
        gone = {d - ndim if d >= 0 else d for d in every}
        if value.axis in gone:
            value.limit(units.FIXED)
            return None
        behind = sum(d > value.axis for d in gone)
        return value if keeps else Value(value.axis + behind, value.pieces)

    def _turned(self, node: torch.fx.Node) -> Value | None:
        value = self._input(node)
        if value is None:
            return None
        ndim = len(self._shape(node))
        rest: list[Any] = list(node.args)[1:]
        dims = rest[0] if len(rest) == 1 and isinstance(rest[0], (list, tuple)) else rest
        numbers = [d % ndim for d in dims if isinstance(d, int)]
        old = value.axis % ndim
        if "transpose" in str(node.target):
            a, b = numbers
            new = b if old == a else a if old == b else old
        else:
            new = numbers.index(old)
        return Value(new - ndim, value.pieces)

    def _reshaped(self, node: torch.fx.Node, value: Value | None) -> Value | None:
        """A view that keeps the units together: those axes behind them that are merged become entries of a unit."""
        if value is None:
            return None
        source = node.args[0]
        assert isinstance(source, torch.fx.Node)
        old, new = self._shape(source), self._shape(node)
        at = value.axis % len(old)
        before = torch.Size(old[:at]).numel()
        for place in range(len(new)):
            if torch.Size(new[:place]).numel() != before or new[place] % old[at]:
                continue
            inner = new[place] // old[at]
            if torch.Size(old[at + 1 :]).numel() == inner * torch.Size(new[place + 1 :]).numel():
                pieces = tuple(Piece(p.places, p.factors, p.inner * inner) for p in value.pieces)
                return Value(place - len(new), pieces)
        value.limit(units.FIXED)
        return None

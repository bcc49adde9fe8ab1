"""All linear maps between numbers per graph, per node and per pair of nodes that commute with permutations of the nodes.

The maps from tensors of order k to those of order l are spanned by one map for every partition of k + l indices (Maron,
Ben-Hamu, Shamir and Lipman, "Invariant and Equivariant Graph Networks", ICLR 2019): 1, 1, 2 into numbers per graph; 1, 2, 5
into nodes; 2, 5, 15 into pairs. Each is a sum over an index, a diagonal, a transpose or a broadcast, so no matrix of the size
``n^2 x n^2`` is ever made, and the same weights serve graphs of every size.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear
from typing_extensions import override

from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.nn.backbones import mlp
from erlangen.nn.segments import check_mask

__all__ = ["ORDERS", "PPGNBlock", "PermutationLinear"]

ORDERS = {"y": 0, "x": 1, "adj": 2}
"""Keys of features, and the order of their tensors: ``y [..., F]``, ``x [..., n, F]``, ``adj [..., n, n, F]``."""

GRAPH, NODES = ("y", "sum", "trace", "total"), ("x", "diagonal", "rows", "columns")
"""What the maps read besides pairs: numbers per graph, and per node. "rows" are the means over every row."""

MAPS = {
    (0, 0): (("y", "all"),),
    (1, 0): (("sum", "all"),),
    (2, 0): (("trace", "all"), ("total", "all")),
    (0, 1): (("y", "all"),),
    (1, 1): (("x", "nodes"), ("sum", "all")),
    (2, 1): (("diagonal", "nodes"), ("rows", "nodes"), ("columns", "nodes"), ("trace", "all"), ("total", "all")),
    (0, 2): (("y", "diagonal"), ("y", "all")),
    (1, 2): (("x", "diagonal"), ("x", "rows"), ("x", "columns"), ("sum", "diagonal"), ("sum", "all")),
    (2, 2): (
        ("adj", "pairs"), ("adj", "transposed"),
        ("diagonal", "rows"), ("rows", "rows"), ("columns", "rows"),
        ("diagonal", "columns"), ("rows", "columns"), ("columns", "columns"),
        ("diagonal", "diagonal"), ("rows", "diagonal"), ("columns", "diagonal"), ("trace", "diagonal"), ("total", "diagonal"),
        ("trace", "all"), ("total", "all"),
    ),
}  # fmt: skip
"""By the orders of input and output: what each map reads and where it writes it, in the order of the weights. ("rows",
"columns") are the means over every row, which are numbers per node, written all over the columns of these nodes."""

Features = dict[str, Tensor]
"""Tensors under some of the keys of `ORDERS`."""


class PermutationLinear(nn.Module):
    """The general equivariant linear layer between features of graphs, nodes and pairs, with a matrix of channels per map.

    Sums are divided by the number of their terms, nodes or pairs of nodes, so that large graphs do not drown small ones.

    >>> layer = PermutationLinear({"adj": 2}, {"adj": 3, "y": 1})
    >>> {key: tuple(value.shape) for key, value in layer({"adj": torch.ones(5, 4, 4, 2)}).items()}
    {'adj': (5, 4, 4, 3), 'y': (5, 1)}

    Args:
        in_channels: channels of every key of `ORDERS` that goes in, such as ``{"adj": 4, "x": 8}``.
        out_channels: the same of what comes out.
        bias: a number per output channel; for pairs one more on the diagonal.
        generator: source of the initial weights, normal with variance ``2 / (inputs of all maps + outputs)``.

    Attributes:
        weights: by ``"adj_to_x"`` and the like, ``[maps, in, out]`` in the order of `MAPS`.

    Raises:
        ErlangenError: no channels, or an unknown key.
    """

    def __init__(
        self,
        in_channels: dict[str, int],
        out_channels: dict[str, int],
        *,
        bias: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if not channels or not set(channels) <= set(ORDERS) or min(channels.values()) < 1:
                raise ErlangenError(f"{name} = {channels}: give positive numbers for some of {', '.join(ORDERS)}")
        self.in_channels, self.out_channels = dict(in_channels), dict(out_channels)
        self.weights = nn.ParameterDict()
        for key, channels in out_channels.items():
            counts = {source: len(MAPS[ORDERS[source], ORDERS[key]]) for source in in_channels}
            inputs = sum(counts[source] * n for source, n in in_channels.items())
            for source, n in in_channels.items():
                weight = torch.empty(counts[source], n, channels).normal_(generator=generator)
                self.weights[f"{source}_to_{key}"] = weight * math.sqrt(2 / (inputs + channels))
        self.bias = nn.ParameterDict(
            {key: torch.zeros(1 + (key == "adj"), channels) for key, channels in out_channels.items()} if bias else {}
        )

    def forward(self, x: Features, mask: Tensor | None = None) -> Features:
        """Features under the keys of ``out_channels``.

        Args:
            x: features under the keys of ``in_channels``, with common leading axes and n nodes.
            mask: nodes that exist, bool ``[..., n]``; others neither count nor get anything but zeros.

        Raises:
            ShapeError: keys or shapes do not fit.
        """
        lead, nodes = self._checked(x, mask)
        read = {key: _readings(key, value, mask) for key, value in x.items()}
        return {key: self._output(key, read, lead, nodes, mask) for key in self.out_channels}

    def _output(self, key: str, read: dict[str, Features], lead: torch.Size, nodes: int, mask: Tensor | None) -> Tensor:
        """One output: readings are mixed while they are small, then written where they belong."""
        order, channels = ORDERS[key], self.out_channels[key]
        mixed = self._mixed(key, read)
        if key in self.bias:
            for where, bias in zip(("all", "diagonal"), self.bias[key], strict=False):
                mixed["graph", where] = mixed["graph", where] + bias if ("graph", where) in mixed else bias
        whole = mixed.get(("graph", "all"))
        if order == 0:
            return _or_zeros(whole, self, (*lead, channels))
        # What is the same all over a row goes with the rows, so that tensors of all pairs are touched three times, not five.
        rows = _added(
            mixed.get(("nodes", "nodes" if order == 1 else "rows")), None if whole is None else whole.unsqueeze(-2)
        )
        if order == 1:
            out = _or_zeros(rows, self, (*lead, nodes, channels))
            return out if mask is None else _masked(out, mask, order)
        out = _or_zeros(mixed.get(("pairs", "pairs")), self, (*lead, nodes, nodes, channels))
        for part, axis in ((rows, -2), (mixed.get(("nodes", "columns")), -3)):
            out = out if part is None else out + part.unsqueeze(axis)
        diagonal = mixed.get(("graph", "diagonal"))
        diagonal = _added(mixed.get(("nodes", "diagonal")), None if diagonal is None else diagonal.unsqueeze(-2))
        if diagonal is not None:
            kept = out.diagonal(dim1=-3, dim2=-2)
            out = out.diagonal_scatter(kept + diagonal.mT, dim1=-3, dim2=-2)
        return out if mask is None else _masked(out, mask, order)

    def _mixed(self, key: str, read: dict[str, Features]) -> dict[tuple[str, str], Tensor]:
        """Products of readings and weights, one for each kind of reading ("graph", "nodes", "pairs") and place to write."""
        groups: dict[tuple[str, str], list[tuple[Tensor, Tensor]]] = {}
        mixed: dict[tuple[str, str], Tensor] = {}
        for source, parts in read.items():
            weight = self.weights[f"{source}_to_{key}"]
            for (what, where), matrix in zip(MAPS[ORDERS[source], ORDERS[key]], weight, strict=True):
                if where == "pairs":
                    turned = parts["adj"] @ weight[1]
                    mixed["pairs", "pairs"] = parts["adj"] @ matrix + turned.transpose(-2, -3)
                elif where == "transposed":
                    continue
                else:
                    level = "graph" if what in GRAPH else "nodes"
                    groups.setdefault((level, where), []).append((parts[what], matrix))
        for place, found in groups.items():
            parts, matrices = zip(*found, strict=True)
            mixed[place] = torch.cat(parts, -1) @ torch.cat(matrices, 0)
        return mixed

    def _checked(self, x: Features, mask: Tensor | None) -> tuple[torch.Size, int]:
        if set(x) != set(self.in_channels):
            raise ShapeError(f"x has the keys {sorted(x)}; this layer takes {sorted(self.in_channels)}")
        nodes, lead = None, None
        for key, value in x.items():
            order = ORDERS[key]
            sizes = value.shape[value.dim() - 1 - order : -1]
            here = value.shape[: value.dim() - 1 - order]
            nodes = sizes[0] if sizes and nodes is None else nodes
            lead = here if lead is None else lead
            good = value.dim() > order and value.shape[-1] == self.in_channels[key] and here == lead
            if not good or any(size != nodes for size in sizes):
                raise ShapeError(
                    f"{key} has shape {tuple(value.shape)}; with {self.in_channels[key]} channels and the other features it "
                    f"must be [...{', n' * order}, {self.in_channels[key]}]"
                )
        assert lead is not None
        if nodes is None:
            if mask is None and set(self.out_channels) != {"y"}:
                raise ShapeError("x has only numbers per graph; pass a mask, which says how many nodes there are")
            nodes = 0 if mask is None else mask.shape[-1]
        if mask is not None:
            check_mask(mask, (*lead, nodes))
        return lead, nodes

    @override
    def extra_repr(self) -> str:
        return f"{self.in_channels} -> {self.out_channels}"


def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _or_zeros(x: Tensor | None, layer: PermutationLinear, shape: tuple[int, ...]) -> Tensor:
    """x in this shape, or zeros like the parameters where there is nothing."""
    return next(layer.parameters()).new_zeros(shape) if x is None else x.expand(shape)


def _readings(key: str, value: Tensor, mask: Tensor | None) -> Features:
    """What the maps read of a tensor, see `MAPS`; means are over what exists."""
    if key == "y":
        return {"y": value}
    value = value if mask is None else _masked(value, mask, ORDERS[key])
    if key == "x":
        return {"x": value, "sum": _mean(value, mask)}
    diagonal = value.diagonal(dim1=-3, dim2=-2).mT
    rows, columns = _mean(value, mask), _mean(value.transpose(-2, -3), mask)
    return {
        "adj": value,
        "diagonal": diagonal,
        "rows": rows,
        "columns": columns,
        "trace": _mean(diagonal, mask),
        "total": _mean(rows, mask),
    }


def _masked(x: Tensor, mask: Tensor, order: int) -> Tensor:
    """Zeros where nodes, or one of a pair, do not exist."""
    if order == 0:
        return x
    exists = mask if order == 1 else mask[..., :, None] & mask[..., None, :]
    return x * exists[..., None].to(x.dtype)


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the axis before the channels, over the nodes that exist; x is zero elsewhere."""
    if mask is None:
        return x.mean(-2)
    count = mask.sum(-1).clamp(min=1).to(x.dtype)
    return x.sum(-2) / count.reshape(*count.shape, *[1] * (x.dim() - 1 - count.dim()))


class PPGNBlock(nn.Module):
    """A block of provably powerful graph networks: features of pairs, multiplied as matrices channel by channel.

    ``out = W [x, m1 @ m2]`` with two small networks m1 and m2 of the features of every pair by itself (Maron, Ben-Hamu,
    Serviansky and Lipman, "Provably Powerful Graph Networks", NeurIPS 2019, section 6).

    Args:
        in_channels, out_channels: features of pairs.
        depth: layers of each small network.
        generator: source of the initial weights.

    Raises:
        ErlangenError: a size is not positive.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, depth: int = 2, generator: Generator | None = None
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels, depth=depth)
        self.in_channels = in_channels
        sizes = [in_channels] + depth * [out_channels]
        self.left, self.right = (mlp(sizes, nn.ReLU, last=True, generator=generator) for _ in range(2))
        self.skip = mlp([in_channels + out_channels, out_channels], generator=generator)

    def forward(self, adj: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features ``[..., n, n, out_channels]`` of ``[..., n, n, in_channels]``.

        Args:
            adj: features of pairs.
            mask: nodes that exist, bool ``[..., n]``; others take no part, and their pairs become zero.

        Raises:
            ShapeError: shapes do not fit.
        """
        if adj.dim() < 3 or adj.shape[-2] != adj.shape[-3] or adj.shape[-1] != self.in_channels:
            raise ShapeError(f"adj has shape {tuple(adj.shape)}; pass [..., n, n, {self.in_channels}]")
        if mask is not None:
            check_mask(mask, adj.shape[:-2])
        pairs = adj.flatten(0, -2)
        left, right = (net.unflatten(1, adj.shape[:-1]) for net in self._channels_first(pairs))
        if mask is not None:
            left = left * mask[..., None, :].to(
                adj.dtype
            )  # only sums over nodes matter: other pairs are cut at the end
        product = (left @ right).flatten(1)
        (mix,) = _linear_layers(self.skip)
        ours, theirs = mix.weight.split([self.in_channels, len(product)], 1)
        out = torch.addmm(mix.bias, pairs, ours.T).addmm(product.T, theirs.T).unflatten(0, adj.shape[:-1])
        return out if mask is None else _masked(out, mask, 2)

    def _channels_first(self, pairs: Tensor) -> list[Tensor]:
        """Outputs ``[out_channels, P]`` of both networks, of features ``[P, in_channels]`` of all pairs.

        Every channel is a matrix without gaps, as its product needs it, and no layer copies its input. Both first layers are
        one product of matrices, and the last ones turn the axes round.
        """
        nets = [_linear_layers(net) for net in (self.left, self.right)]
        weight, bias = (torch.cat([getattr(layers[0], name) for layers in nets]) for name in ("weight", "bias"))
        found = [x.T for x in linear(pairs, weight, bias).relu_().chunk(2, -1)]
        for depth in range(1, len(nets[0])):
            layers = [layers[depth] for layers in nets]
            found = [
                torch.addmm(layer.bias[:, None], layer.weight, x).relu_()
                for layer, x in zip(layers, found, strict=True)
            ]
        return found


def _linear_layers(net: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in net if isinstance(layer, nn.Linear)]

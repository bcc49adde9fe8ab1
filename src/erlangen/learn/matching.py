"""Two trained networks brought into one basin: their units matched, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from erlangen.actions import Stream, WeightStreams
from erlangen.errors import ErlangenError, ShapeError, SymmetryError, check_integer
from erlangen.geometry import procrustes
from erlangen.groups import Hyperoctahedral, Monomial, O, Symmetric

State = Mapping[str, Tensor]


def match_weights(
    streams: WeightStreams,
    target: State,
    source: State,
    *,
    sweeps: int = 100,
    start: Tensor | None = None,
) -> Tensor:
    """The change g of the weights that brings one network close to another: ``streams.act(g, source)`` near ``target``.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> from erlangen.actions import weight_streams
    >>> streams = weight_streams(net, torch.zeros(1, 4))
    >>> renamed = streams.act(torch.stack([torch.randperm(8).float(), torch.ones(8)]), net.state_dict())
    >>> g = match_weights(streams, net.state_dict(), renamed)
    >>> torch.equal(streams.act(g, renamed)["0.weight"], net[0].weight)
    True

    Coordinate ascent on the inner product of all tensors (weight matching of Ainsworth, Hayase and Srinivasa 2023, algorithm 1):
    one stream after the other gets its best key while the others keep theirs, by the assignment problem for permutations (with
    signs for `Hyperoctahedral`), by orthogonal Procrustes for `O`. Each step cannot lower the inner product, so it ends; the
    maximum is a local one. Factors of `Monomial` are left at 1; streams of other groups stay as they are.

    Args:
        streams: of both networks.
        target: weights by name.
        source: weights by name, of the same shapes.
        sweeps: largest number of rounds over all streams.
        start: an element to start from, by default the identity.

    Returns:
        An element of ``streams.group``, float64 where that is floating.

    Raises:
        SymmetryError, ShapeError: tensors that do not fit the streams.
    """
    check_integer("sweeps", sweeps, 1)
    for name in {port.parameter for stream in streams.streams for port in stream.ports}:
        for side, state in (("target", target), ("source", source)):
            if name not in state:
                raise SymmetryError(f"{side} lacks {name!r}, which a stream runs through")
        if target[name].shape != source[name].shape:
            raise ShapeError(
                f"{name} has shape {tuple(target[name].shape)} in target, {tuple(source[name].shape)} in source"
            )
    group = streams.group
    wide = [{name: t.detach().double() for name, t in s.items() if t.is_floating_point()} for s in (target, source)]
    goal, given = wide
    g = group.identity(dtype=torch.float64) if start is None else start
    for _ in range(sweeps):
        changed = False
        for i, stream in enumerate(streams.streams):
            moved = streams.act(g, given)
            key = _best_key(stream, goal, moved)
            if key is None:
                continue
            step = _lifted(streams, i, key)
            if float((step - group.identity(dtype=step.dtype)).abs().max()) > 1e-12:
                g = group.compose(step, g)
                changed = True
        if not changed:
            break
    return g


def interpolation_barrier(
    loss: Callable[[dict[str, Tensor]], Tensor | float], a: State, b: State, *, points: int = 11
) -> float:
    """How far the loss rises between two networks, over the straight line between their losses (Frankle et al. 2020).

    >>> loss = lambda w: (w["x"] ** 2 - 1).square()
    >>> interpolation_barrier(loss, {"x": torch.tensor(-1.0)}, {"x": torch.tensor(1.0)})
    1.0

    Args:
        loss: of weights by name.
        a: weights at one end.
        b: weights at the other.
        points: on the line, ends included; at least 3.

    Returns:
        ``max_t loss((1 - t) a + t b) - ((1 - t) loss(a) + t loss(b))``, 0 at least.
    """
    if points < 3:
        raise ErlangenError(f"points = {points}: give 3 at least, the ends and one between")
    if set(a) != set(b):
        raise SymmetryError(f"a and b hold different tensors: {', '.join(sorted(set(a) ^ set(b)))} is in one alone")
    times = torch.linspace(0, 1, points, dtype=torch.float64).tolist()
    with torch.no_grad():
        losses = [
            float(loss({n: torch.lerp(a[n], b[n], t) if a[n].is_floating_point() else a[n] for n in a})) for t in times
        ]
    return max(value - ((1 - t) * losses[0] + t * losses[-1]) for t, value in zip(times, losses, strict=True))


def _best_key(stream: Stream, goal: State, moved: State) -> Tensor | None:
    """The key that brings the units of `moved` closest to those of `goal`; None where the group has no closed form."""
    group, n = stream.group, stream.n
    rows: list[list[Tensor]] = [[], []]
    for port in stream.ports:
        for side, state in zip(rows, (goal, moved), strict=True):
            units = state[port.parameter].movedim(port.axis, 0)[port.index(n)]
            side.append(units.reshape(n, -1))
    A, B = (torch.cat(side, 1) for side in rows)
    if isinstance(group, O):
        return procrustes(B.mT, A.mT)
    if not isinstance(group, (Symmetric, Monomial, Hyperoctahedral)):
        return None
    product = B @ A.mT  # [from, to]
    scores = product.abs() if isinstance(group, Hyperoctahedral) else product
    _, to = linear_sum_assignment(scores.numpy(), maximize=True)
    places = torch.as_tensor(to)
    if isinstance(group, Symmetric):
        return places
    if isinstance(group, Monomial):
        return torch.cat([places[None].double(), torch.ones(group.sets, n, dtype=torch.float64)])
    signs = torch.where(product.gather(1, places[:, None])[:, 0] < 0, -1, 1)
    return torch.stack([places, signs])


def _lifted(streams: WeightStreams, i: int, key: Tensor) -> Tensor:
    """The element that moves stream i alone."""
    group = streams.group
    if len(streams.streams) == 1:
        return key
    parts = streams.keys(group.identity(dtype=torch.float64))
    parts[streams.streams[i].name] = key
    return streams.joined(parts)

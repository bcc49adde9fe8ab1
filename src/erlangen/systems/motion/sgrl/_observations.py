"""What a policy sees of a body: eight vectors and seventeen scalars of every limb, and codes of its place in the body."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DataError, ErlangenWarning, NotFiniteError, ShapeError
from erlangen.simulate import LimbedBody
from erlangen.simulate.limbs import State

Observed = dict[str, Tensor]
"""Of B bodies with n limbs: "vectors" ``[B, n, 8, 3]`` (place from the torso, gravity, way to the target, velocity, angular
velocity, axes of the three hinges), "scalars" ``[B, n, 17]``, "directions" ``[B, 2, 3]`` (gravity and way to the target),
"places" ``[B, n, 3]`` of the limb in three walks through the tree, "relations" ``[B, n, n, 3]`` of pairs, "mask" ``[B, n]``,
false for limbs that are not there."""

MOVES = {
    "vectors": "vectors",
    "directions": "vectors",
    "scalars": "invariant",
    "places": "invariant",
    "relations": "invariant",
    "mask": "invariant",
}
"""How turns move what is observed."""

VECTORS, SCALARS, LIMBS = 8, 17, 15
GRAVITY = (0.0, 0.0, -9.81)
FASTEST = 10.0
"""What longer velocities are cut to; the authors cut each component, which no turn respects."""
KINDS = ("torso", "thigh", "shin", "foot")


class Codes(NamedTuple):
    """Places ``[n, 3]`` of limbs in three walks through their tree, and relations ``[n, n, 3]`` of pairs."""

    places: Tensor
    relations: Tensor


def codes(parents: Sequence[int]) -> Codes:
    """Codes of a body: pre-order of the tree, in-order and post-order of its left-child right-sibling form; personalised
    PageRank, normalised Laplacian and distance of pairs.

    Raises:
        DataError: more than 15 limbs, or no tree with the torso first.
    """
    n = len(parents)
    if n > LIMBS:
        raise DataError(f"the body has {n} limbs; there are codes for {LIMBS}")
    if not n or parents[0] != -1 or any(not 0 <= p < i for i, p in enumerate(parents) if i):
        raise DataError(f"parents = {list(parents)}; give -1 for the torso, and for each limb one that comes before it")
    children = [[i for i, p in enumerate(parents) if p == k] for k in range(n)]
    orders: tuple[list[int], list[int], list[int]] = ([], [], [])

    def walk(siblings: list[int]) -> None:
        if not siblings:
            return
        first, *others = siblings
        orders[0].append(first)
        walk(children[first])  # left child
        orders[1].append(first)
        walk(others)  # right sibling
        orders[2].append(first)

    walk([0])
    places = torch.tensor([[order.index(i) for order in orders] for i in range(n)])
    A = torch.zeros(n, n, dtype=torch.float64)
    for i, p in enumerate(parents):
        if i:
            A[i, p] = A[p, i] = 1
    degree, eye = A.sum(0).clamp_min(1), torch.eye(n, dtype=torch.float64)
    rank = 0.1 * torch.linalg.inv(eye - 0.9 * A / degree[:, None])
    laplacian = torch.diag((A.sum(0) > 0).double()) - A / (degree[:, None] * degree).sqrt()
    distance = torch.where(A > 0, 1.0, math.inf) * 1.0
    distance = distance.masked_fill(eye > 0, 0.0)
    for k in range(n):
        distance = torch.minimum(distance, distance[:, k, None] + distance[None, k])
    return Codes(places, torch.stack([rank, laplacian, distance], -1))


def way_to(target: Tensor, position: Tensor) -> Tensor:
    """Horizontal unit vectors ``[B, 3]`` from positions to targets, both ``[B, 3]``.

    Raises:
        DataError: a body stands at its target.
    """
    way = (target - position) * torch.tensor([1.0, 1.0, 0.0], dtype=target.dtype, device=target.device)
    length = way.norm(dim=-1, keepdim=True)
    if bool((length <= 1e-9).any()):
        at = int((length[:, 0] <= 1e-9).nonzero()[0])
        raise DataError(
            f"body {at} stands at its target; there is no way to it: end the episode, or draw another target"
        )
    return way / length


def observe(
    body: LimbedBody,
    state: State,
    target: Tensor,
    *,
    limbs: int | None = None,
    gravity: Sequence[float] = GRAVITY,
) -> Observed:
    """What the policy sees, in float64.

    >>> import torch
    >>> from erlangen.simulate import LimbedBody
    >>> body = LimbedBody.hopper()  # doctest: +SKIP
    >>> x = observe(body, body.start(2), torch.tensor([[1e4, 0.0, 0.0]] * 2))  # doctest: +SKIP
    >>> x["vectors"].shape  # doctest: +SKIP
    torch.Size([2, 5, 8, 3])

    Args:
        body, state: B bodies of one kind.
        target: ``[B, 3]`` in the world, in metres.
        limbs: limbs that are not there fill up to so many; by default none do.
        gravity: what is taken for gravity; the simulator's is vertical.

    Raises:
        ShapeError: targets of another form, or more limbs than `limbs`.
        DataError: a body stands at its target, has more than 15 limbs, or axes that are no rotation.
        NotFiniteError: NaN or Inf.

    Warns:
        ErlangenWarning: gravity is not vertical: the ground is horizontal, so that no turn keeps both.
    """
    count, n = len(state["position"]), len(body.kinds)
    limbs = n if limbs is None else limbs
    if target.shape != (count, 3) or limbs < n:
        raise ShapeError(
            f"target has shape {tuple(target.shape)}, limbs = {limbs}; give {[count, 3]}, and {n} limbs or more"
        )
    if not bool(target.isfinite().all()):
        raise NotFiniteError("target has NaN or Inf")
    if gravity[0] or gravity[1]:
        warnings.warn(
            f"gravity = {tuple(gravity)} is not vertical; the ground is, so that turns about it are no symmetry",
            ErlangenWarning,
            stacklevel=2,
        )
    known = codes(body.parents)
    frames = body.frames(state)
    torso = frames.positions[:, :1]
    down = torch.tensor(gravity, dtype=torch.float64).expand(count, n, 3)
    way = way_to(target.double(), torso[:, 0])
    speed = frames.velocities.norm(dim=-1, keepdim=True)
    velocity = frames.velocities * (FASTEST / speed.clamp_min(FASTEST))
    stack = [frames.positions - torso, down, way[:, None].expand(-1, n, -1), velocity, frames.spins]
    vectors = torch.cat([torch.stack(stack, -2), frames.hinges], -2)
    x = {
        "vectors": vectors,
        "scalars": _scalars(body, state, frames.positions[..., 2]),
        "directions": torch.stack([down[:, 0], way], 1),
        "places": known.places.expand(count, -1, -1),
        "relations": known.relations.expand(count, -1, -1, -1),
        "mask": torch.ones(count, n, dtype=torch.bool),
    }
    return padded(x, limbs)


def _scalars(body: LimbedBody, state: State, heights: Tensor) -> Tensor:
    """Angles, angles and ends in their ranges, kind of limb, height: ``[B, n, 17]``."""
    count, n = heights.shape
    angles = state["angles"].double()
    low, high = body.limits.unbind(-1)
    ends = [(math.pi + end).expand(count, -1) / (2 * math.pi) for end in (low, high)]
    known = torch.stack([angles, (angles - low) / (high - low), *ends], -2).unflatten(-1, (-1, 3))  # [B, 4, n - 1, 3]
    torso = torch.tensor([0.0, 0.5, 0.5, 0.5], dtype=torch.float64)[:, None, None].expand(count, 4, 1, 3)
    hinges = torch.cat([torso, known], 2).transpose(1, 2).flatten(2)
    kinds = torch.tensor([[float(kind == one) for one in KINDS] for kind in body.kinds], dtype=torch.float64)
    return torch.cat([hinges, kinds.expand(count, n, -1), heights[..., None]], -1)


def padded(x: Observed, limbs: int) -> Observed:
    """The same with zeros for limbs that are not there."""
    more = limbs - x["vectors"].shape[1]
    after = {"vectors": 5, "scalars": 3, "places": 3, "relations": 5, "mask": 1, "action": 3}
    pads = {5: (0, 0, 0, 0, 0, more), 3: (0, 0, 0, more), 1: (0, more)}
    out: Observed = {}
    for name, value in x.items():
        if name == "relations":
            out[name] = torch.nn.functional.pad(value, (0, 0, 0, more, 0, more))
        else:
            out[name] = torch.nn.functional.pad(value, pads[after[name]]) if name in after else value
    return out


def turned(x: Observed, g: Tensor) -> Observed:
    """An observation whose vectors and directions are turned by matrices ``[3, 3]`` or ``[B, 3, 3]``; the rest stays."""
    g = g.to(x["vectors"])
    each = g[:, None] if g.ndim == 3 else g
    return x | {"vectors": x["vectors"] @ each.mT, "directions": x["directions"] @ g.mT}


def about_gravity(angle: Tensor) -> Tensor:
    """Turns ``[..., 3, 3]`` about the vertical by angles ``[...]``."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).unflatten(-1, (3, 3))


def heading_frame(x: Observed) -> Observed:
    """The same turned about the vertical so that the way to the target is (1, 0, 0)."""
    way = x["directions"][:, 1]
    return turned(x, about_gravity(-torch.atan2(way[:, 1], way[:, 0])))


def single(x: Observed) -> Observed:
    """The same in float32."""
    return {name: value.float() if value.is_floating_point() else value for name, value in x.items()}


def concatenated(parts: Sequence[Observed]) -> Observed:
    """Several observations of equally many limbs, one after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

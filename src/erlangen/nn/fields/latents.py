"""Clouds of latents: numbers that sit at points of space, and move with them when a group acts.

A cloud is a dict of tensors: ``"pos"`` ``[B, N, d]`` where latents sit, ``"features"`` ``[B, N, c]`` what they say,
``"window"`` ``[B, N]`` how far they are heard, and with orientations ``"ori"`` ``[B, N, d]``, unit vectors. Groups move
positions as points and orientations as vectors; all else is invariant (`latent_action`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from erlangen.actions import tree_map
from erlangen.errors import ErlangenError, ShapeError, check_sizes
from erlangen.nn.fields._dense import check_positive

__all__ = ["Latents", "latent_action", "latent_grid", "repeat_latents"]

Latents = dict[str, Tensor]
"""A cloud of latents; see `erlangen.nn.latent_grid`."""


def latent_grid(
    count: int,
    features: int,
    dim: int = 2,
    *,
    box: Sequence[tuple[float, float]] | None = None,
    extra: int = 0,
    window: float | None = None,
) -> Latents:
    """A cloud of latents on a regular grid, without a batch axis; all features are one.

    >>> grid = latent_grid(4, 8, box=[(-0.5, 0.5), (0.0, 1.0)])
    >>> grid["pos"].tolist(), float(grid["window"][0])
    ([[-0.5, 0.0], [-0.5, 1.0], [0.5, 0.0], [0.5, 1.0]], 1.0)

    Args:
        count: number of latents, a perfect power of `dim`.
        features: numbers of each.
        dim: coordinates of the grid.
        box: from and to for each coordinate, ends included; without it the centres of equal cells of ``[-1, 1]^dim``.
        extra: further coordinates of the positions, which are zero: queries have them, such as the distance to a wall.
        window: how far each latent is heard; by default ``(dim + extra) / latents in a row``, whatever the box.

    Returns:
        ``"pos"`` ``[count, dim + extra]``, ``"features"`` ``[count, features]``, ``"window"`` ``[count]``.

    Raises:
        ErlangenError: a size is not positive, `count` is no power, a side of the box is empty, or `window` not positive.
    """
    check_sizes(count=count, features=features, dim=dim)
    side = round(count ** (1 / dim))
    if side**dim != count:
        near = sorted({max(side - 1, 1) ** dim, side**dim, (side + 1) ** dim})
        raise ErlangenError(f"count = {count} makes no grid in {dim} dimensions; give one of {near}")
    if box is not None and len(box) != dim:
        raise ErlangenError(f"box has {len(box)} sides, but dim = {dim}")
    for axis, (low, high) in enumerate(box or []):
        if not low < high:
            raise ErlangenError(f"box[{axis}] = ({low}, {high}): its second number must be the larger one")
    if window is not None:
        check_positive("window", window)
    if box is None:
        ticks = [(2 * torch.arange(side) + 1) / side - 1] * dim
    else:
        ticks = [torch.linspace(low, high, side) if side > 1 else torch.tensor([(low + high) / 2]) for low, high in box]
    pos = torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1).reshape(count, dim)
    width = (dim + extra) / side if window is None else window
    return {
        "pos": torch.nn.functional.pad(pos, (0, extra)),
        "features": torch.ones(count, features),
        "window": torch.full((count,), float(width)),
    }


def repeat_latents(latents: Latents, batch: int) -> Latents:
    """A cloud without a batch axis, the same for every sample: ``[batch, N, ...]``."""
    return tree_map(lambda leaf: leaf.expand(batch, *leaf.shape), latents)


def latent_action(*, oriented: bool = False) -> dict[str, str]:
    """How groups act on clouds of latents, for `erlangen.Symmetry`.

    >>> import erlangen as er
    >>> move = er.Symmetry("Translation(2)", input=latent_action(), output=latent_action()).input
    >>> cloud = repeat_latents(latent_grid(4, 3), 2)
    >>> shift = torch.tensor([[1.0, 0, 5], [0, 1, 0], [0, 0, 1]])
    >>> (move.act(shift, cloud)["pos"] - cloud["pos"])[0, 0].tolist()
    [5.0, 0.0]
    """
    action = {"pos": "points", "features": "invariant", "window": "invariant"}
    return action | {"ori": "vectors"} if oriented else action


def check_cloud(x: Tensor, latents: Latents, dim: int, *, oriented: bool) -> None:
    """Raise `ShapeError` unless queries ``[B, Q, dim]`` and a cloud fit together."""
    missing = [key for key in latent_action(oriented=oriented) if key not in latents]
    if missing:
        raise ShapeError(f"latents lack {missing}; they have {sorted(latents)}")
    if x.ndim != 3 or x.shape[-1] != dim:
        raise ShapeError(f"x has shape {tuple(x.shape)}, but points [B, Q, {dim}] are needed")
    pos = latents["pos"]
    if pos.ndim != 3 or pos.shape[-1] != dim or pos.shape[0] != x.shape[0]:
        raise ShapeError(
            f"latents['pos'] has shape {tuple(pos.shape)}, but [{x.shape[0]}, N, {dim}] is needed: samples, latents, "
            "coordinates as many as those of the queries"
        )
    for key, extra in (("features", 1), ("window", 0), *((("ori", 1),) if oriented else ())):
        if latents[key].ndim != 2 + extra or latents[key].shape[:2] != pos.shape[:2]:
            raise ShapeError(
                f"latents[{key!r}] has shape {tuple(latents[key].shape)} beside positions {tuple(pos.shape)}"
            )

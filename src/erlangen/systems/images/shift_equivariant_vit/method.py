"""Small vision transformers of two kinds, each plain or shift-equivariant, built from the same blocks.

Maps are ``[B, C, H, W]`` between modules, channels-last in memory; the modules look at them as ``[B, H, W, C]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError
from erlangen.errors import OnDegenerate as OnTie
from erlangen.groups import Shifts
from erlangen.nn import AnchoredPatchEmbed, PolyphaseAnchor
from erlangen.symmetry import Symmetry

Position = Literal["depthwise", "table", "none"]
Padding = Literal["circular", "zeros"]
Place = Literal["patches", "windows", "keys"]

EVERYWHERE: frozenset[Place] = frozenset({"patches", "windows", "keys"})


@dataclass(frozen=True)
class Recipe:
    """What decides whether a transformer notices shifts.

    Attributes:
        position: "depthwise", a depth-wise 3 x 3 convolution added to its input; "table", a learned vector for each place;
            "none".
        padding: of the depth-wise convolution, "circular" or "zeros".
        anchors: before which strided operations the map is anchored: "patches" (embedding and merging), "windows", "keys"
            (sub-sampled ones).

    Raises:
        UnknownNameError: an unknown word.
    """

    position: Position = "depthwise"
    padding: Padding = "circular"
    anchors: frozenset[Place] = EVERYWHERE

    def __post_init__(self) -> None:
        words = (
            ("position", {self.position}, Position),
            ("padding", {self.padding}, Padding),
            ("anchors", self.anchors, Place),
        )
        for name, given, known in words:
            if unknown := set(given) - set(get_args(known)):
                raise UnknownNameError(f"{name}: {sorted(unknown)} not known; choose from {', '.join(get_args(known))}")

    @property
    def equivariant(self) -> bool:
        """Whether every ingredient is there."""
        return self.anchors == EVERYWHERE and (
            self.position == "none" or (self.position, self.padding) == ("depthwise", "circular")
        )


EQUIVARIANT = Recipe()


# --- parts -----------------------------------------------------------------------------------------------------------
class GlobalAttention(nn.Module):
    """Every pixel of ``[B, H, W, C]`` attends to all, or to a map made by a convolution of kernel and stride `reduce`.

    Args:
        dim: channels, a multiple of `heads`.
        heads: number of heads.
        reduce: 1 for all pixels as keys; otherwise the stride of the keys, which must divide H and W.
    """

    def __init__(self, dim: int, heads: int, reduce: int = 1) -> None:
        super().__init__()
        _check_heads(dim, heads)
        self.heads = heads
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.reduce = nn.Conv2d(dim, dim, reduce, reduce) if reduce > 1 else None
        self.norm = nn.LayerNorm(dim) if reduce > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same shape."""
        seen = x
        if self.reduce is not None:
            _check_divides(x, self.reduce.stride[0], "reduce")
            seen = self.norm(self.reduce(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        key, value = self.key_value(seen.flatten(1, 2)).chunk(2, -1)
        return self.out(attend(self.query(x.flatten(1, 2)), key, value, self.heads)).view(x.shape)


class WindowAttention(nn.Module):
    """Pixels of ``[B, H, W, C]`` attend to those of their window; windows lie side by side from the corner.

    Args:
        dim: channels, a multiple of `heads`.
        heads: number of heads.
        window: side of a window, which must divide H and W.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        _check_heads(dim, heads)
        self.heads, self.window = heads, window
        self.query_key_value, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same shape."""
        _check_divides(x, self.window, "window")
        batch, height, width, dim = x.shape
        side = self.window
        parts = x.view(batch, height // side, side, width // side, side, dim).transpose(2, 3)
        windows = parts.reshape(batch * (height // side) * (width // side), side * side, dim)
        query, key, value = self.query_key_value(windows).chunk(3, -1)
        mixed = self.out(attend(query, key, value, self.heads))
        return mixed.view(parts.shape).transpose(2, 3).reshape(x.shape)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention of tokens ``[B, N, D]`` to ``[B, M, D]`` in several heads.

    Written out: the fused kernel has no second derivative.
    """
    q, k, v = (tokens.unflatten(-1, (heads, -1)).transpose(1, 2) for tokens in (query, key, value))
    weight = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
    return (weight @ v).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Attention, then a network on each pixel, both added to their input; maps ``[B, C, H, W]``."""

    def __init__(self, dim: int, attention: nn.Module, ratio: int = 2) -> None:
        super().__init__()
        self.norm, self.attention, self.norm2 = nn.LayerNorm(dim), attention, nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same shape."""
        x = x.permute(0, 2, 3, 1)
        x = x + self.attention(self.norm(x))
        return (x + self.mlp(self.norm2(x))).permute(0, 3, 1, 2)


class DepthwisePosition(nn.Module):
    """Position from the neighbours: a depth-wise 3 x 3 convolution, added to the map."""

    def __init__(self, dim: int, padding: Padding) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, padding_mode=padding)

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same shape."""
        return x + self.conv(x)


class PositionTable(nn.Module):
    """A learned vector for each place."""

    def __init__(self, dim: int, height: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(0.02 * torch.randn(dim, height, width))

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same shape."""
        return x + self.table


class PooledHead(nn.Module):
    """Mean over pixels, norm, logits: ``[B, classes]`` of ``[B, C, H, W]``."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.out(self.norm(x.mean((2, 3))))


# --- models ----------------------------------------------------------------------------------------------------------
class _Transformer(nn.Module):
    """A chain of modules with its recipe and, where it has one, its symmetry."""

    def __init__(self, recipe: Recipe, size: tuple[int, int], layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.recipe = recipe
        self.layers = nn.Sequential(*layers)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
        exact = recipe.equivariant
        self.symmetry = Symmetry(Shifts(*size), input="image", output="invariant") if exact else None

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of images ``[B, C, H, W]``."""
        return self.layers(x)


class VisionTransformer(_Transformer):
    """Patches, blocks of global attention, mean over tokens; position comes in after the first block, a table before it.

    With `EQUIVARIANT` the logits are invariant to every integer circular shift, and `symmetry` says so.

    Args:
        recipe: what decides about shifts.
        size: (H, W) of the images.
        patch: side of a patch.
        channels, classes: of images and answers.
        dim, depth, heads: width, blocks, heads.
        on_tie: of the anchor, as for `erlangen.nn.PolyphaseAnchor`.

    Raises:
        ShapeError: the patch does not divide the size.
        ErlangenError: `dim` is no multiple of `heads`.
    """

    def __init__(
        self,
        recipe: Recipe = EQUIVARIANT,
        *,
        size: tuple[int, int] = (32, 32),
        patch: int = 4,
        channels: int = 1,
        classes: int = 10,
        dim: int = 48,
        depth: int = 4,
        heads: int = 4,
        on_tie: OnTie = "warn",
    ) -> None:
        grid = _coarse(size, patch)
        blocks = [Block(dim, GlobalAttention(dim, heads)) for _ in range(depth)]
        layers = [
            _embedding(recipe, channels, dim, patch, on_tie),
            *_located(recipe, dim, grid, blocks),
            PooledHead(dim, classes),
        ]
        super().__init__(recipe, size, layers)


class Twins(_Transformer):
    """Two stages of attention in windows and attention to sub-sampled keys, in the manner of Twins-SVT.

    With `EQUIVARIANT` the logits are invariant to every integer circular shift, and `symmetry` says so. Anchors roll the
    stream itself, so that what is added up is in one frame.

    Args:
        recipe: what decides about shifts.
        size: (H, W) of the images.
        patch: side of a patch; stages work on maps of ``H / patch`` and ``H / (2 patch)``.
        channels, classes: of images and answers.
        dims, heads: width and heads of the stages.
        windows: sides of the windows of the stages.
        reduce: strides of the keys of the stages.
        on_tie: of all anchors, as for `erlangen.nn.PolyphaseAnchor`.

    Raises:
        ShapeError: a stride does not divide the map it meets.
        ErlangenError: a width is no multiple of its heads.
    """

    def __init__(
        self,
        recipe: Recipe = EQUIVARIANT,
        *,
        size: tuple[int, int] = (32, 32),
        patch: int = 4,
        channels: int = 1,
        classes: int = 10,
        dims: tuple[int, int] = (32, 64),
        heads: tuple[int, int] = (2, 4),
        windows: tuple[int, int] = (4, 2),
        reduce: tuple[int, int] = (2, 2),
        on_tie: OnTie = "warn",
    ) -> None:
        layers: list[nn.Module] = []
        grid, width = size, channels
        for stage, dim in enumerate(dims):
            step = patch if stage == 0 else 2
            grid = _coarse(grid, step)
            _coarse(grid, windows[stage])
            _coarse(grid, reduce[stage])
            local = _anchored(
                recipe,
                "windows",
                windows[stage],
                on_tie,
                Block(dim, WindowAttention(dim, heads[stage], windows[stage])),
            )
            wide = Block(dim, GlobalAttention(dim, heads[stage], reduce[stage]))
            wide = _anchored(recipe, "keys", reduce[stage], on_tie, wide)
            layers += [
                _embedding(recipe, width, dim, step, on_tie),
                *_located(recipe, dim, grid, [local, wide]),
            ]
            width = dim
        super().__init__(recipe, size, [*layers, PooledHead(width, classes)])


def _embedding(recipe: Recipe, channels: int, dim: int, patch: int, on_tie: OnTie) -> nn.Module:
    """Without a norm behind it: pixels of norm one would leave the next anchor nothing to tell components apart by."""
    if "patches" in recipe.anchors:
        return AnchoredPatchEmbed(channels, dim, patch, on_tie=on_tie)
    return nn.Conv2d(channels, dim, patch, patch)


def _located(recipe: Recipe, dim: int, grid: tuple[int, int], blocks: Sequence[nn.Module]) -> Sequence[nn.Module]:
    """Blocks with what tells them the place."""
    if recipe.position == "table":
        return [PositionTable(dim, *grid), *blocks]
    if recipe.position == "depthwise":
        return [blocks[0], DepthwisePosition(dim, recipe.padding), *blocks[1:]]
    return blocks


def _anchored(recipe: Recipe, place: Place, stride: int, on_tie: OnTie, block: nn.Module) -> nn.Module:
    """The block on the anchored stream, which stays as it was rolled."""
    return nn.Sequential(PolyphaseAnchor(stride, on_tie=on_tie), block) if place in recipe.anchors else block


# --- checks ----------------------------------------------------------------------------------------------------------
def _coarse(size: tuple[int, int], step: int) -> tuple[int, int]:
    if size[0] % step or size[1] % step:
        raise ShapeError(f"a map of {size} is no multiple of the stride {step}; choose sizes that are, such as 32 x 32")
    return size[0] // step, size[1] // step


def _check_heads(dim: int, heads: int) -> None:
    if heads < 1 or dim % heads:
        raise ErlangenError(f"dim = {dim} is no multiple of heads = {heads}")


def _check_divides(x: Tensor, step: int, name: str) -> None:
    if x.shape[1] % step or x.shape[2] % step:
        raise ShapeError(f"the map is {x.shape[1]} x {x.shape[2]}, no multiple of {name} = {step}; change one of them")

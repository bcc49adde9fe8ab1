"""Strided operations on images that commute with every shift: adaptive polyphase anchoring.

A map sampled with strides (p, q) falls into p q polyphase components ``x[:, :, i::p, j::q]``. A strided operation reads them
by their place, so a shift by one pixel, which moves them around, changes its answer. `PolyphaseAnchor` rolls every sample so
that the component with the largest norm comes first (Ding, Soselia, Armstrong, Su and Huang, "Reviving Shift Equivariance in
Vision Transformers", 2023; with single components in place of the whole map Chaman and Dokmanić, "Truly shift-invariant
convolutional neural networks", 2021). For the anchor A and every integer circular shift s,

    A(roll(x, s)) = roll(A(x), t)  with t a multiple of (p, q),

so that what commutes with shifts by multiples of (p, q) (convolutions with that stride and circular padding, attention in
windows of p x q, attention to sub-sampled keys) answers all shifts of an image alike, up to a shift of its own coarse grid,
and global pooling takes away that one too.

>>> net = torch.nn.Sequential(AnchoredPatchEmbed(1, 8, 4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
>>> x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
>>> torch.allclose(net(x), net(x.roll((3, 5), (2, 3))), atol=1e-6)
True

Only integer circular shifts are exact. A real shift brings in new pixels at the border, and a fractional one resamples; for
these, anchoring promises nothing and has to be measured.

Maps are ``[B, C, H, W]``. Anchored maps are laid out channels-last in memory, whichever way the input is.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.errors import (
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    NotFiniteError,
    OnDegenerate,
    ShapeError,
    check_floating,
    check_integer,
    check_on_degenerate,
    first_index,
    tell_degenerate,
)
from erlangen.groups import Shifts
from erlangen.symmetry import Symmetry
from erlangen.tracing import is_traced

Selector: TypeAlias = Callable[[Tensor], Tensor]
"""Scores ``[B, p, q]`` of components ``[B, p, q, C, H/p, W/q]``; the largest wins.

The score of a component must not depend on how it is rolled, to the last bit: sort before a sum, or sum integers.
"""

Stride: TypeAlias = int | tuple[int, int]

TIE = 8.0
"""Relative gap between the two best scores, in units of rounding, below which they count as a tie (1e-6 in float32)."""

MIXTURE = (0.7548776662466927, 0.5698402909980532)
"""Shares of the neighbours that break ties: powers of a cubic irrational, so that grey levels hardly ever add up alike."""


# --- components and rolls --------------------------------------------------------------------------------------------
def polyphase(x: Tensor, stride: Stride) -> Tensor:
    """Polyphase components ``[B, p, q, C, H/p, W/q]`` of maps ``[B, C, H, W]``, a view: ``[:, i, j]`` is ``x[:, :, i::p, j::q]``.

    Raises:
        ErlangenError: the stride is no positive integer or pair of these.
        ShapeError: x is no batch of maps, or the stride does not divide its size.
    """
    p, q = check_stride(stride)
    _check_map(x, (p, q))
    return x.unflatten(2, (x.shape[2] // p, p)).unflatten(4, (x.shape[3] // q, q)).permute(0, 3, 5, 1, 2, 4)


def component_norms(components: Tensor) -> Tensor:
    """Squared norms of components ``[B, p, q, C, h, w]`` in units of their own for each sample, int64 ``[B, p, q]``.

    Integers, because their sum has no order: rolling a component cannot change its score, whereas a sum of floating numbers
    may change in the last digit and let another of two close components win. Entries are divided by the largest of their
    sample, so that nothing overflows; squares are kept to 2^-62 of the largest sum possible, and those of float32 to the
    rounding of float32. Half precision is cast to float32.
    """
    x = components.detach()
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    peak = x.abs().amax(tuple(range(1, x.ndim)), keepdim=True)
    bits = 62 - math.ceil(math.log2(max(math.prod(x.shape[3:]), 1)))
    shares = x / torch.where(peak > 0, peak, 1)
    return (shares.square() * 2.0**bits).to(torch.int64).sum((3, 4, 5))


def roll_samples(x: Tensor, shift: Tensor) -> Tensor:
    """Roll each map of ``[B, C, H, W]`` by its own shift, int64 ``[B, 2]`` (rows, columns), as ``torch.roll`` does.

    Nothing is computed, only moved; the gradient is the inverse roll. The answer is channels-last in memory.

    Raises:
        DtypeError: fractional shifts.
        ShapeError: not one pair for each map.
    """
    if shift.is_floating_point():
        raise DtypeError(f"shift has dtype {shift.dtype}; only integer circular shifts move pixels exactly, pass int64")
    if x.ndim != 4 or shift.shape != (x.shape[0], 2):
        raise ShapeError(f"x {tuple(x.shape)} and shift {tuple(shift.shape)}: give maps [B, C, H, W] and shifts [B, 2]")
    if is_traced():
        return _gathered(x, shift)
    return _Roll.apply(x, shift)


def _gathered(x: Tensor, shift: Tensor) -> Tensor:
    """Whole pixels are picked, all channels at once: four times faster than a gather per channel."""
    batch, channels, height, width = x.shape
    rows = (torch.arange(height, device=x.device) - shift[:, :1]) % height
    columns = (torch.arange(width, device=x.device) - shift[:, 1:]) % width
    start = torch.arange(batch, device=x.device)[:, None] * height
    source = (start + rows)[:, :, None] * width + columns[:, None]
    pixels = x.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    return pixels.index_select(0, source.flatten()).view(batch, height, width, channels).permute(0, 3, 1, 2)


class _Roll(torch.autograd.Function):
    """A permutation's gradient is its inverse: another gather, where autograd would add up into zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(shift)
        return _gathered(x, shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (shift,) = ctx.saved_tensors
        return _Roll.apply(grads[0], -shift), None


# --- the anchor ------------------------------------------------------------------------------------------------------
class PolyphaseAnchor(nn.Module):
    """Roll each map so that its best polyphase component comes first.

    Idempotent, the identity for stride 1, and each sample is treated on its own. The choice is piecewise constant, so the
    gradient is the inverse roll of the gradient that comes in. Between an anchor and what it anchors nothing may stand that
    does not commute with shifts by multiples of the stride.

    Ties: pictures of few grey levels, binary ones above all, do have components of equal norm. Among those whose scores
    differ from the best by less than 8 units of rounding (1e-6 of it in float32, 2e-15 in float64) the norm of a fixed,
    lopsided, non-linear mixture of each pixel and its neighbours decides, then that of a mixture of mixtures over a larger
    distance, and so on until the mixtures reach around the image. Where those tie, too, the image does not tell its
    components apart, or barely: constant and periodic ones. Then the first in the order of (i, j) is taken, which leaves a
    constant map as it is, and the answer may change with the shift (not where the image repeats itself exactly: then equal
    components are equal images). `on_tie` says what to do about it. That is not checked in compiled code and under
    ``torch.func``, and neither are NaN and Inf.

    Do not anchor by norm what comes out of a layer norm: all its pixels have the same norm, and so have the components.

    >>> x = torch.tensor([[0.0, 1.0, 0.0, 3.0]]).view(1, 1, 1, 4)
    >>> PolyphaseAnchor((1, 2))(x).flatten()
    tensor([1., 0., 3., 0.])

    Args:
        stride: p, or (p, q) for rows and columns.
        selector: what makes a component the best; by default its norm. A module is trained with the rest as far as its
            scores are used elsewhere: the choice itself has no gradient.
        on_tie: "warn" (in eval mode; ties do training no harm), "error" or "allow".

    Raises:
        ErlangenError: the stride is no positive integer or pair of these.
        UnknownNameError: another `on_tie`.
    """

    def __init__(self, stride: Stride, *, selector: Selector = component_norms, on_tie: OnDegenerate = "warn") -> None:
        super().__init__()
        self.stride = check_stride(stride)
        check_on_degenerate(on_tie, "on_tie")
        self.selector, self.on_tie = selector, on_tie

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, C, H, W]``, each rolled.

        Raises:
            ShapeError: x is no batch of maps, the stride does not divide its size, or the selector's scores are no ``[B, p, q]``.
            DtypeError: x is not floating point.
            NotFiniteError: a score is NaN or Inf, or x is: no component is the best then.
            DegenerateFrameError: a tie, with ``on_tie="error"``.
        """
        return self.anchor(x)[0]

    def anchor(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rolled maps, and the winning components (i, j), int64 ``[B, 2]``, which `undo` takes."""
        place = self.locate(x)
        return (x if self.stride == (1, 1) else roll_samples(x, -place)), place

    def locate(self, x: Tensor) -> Tensor:
        """The winning component (i, j) of each map, int64 ``[B, 2]``."""
        check_floating(x, "x")
        components = polyphase(x, self.stride)
        scores = self.selector(components)
        if scores.shape != components.shape[:3]:
            raise ShapeError(
                f"the selector gave scores {tuple(scores.shape)} for components {tuple(components.shape)}; it must give "
                f"one for each, {tuple(components.shape[:3])}"
            )
        flat = scores.detach().flatten(1)
        eager = not is_traced()
        if eager:
            _check_peaks(x.detach(), flat)
        tied, best = _near_the_best(flat, x.dtype), flat.argmax(1)
        # Distances 1, 2, 5, 12, 29, ...: powers of two would be multiples of most strides, and mix a component with itself.
        mixture, reach, following = x.detach(), 1, 2
        while reach < max(x.shape[2:]):
            if eager and not bool((tied.sum(1) > 1).any()):
                break
            mixture = _mixed(mixture, reach)
            reach, following = following, reach + 2 * following
            # Among those that are still tied; whom a round tells apart by more than rounding leaves with a margin.
            next_scores = component_norms(polyphase(mixture, self.stride)).flatten(1).masked_fill(~tied, -1)
            tied, best = tied & _near_the_best(next_scores, x.dtype), next_scores.argmax(1)
        if eager:
            self._judge(tied)
        return torch.stack([best // self.stride[1], best % self.stride[1]], 1)

    @staticmethod
    def undo(y: Tensor, place: Tensor) -> Tensor:
        """Roll maps of the size of the anchored ones back: ``undo(*anchor(x)) = x``."""
        return roll_samples(y, place)

    def _judge(self, tied: Tensor) -> None:
        """Report samples with more than one component ``[B, p q]`` that is as good as the best."""
        several = tied.sum(1) > 1
        if self.on_tie == "allow" or (self.on_tie == "warn" and self.training) or not bool(several.any()):
            return
        message = (
            f"x[{first_index(several)[0]}] ({int(several.sum())} of {len(several)} samples) does not tell its polyphase "
            f"components of stride {self.stride} apart: the two best differ by less than {TIE:.0f} units of rounding, so that "
            "the answer may change when the image is shifted; use another selector, or pass on_tie='allow'"
        )
        tell_degenerate(message, self.on_tie, stacklevel=4)

    @override
    def extra_repr(self) -> str:
        return f"stride={self.stride}"


def _near_the_best(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Which scores ``[B, K]`` differ from the best of their row by less than `TIE` units of rounding; bool."""
    eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    values = scores.double()
    best = values.amax(1, keepdim=True)
    return best - values <= TIE * eps * best.abs()


def _mixed(x: Tensor, reach: int = 1) -> Tensor:
    """Each pixel plus a share of the one `reach` above and of the one as far to the left, and the square of the sum.

    In units of the largest pixel of each sample. The shares differ, and the square makes that which stands beside what
    count: sums alone would be sums over the same multiset of pixels again. Sums and products one after the other, and a
    largest number: bits that do not depend on where the pixel is.
    """
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    peak = x.abs().amax((1, 2, 3), keepdim=True)
    x = x / torch.where(peak > 0, peak, 1)
    near = x + MIXTURE[0] * x.roll(reach, 2) + MIXTURE[1] * x.roll(reach, 3)
    return near + near.square()


def _check_peaks(x: Tensor, scores: Tensor) -> None:
    for name, values in (("x", x), ("scores", scores)):
        if values.is_floating_point() and values.numel():
            check_peak(values.abs().amax(tuple(range(1, values.ndim))), name)


class Anchored(nn.Module):
    """Make a module of maps equivariant under all circular shifts: anchor, apply, roll back.

    The module must keep height and width, and commute with circular shifts by multiples of the stride: attention in windows,
    attention to sub-sampled keys, a strided convolution followed by ``nn.Upsample`` (dense prediction). Then the whole
    commutes with every circular shift.

    Args:
        module: from ``[B, C, H, W]`` to ``[B, C', H, W]``.
        stride: p, or (p, q).
        size: (H, W) of the maps; with it the layer carries its `symmetry` under ``Shifts(H, W)``, None without.
        selector, on_tie: as for `PolyphaseAnchor`.

    Warns:
        ErlangenWarning: the module contains convolutions with other padding than circular, which do not commute with shifts.

    Raises:
        ErlangenError, UnknownNameError: as `PolyphaseAnchor`.
        ShapeError: the stride does not divide the size.
    """

    def __init__(
        self,
        module: nn.Module,
        stride: Stride,
        *,
        size: tuple[int, int] | None = None,
        selector: Selector = component_norms,
        on_tie: OnDegenerate = "warn",
    ) -> None:
        super().__init__()
        self.anchor = PolyphaseAnchor(stride, selector=selector, on_tie=on_tie)
        self.module = module
        self.symmetry = None
        if size is not None:
            _check_size(size, self.anchor.stride)
            self.symmetry = Symmetry(Shifts(*size), input="image", output="image")
        if padded := padded_modules(module):
            warnings.warn(
                f"{', '.join(padded)} of {type(module).__name__} pad their input with something else than the other side of "
                "the map, so the result is not equivariant; pass padding_mode='circular' to them",
                ErlangenWarning,
                stacklevel=2,
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, C', H, W]`` of maps ``[B, C, H, W]``.

        Raises:
            ShapeError: the module changes height or width; and what `PolyphaseAnchor` raises.
        """
        anchored, place = self.anchor.anchor(x)
        y = self.module(anchored)
        if y.ndim != 4 or y.shape[2:] != x.shape[2:]:
            raise ShapeError(
                f"the module makes {tuple(y.shape)} of maps {tuple(x.shape)}, but its answer can be rolled back only on the "
                "same grid; end it with nn.Upsample, or use PolyphaseAnchor and leave the answer on its own grid"
            )
        return self.anchor.undo(y, place)


def padded_modules(module: nn.Module) -> list[str]:
    """Names of the convolutions inside of a module that pad with anything but the other side of the map."""
    return [
        name or type(part).__name__
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d) and part.padding_mode != "circular" and part.padding not in ((0, 0), "valid")
    ]


# --- strided convolutions --------------------------------------------------------------------------------------------
class AnchoredConv2d(nn.Conv2d):
    """Strided convolution with circular padding of an anchored map: shifts of the input only shift the coarse output.

    ``conv(roll(x, s))`` is a roll of ``conv(x)`` for every integer circular shift s. Names and shapes of the parameters are
    those of ``nn.Conv2d``, so the weights of a trained one can be loaded. Before a sum over all pixels it is invariant, and
    so it is before the same layer again. The output has its own grid: `Anchored` is for outputs on the grid of the input.

    Args:
        in_channels, out_channels, kernel_size, groups, bias: as for ``nn.Conv2d``.
        stride: p, or (p, q).
        lead: rows and columns of the kernel before the pixel that it stands on; by default ``(k - 1) // 2``, its middle.
        selector, on_tie: as for `PolyphaseAnchor`.
        generator: source of the initial weights; torch's global stream without it.

    Raises:
        ErlangenError: a stride or kernel size that is no positive integer or pair, or a lead outside of the kernel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Stride,
        stride: Stride,
        *,
        lead: Stride | None = None,
        groups: int = 1,
        bias: bool = True,
        selector: Selector = component_norms,
        on_tie: OnDegenerate = "warn",
        generator: Generator | None = None,
    ) -> None:
        kernel, steps = check_stride(kernel_size, "kernel_size"), check_stride(stride)
        super().__init__(in_channels, out_channels, kernel, steps, groups=groups, bias=bias)
        before = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2) if lead is None else _pair("lead", lead, 0)
        if before[0] >= kernel[0] or before[1] >= kernel[1]:
            raise ErlangenError(
                f"lead = {before}: the pixel must be inside of the kernel {kernel}; give less than its size"
            )
        after = (kernel[0] - 1 - before[0], kernel[1] - 1 - before[1])
        self.margins = (before[1], after[1], before[0], after[0])
        self.anchor = PolyphaseAnchor(steps, selector=selector, on_tie=on_tie)
        if generator is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.Conv2d
        """Maps ``[B, out_channels, H/p, W/q]`` of maps ``[B, in_channels, H, W]``.

        Raises:
            ShapeError: another number of channels, a map smaller than the margins, and what `PolyphaseAnchor` raises.
        """
        if input.ndim != 4 or input.shape[1] != self.in_channels:
            raise ShapeError(f"x has shape {tuple(input.shape)}, but maps [B, {self.in_channels}, H, W] are needed")
        return self.convolve(self.anchor(input))

    def convolve(self, x: Tensor) -> Tensor:
        """The circular convolution with stride, of maps as they are."""
        left, right, top, bottom = self.margins
        if max(top, bottom) > x.shape[2] or max(left, right) > x.shape[3]:
            raise ShapeError(f"x has shape {tuple(x.shape)}: smaller than the margins of the kernel {self.kernel_size}")
        rows = torch.cat([x[:, :, x.shape[2] - top :], x, x[:, :, :bottom]], 2)
        full = torch.cat([rows[..., x.shape[3] - left :], rows, rows[..., :right]], 3)
        return F.conv2d(full, self.weight, self.bias, self.stride, groups=self.groups)


class AnchoredPatchEmbed(AnchoredConv2d):
    """Patches of an anchored image to vectors: the first layer of a vision transformer.

    Args:
        in_channels: channels of the image.
        dim: size of the vectors.
        patch: height and width of a patch, one number or a pair; also the stride.
        selector, on_tie, generator: as for `AnchoredConv2d`.

    Its answer ``[B, dim, H/p, W/q]`` becomes tokens by ``.flatten(2).mT``.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        patch: Stride,
        *,
        selector: Selector = component_norms,
        on_tie: OnDegenerate = "warn",
        generator: Generator | None = None,
    ) -> None:
        super().__init__(
            in_channels, dim, patch, patch, lead=0, selector=selector, on_tie=on_tie, generator=generator
        )  # fmt: skip


# --- checks ----------------------------------------------------------------------------------------------------------
def check_stride(stride: object, name: str = "stride") -> tuple[int, int]:
    """A positive integer or a pair of these, as a pair; `ErlangenError` otherwise."""
    return _pair(name, stride, 1)


def _pair(name: str, value: object, least: int) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)):
        number = check_integer(name, value, least)
        return number, number
    if len(value) != 2:
        raise ErlangenError(f"{name} = {value!r} has {len(value)} entries; give one integer, or two: rows and columns")
    return check_integer(f"{name}[0]", value[0], least), check_integer(f"{name}[1]", value[1], least)


def check_peak(peak: Tensor, name: str) -> None:
    """Raise `NotFiniteError` when the largest entry of a sample is NaN or Inf."""
    bad = ~torch.isfinite(peak)
    if bool(bad.any()):
        raise NotFiniteError(
            f"{name}[{first_index(bad)[0]}] holds NaN or Inf ({int(bad.sum())} of {len(bad)} samples): no component is the "
            "largest; remove or impute them before the call"
        )


def _check_map(x: Tensor, stride: tuple[int, int]) -> None:
    if x.ndim != 4:
        raise ShapeError(f"x has shape {tuple(x.shape)}, but maps [B, C, H, W] are needed")
    _check_size((x.shape[2], x.shape[3]), stride)


def _check_size(size: tuple[int, int], stride: tuple[int, int]) -> None:
    for axis, length, step in zip(("H", "W"), size, stride, strict=True):
        if length % step or length == 0:
            below, above = length // step * step, -(-length // step) * step
            near = f"{below} or {above}" if below else f"{step}"
            raise ShapeError(
                f"{axis} = {length} is no multiple of the stride {step}; crop or resize to {near} (padding an image changes "
                "what a circular shift of it is, so the result would not be equivariant)"
            )

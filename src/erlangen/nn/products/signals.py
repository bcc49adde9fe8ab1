"""Products by way of a carrier, with channels and weights: forms "elementwise", "depthwise" and "connected"."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from erlangen.errors import IrrepsError
from erlangen.irreps import Irrep, Irreps
from erlangen.nn.products.carriers import Carrier, Slot
from erlangen.nn.products.paths import Form

MakeCarrier = Callable[[Irreps, Irreps, Irreps], Carrier]


class CarriedProduct:
    """Channels of both inputs are carriers' elements; they are multiplied channel by channel.

    Weights ``[E or 1, weight_numel]``: "elementwise" has none; "depthwise" one for each slot of x, of y and of the output
    and each channel, in this order, slots slow; "connected" mixes copies and channels, ``[slot, copies, channels]`` for x
    and y and ``[slot, channels, copies]`` for the output.

    Args:
        x, y, out: irreps; None for `out` keeps all that the product reaches.
        form: how copies meet.
        make: builds the carrier for one channel.
        default: irreps of the output, one copy each, where `out` is None.

    Raises:
        IrrepsError: the multiplicities do not fit the form, or the carrier cannot carry an irrep.
    """

    def __init__(
        self, x: Irreps, y: Irreps, out: Irreps | None, form: Form, make: MakeCarrier, default: Irreps
    ) -> None:
        if form == "full":
            raise IrrepsError(
                'the form "full" needs rule="cg"; other rules multiply channel by channel: use "elementwise"'
            )
        if form == "connected" and out is None:
            raise IrrepsError(
                'irreps_out is missing: the form "connected" mixes into given irreps, such as "8x0e+4x1o"'
            )
        self.form: Form = form
        self.x, self.y = x, y
        self.channels = self._channels(out)
        self.out = out if out is not None else Irreps([(self.channels, block.ir) for block in default])
        self.carrier = make(*(_one_channel(irreps) for irreps in (x, y, self.out)))
        self.sides = [
            _Side(self.x, self.carrier.slots_x),
            _Side(self.y, self.carrier.slots_y),
            _Side(self.out, self.carrier.slots_out),
        ]
        self.sizes = [self._weights(side) for side in self.sides]
        self.weight_numel = sum(self.sizes)

    def _channels(self, out: Irreps | None) -> int:
        if self.form == "connected":
            return max(block.mul for block in (out or Irreps()))
        sides = [("irreps_x", self.x), *([("irreps_y", self.y)] if self.form == "elementwise" else [])]
        sides += [("irreps_out", out)] if out is not None else []
        channels = self.x[0].mul if self.x else 0
        for name, irreps in sides:
            for block in irreps:
                if block.mul != channels:
                    raise IrrepsError(
                        f"{name}: {block} has {block.mul} copies, but all blocks need the {channels} channels of irreps_x's "
                        f'first in the form "{self.form}"; form="connected" mixes channels'
                    )
        if self.form == "depthwise" and any(block.mul != 1 for block in self.y):
            raise IrrepsError(
                f'irreps_y: {self.y} must have one copy of each irrep in the form "depthwise" of this rule'
            )
        return channels

    def _weights(self, side: _Side) -> int:
        if self.form == "elementwise":
            return 0
        if self.form == "depthwise":
            return len(side.slots) * self.channels
        return sum(side.irreps[slot.block].mul for slot in side.slots) * self.channels

    def __call__(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Rows ``[E, x.dim]``, ``[E, y.dim]`` and weights to ``[E, out.dim]``."""
        w_x, w_y, w_out = weight.split(self.sizes, -1)
        product = self.carrier.multiply(self._enter(x, self.sides[0], w_x), self._enter(y, self.sides[1], w_y))
        return self._leave(product, self.sides[2], w_out)

    def _enter(self, features: Tensor, side: _Side, weight: Tensor) -> Tensor:
        """Features ``[E, dim]`` to slot coordinates ``[E, channels or 1, dim of slots]``."""
        if self.form == "elementwise" and side.plain and all(block.mul == 1 for block in side.irreps):
            return features[:, None]
        pieces = side.copies(features)
        parts: list[Tensor] = []
        if self.form == "connected":
            shapes = [(side.irreps[slot.block].mul, self.channels) for slot in side.slots]
            weights = weight.split([m * n for m, n in shapes], -1)
            for slot, w, (copies, n) in zip(side.slots, weights, shapes, strict=True):
                parts.append(w.unflatten(-1, (copies, n)).mT @ pieces[slot.block] / math.sqrt(copies))
        else:
            weights = weight.unflatten(-1, (len(side.slots), -1))[..., None] if self.form == "depthwise" else None
            for n, slot in enumerate(side.slots):
                parts.append(pieces[slot.block] if weights is None else pieces[slot.block] * weights[:, n])
        return torch.cat([part / side.share(slot) for part, slot in zip(parts, side.slots, strict=True)], -1)

    def _leave(self, product: Tensor, side: _Side, weight: Tensor) -> Tensor:
        """Slot coordinates ``[E, channels, dim of slots]`` to features ``[E, dim]``."""
        if self.form == "elementwise" and side.plain and all(block.mul == 1 for block in side.irreps):
            return product[:, 0]
        pieces = product.split([slot.irrep.dim for slot in side.slots], -1)
        totals: dict[int, Tensor] = {}
        if self.form == "connected":
            shapes = [(self.channels, side.irreps[slot.block].mul) for slot in side.slots]
            weights = [
                w.unflatten(-1, s) for w, s in zip(weight.split([m * n for m, n in shapes], -1), shapes, strict=True)
            ]
            pieces = [w.mT @ part / math.sqrt(self.channels) for w, part in zip(weights, pieces, strict=True)]
        elif self.form == "depthwise":
            factors = weight.unflatten(-1, (len(side.slots), -1))[..., None]
            pieces = [part * factors[:, n] for n, part in enumerate(pieces)]
        for slot, part in zip(side.slots, pieces, strict=True):
            part = part / side.share(slot)
            totals[slot.block] = totals[slot.block] + part if slot.block in totals else part
        return torch.cat([totals[n].flatten(1) for n in range(len(side.irreps))], -1)


class _Side:
    """The blocks of one input or of the output, and their slots."""

    def __init__(self, irreps: Irreps, slots: list[Slot]) -> None:
        self.irreps, self.slots = irreps, slots
        self.plain = [slot.block for slot in slots] == list(range(len(irreps)))

    def share(self, slot: Slot) -> float:
        """What a slot is divided by, so that a block keeps its variance."""
        return math.sqrt(sum(other.block == slot.block for other in self.slots))

    def copies(self, features: Tensor) -> list[Tensor]:
        """Blocks ``[E, mul, 2 l + 1]``."""
        parts = features.split([block.dim for block in self.irreps], -1)
        return [part.unflatten(-1, (block.mul, block.ir.dim)) for part, block in zip(parts, self.irreps, strict=True)]


def _one_channel(irreps: Irreps) -> Irreps:
    return Irreps([(1, block.ir) for block in irreps if block.mul])


def reachable(x: Irreps, y: Irreps, keep: set[Irrep] | None, without: set[Irrep]) -> Irreps:
    """One copy of each irrep of the tensor product, sorted, but for those in `without`."""
    found = {ir for a in x for b in y for ir in a.ir * b.ir} - without
    return Irreps(sorted(found if keep is None else found & keep))


def signals_reach(x: Irreps, y: Irreps, keep: set[Irrep] | None = None) -> Irreps:
    """One copy of each irrep of the product of the signals on the sphere, sorted."""
    found = {
        Irrep(l, a.ir.p * b.ir.p * (-1) ** (a.ir.l + b.ir.l + l))
        for a in x
        for b in y
        for l in range(abs(a.ir.l - b.ir.l), a.ir.l + b.ir.l + 1, 2)
    }
    return Irreps(sorted(found if keep is None else found & keep))

"""The kernel of a group convolution as a network of the coordinates of the polar chart."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

from erlangen.errors import GroupError, UnknownNameError, check_integer
from erlangen.groups import SO, GLPlus, GroupSamples, LinearGroup, PolarChart
from erlangen.nn.fields.siren import Siren

Mask = Literal["hard", "sigmoid"]

SIGMOID_SLOPE = 2.0
"""Slope of the soft mask: its value is ``sigmoid(2 (1 - |z|))``."""


class GroupKernel(nn.Module):
    """A kernel ``k(z, h)`` on ``R^2 x H`` with matrix values: a `Siren` of z and of h's coordinates in the polar chart.

    The rotation angle t enters as (cos t, sin t), so that the kernel is continuous at half turns, where the logarithm jumps;
    ``periodic=False`` gives the coordinate of the chart itself. The kernel starts with the frequencies of a Siren of z alone
    in z, and with lower ones in h: it can tell strokes, and needs few samples of H. It vanishes outside of the unit disc of z
    ("hard") or fades there ("sigmoid").

    Args:
        group: H: SL(2), GL+(2), SO(2) or the trivial group of the plane.
        in_channels, out_channels: its values are matrices ``[out_channels, in_channels]``.
        on_group: whether it depends on h; the lifting kernel does not.
        hidden: widths of the sine layers.
        omega: their frequency.
        mask: "hard" or "sigmoid"; by default hard for groups that preserve volume.
        periodic: see above.
        reach: width of a Gaussian window ``exp(-|log P|^2 / (2 reach^2))`` on the symmetric part P of h; none without it.
        fan_in: number of terms of unit size in a sum that should have about unit size at the start.
        generator: source of the initial parameters.
    """

    def __init__(
        self,
        group: LinearGroup,
        in_channels: int,
        out_channels: int,
        *,
        on_group: bool,
        hidden: tuple[int, ...] = (60, 60),
        omega: float = 10.0,
        mask: Mask | None = None,
        periodic: bool = True,
        reach: float | None = None,
        fan_in: int = 1,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if group.space_dim != 2:
            raise GroupError(
                f"group = {group.name} acts on R^{group.space_dim}; planar convolutions need a group of R^2"
            )
        self.chart, self.group = PolarChart(group), group
        self.mask: Mask = mask or ("sigmoid" if isinstance(group, GLPlus) else "hard")
        if self.mask not in get_args(Mask):
            raise UnknownNameError(f"mask = {mask!r}; known masks are {', '.join(get_args(Mask))}")
        if reach is not None and not reach > 0:
            raise GroupError(f"reach = {reach!r}: give a positive width, or None for no window")
        self.on_group, self.periodic, self.reach = on_group, periodic, reach
        self.shape = (check_integer("out_channels", out_channels, 1), check_integer("in_channels", in_channels, 1))
        turns = group.dim > self.chart.symmetric_dim
        features = 2 + (group.dim + (periodic and turns) if on_group else 0)
        size = out_channels * in_channels
        self.net = Siren(features, size, hidden, omega=omega, out_std=fan_in**-0.5, generator=generator)
        with torch.no_grad():  # a Siren divides frequencies by the number of inputs; in z that is too low to learn from
            next(self.net.layers.parameters())[:, :2] *= features / 2

    def features(self, h: Tensor) -> Tensor:
        """What the network reads of elements ``[..., 2, 2]``: ``[..., f]``."""
        a = self.chart.coordinates(h)
        k = self.chart.symmetric_dim
        if not self.periodic or a.shape[-1] == k:
            return a
        t = a[..., k:] if isinstance(self.group, SO) else a[..., k:] * 0.5**0.5
        return torch.cat([a[..., :k], t.cos(), t.sin()], -1)

    @torch.no_grad()
    def relative(self, inputs: GroupSamples, outputs: GroupSamples) -> Tensor:
        """`features` of all ``h^-1 h'``, h of the outputs and h' of the inputs: ``[N_out, N_in, f]``."""
        return self.features(outputs.inverse[:, None] @ inputs.g)

    def forward(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """Values ``[..., out_channels, in_channels]`` at points z ``[..., 2]`` and `features` ``[..., f]`` of h."""
        inputs = z
        if features is not None:
            lead = torch.broadcast_shapes(z.shape[:-1], features.shape[:-1])
            inputs = torch.cat([z.expand(*lead, -1), features.expand(*lead, -1)], -1)
        radius = z.norm(dim=-1)
        # Pixels on the rim of the disc stay in whatever the round-off of h^-1 z.
        mask = (radius <= 1 + 1e-6).to(z) if self.mask == "hard" else torch.sigmoid(SIGMOID_SLOPE * (1 - radius))
        if self.reach is not None and features is not None:
            log_p = features[..., : self.chart.symmetric_dim]
            mask = mask * torch.exp(-log_p.square().sum(-1) / (2 * self.reach**2))
        return self.net(inputs).unflatten(-1, self.shape) * mask[..., None, None]

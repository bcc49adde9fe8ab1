"""Latent frames: a message passing network of bodies that is framed anew after every layer (Puny et al., ICLR 2022)."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from erlangen.enforce.frames import FrameSet
from erlangen.enforce.pca_frames import PCAFrame
from erlangen.errors import (
    DegenerateFrameError,
    ErlangenError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
    check_on_degenerate,
    first_index,
    tell_degenerate,
)
from erlangen.groups import SE, SO, E, O
from erlangen.nn.graphs.body_networks import with_distances
from erlangen.nn.graphs.graph_networks import MessagePassing, edges_of
from erlangen.symmetry import Symmetry

FrameOf = Literal["positions", "positions and velocities"]
_ACTIONS = {"pos": "points", "vel": "vectors", "edge_attr": "invariant"}


class FrameGNN(nn.Module):
    """A message passing network that is exact under motions, by frames that are computed anew after every layer.

    The input enters in all coordinate systems of its frame. After each layer but the last, features are read as vectors,
    turned back and averaged over the frame, which makes them equivariant; the frame of these latent vectors then takes
    the place of the former, and the features enter the next layer in its coordinates (Puny et al. 2022, section 4.3 and
    the authors' code, which the defaults follow). Frames are constants for the gradient.

    >>> x = {"pos": torch.randn(2, 5, 3), "vel": torch.randn(2, 5, 3), "edge_attr": torch.randn(2, 5, 5, 1)}
    >>> FrameGNN(MessagePassing(6, 3, 12, edge_features=2))(x).shape  # products of charges, and squared distances
    torch.Size([2, 5, 3])

    Args:
        net: the network; ``net.embed`` reads position and velocity in coordinates, 6 numbers, ``net.decode`` gives 3, and
            its width is a multiple of three.
        group: E(3), or SE(3), whose frames are half as large and keep mirror images apart.
        distances: add the squared distance of two particles to the features of their edge; `net` then reads one more.
        frame_of: the principal axes of the positions are the outer frame, or those of positions and velocities together,
            which exist for collinear particles too.
        centred: latent vectors enter the next layer without their mean over particles and channels.
        on_degenerate: what happens to inputs that do not determine their frame: "warn", "error" or "allow". Latent frames
            are not judged.

    Attributes:
        symmetry: `group` on dicts of ``pos``, ``vel`` and ``edge_attr``, to points.

    Raises:
        ErlangenError: `net` has other sizes, or `group` is another one.
        UnknownNameError: `frame_of` or `on_degenerate` is no known name.
    """

    def __init__(
        self,
        net: MessagePassing,
        group: E | SE | None = None,
        *,
        distances: bool = True,
        frame_of: FrameOf = "positions",
        centred: bool = True,
        on_degenerate: str = "warn",
    ) -> None:
        super().__init__()
        width = next(net.embed.parameters()).shape[0]
        outputs = list(net.decode.parameters())[-1].shape[0]
        if width % 3 or net.in_features != 6 or outputs != 3:
            raise ErlangenError(
                f"net reads {net.in_features} numbers, has width {width} and gives {outputs}; it needs 6, a multiple of 3, and 3"
            )
        group = E(3) if group is None else group
        if type(group) not in (E, SE) or group.space_dim != 3:
            raise ErlangenError(f"group is {group!r}; give E(3) or SE(3)")
        check_on_degenerate(on_degenerate)
        if frame_of not in get_args(FrameOf):
            raise UnknownNameError(f"frame_of = {frame_of!r}: choose one of {', '.join(get_args(FrameOf))}")
        if distances and not net.edge_features:
            raise ErlangenError("net reads no features of edges; give it edge_features=1 more, or pass distances=False")
        self.net, self.on_degenerate = net, on_degenerate
        self.distances, self.frame_of, self.centred = distances, frame_of, centred
        actions = _ACTIONS if net.edge_features > distances else {key: _ACTIONS[key] for key in ("pos", "vel")}
        self.symmetry = Symmetry(group, input=actions, output="points")
        around = O(3) if isinstance(group, E) else SO(3)
        moving = Symmetry(around, input={"pos": "vectors", "vel": "vectors"}, output="vectors")
        self._latent = PCAFrame(Symmetry(around, input="vectors", output="vectors"), differentiable=False)
        self._outer = self._latent if frame_of == "positions" else PCAFrame(moving, differentiable=False)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]`` that are predicted.

        Args:
            x: ``pos`` and ``vel`` ``[B, N, 3]``, and ``edge_attr [B, N, N, F]`` where the network reads it, F being one
                less than ``net.edge_features`` with `distances`.

        Raises:
            ShapeError: shapes do not fit, or there are no particles.
            NotFiniteError: a number is NaN or infinite; names the system.
            DegenerateFrameError: all particles lie at one place (and rest, where velocities count), or see `on_degenerate`.
        """
        pos, vel = self._checked(x)
        centre = pos.double().mean(1, keepdim=True)  # in float64, so that far away places do not cost digits
        local = {"pos": (pos.double() - centre).to(pos), "vel": vel}
        frames = self._framed(local)
        self._judge(frames)
        axes = frames.elements.to(pos)
        h = torch.cat([_into(local["pos"], axes), _into(vel, axes)], -1)
        count = axes.shape[1]
        edges, attr = edges_of(h, self._repeated(x, local["pos"], count), self.net.edge_features, None)
        h = self.net.embed(h.flatten(0, 2))
        for index, layer in enumerate(self.net.layers):
            h = layer(h, edges, attr)
            if index + 1 < len(self.net.layers):
                axes, h = self._reframed(axes, h, pos.shape[1])
        moved = _back(axes, self.net.decode(h).reshape(len(pos), count, pos.shape[1], 3)).mean(1)
        return (local["pos"].double() + moved.double() + centre).to(pos)

    def gaps(self, x: dict[str, Tensor]) -> Tensor:
        """How well the frames of systems ``[B]`` are determined: smallest relative gap of the eigenvalues."""
        pos, vel = self._checked(x)
        return self._gap(self._framed({"pos": pos - pos.mean(1, keepdim=True), "vel": vel}))

    def _framed(self, local: dict[str, Tensor]) -> FrameSet:
        return self._outer(local["pos"] if self.frame_of == "positions" else local)

    def _gap(self, frames: FrameSet) -> Tensor:
        """Relative gaps ``[B]``; two axes without any extent count too if velocities may have components there."""
        if self.frame_of != "positions":
            return frames.gap
        spectrum = cast("Tensor", frames.spectrum)
        apart = spectrum.diff(dim=-1).amin(-1)
        return apart / spectrum[:, -1].clamp(min=torch.finfo(spectrum.dtype).tiny)

    def _reframed(self, axes: Tensor, h: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
        """The frame ``[B, K, 3, 3]`` of latent vectors, and the features ``[B K N, W]`` in its coordinates."""
        batch, count = axes.shape[:2]
        channels = h.shape[-1] // 3
        vectors = _back(axes, h.reshape(batch, count, nodes * channels, 3)).mean(1)
        spread = vectors - vectors.mean(1, keepdim=True)
        axes = self._latent(spread.detach()).elements.to(vectors)
        vectors = spread if self.centred else vectors
        return axes, _into(vectors, axes).reshape(batch * count * nodes, 3 * channels)

    def _repeated(self, x: dict[str, Tensor], pos: Tensor, count: int) -> Tensor | None:
        """Features of edges, the same in every coordinate system."""
        attr = with_distances(pos, x.get("edge_attr")) if self.distances else x.get("edge_attr")
        return None if attr is None else attr[:, None].expand(-1, count, -1, -1, -1)

    def _checked(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if not isinstance(x, dict) or not {"pos", "vel"} <= set(x):
            given = sorted(x) if isinstance(x, dict) else type(x).__name__
            raise ShapeError(f"x is {given}; pass a dict of pos and vel")
        pos, vel = x["pos"], x["vel"]
        if pos.dim() != 3 or pos.shape[-1] != 3 or pos.shape[1] == 0 or vel.shape != pos.shape:
            raise ShapeError(
                f"pos and vel have shapes {tuple(pos.shape)} and {tuple(vel.shape)}; pass [B, N, 3] twice, N at least 1"
            )
        if not torch.compiler.is_compiling():
            for key, value in x.items():
                bad = ~torch.isfinite(value)
                if bool(bad.any()):
                    raise NotFiniteError(f"{key}: system {first_index(bad)[0]} of the batch is not finite; remove it")
        return pos, vel

    def _judge(self, frames: FrameSet) -> None:
        if self.on_degenerate == "allow" or torch.compiler.is_compiling():
            return
        spectrum = cast("Tensor", frames.spectrum)
        gap = self._gap(frames)
        absent, close = (spectrum == 0).all(-1), gap < 1e-6
        if bool(absent.any()):
            raise DegenerateFrameError(
                f"system {first_index(absent)[0]} has no frame: zero covariance, all particles lie at one place"
                + ("" if self.frame_of == "positions" else " and rest")
            )
        if bool(close.any()):
            index = first_index(close)[0]
            message = (
                f"system {index} does not determine its frame: eigenvalues {[f'{v:.4g}' for v in spectrum[index].tolist()]} "
                f"have the relative gap {float(gap[index]):.2g}, so the prediction may not be equivariant there; "
                "break the tie, average over sampled elements of the group, or pass on_degenerate='allow'"
            )
            tell_degenerate(message, self.on_degenerate, stacklevel=3)


def _into(vectors: Tensor, axes: Tensor) -> Tensor:
    """Coordinates ``[B, K, M, 3]`` of ``[B, M, 3]`` along the columns of axes ``[B, K, 3, 3]``."""
    return vectors[:, None] @ axes


def _back(axes: Tensor, coordinates: Tensor) -> Tensor:
    """The inverse of `_into`, for coordinates that differ from frame to frame ``[B, K, M, 3]``."""
    return coordinates @ axes.mT

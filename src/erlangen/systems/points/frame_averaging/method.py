"""Frame averaging beyond what `erlangen.symmetrize` does: latent frames, frames of patches, graphs as lists of numbers.

Puny, Atzmon, Ben-Hamu, Misra, Grover, Smith and Lipman (2022); sections are numbered as there.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Generator, Tensor, nn

from erlangen.enforce import FrameSet, PCAFrame, symmetrize
from erlangen.errors import (
    DegenerateFrameError,
    ErlangenError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
    check_finite,
    first_index,
    tell_degenerate,
)
from erlangen.groups import SE, SO, E, O
from erlangen.nn import MessagePassing, mlp
from erlangen.nn.graphs.graph_networks import edges_of
from erlangen.symmetry import Symmetry

BODIES = {"pos": "points", "vel": "vectors", "edge_attr": "invariant"}
"""How the groups of space act on particles with velocities and features of pairs."""

NORMALS = Symmetry(E(3), input="points", output="spd")
"""Lines along the normals, as projectors, turn with the cloud and do not notice shifts."""


# --- motions: latent frames -------------------------------------------------------------------------------------------
class FrameGNN(nn.Module):
    """A message passing network that is exact under motions, by frames that are computed anew after every layer.

    The input enters in all coordinate systems of its frame. After each layer but the last, features are read as vectors,
    turned back and averaged over the frame, which makes them equivariant; the frame of these latent vectors then takes
    the place of the former, and the features enter the next layer in its coordinates (Puny et al. 2022, section 4.3 and
    the authors' code). Frames are constants for the gradient.

    Args:
        net: the network; ``net.embed`` reads position and velocity in coordinates, 6 numbers, ``net.decode`` gives 3, and
            its width is a multiple of three.
        group: E(3), or SE(3), whose frames are half as large and keep mirror images apart.
        on_degenerate: what happens to inputs that do not determine their frame: "warn", "error" or "allow". Latent frames
            are not judged.

    Attributes:
        symmetry: `group` on dicts of ``pos``, ``vel`` and ``edge_attr``, to points.

    Raises:
        ErlangenError: `net` has other sizes, or `group` is another one.
        UnknownNameError: `on_degenerate` is no known name.
    """

    def __init__(self, net: MessagePassing, group: E | SE | None = None, *, on_degenerate: str = "warn") -> None:
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
        if on_degenerate not in ("warn", "error", "allow"):
            raise UnknownNameError(f"on_degenerate = {on_degenerate!r}: choose 'warn', 'error' or 'allow'")
        self.net, self.on_degenerate = net, on_degenerate
        actions = BODIES if net.edge_features else {key: BODIES[key] for key in ("pos", "vel")}
        self.symmetry = Symmetry(group, input=actions, output="points")
        around = O(3) if isinstance(group, E) else SO(3)
        moving = Symmetry(around, input={"pos": "vectors", "vel": "vectors"}, output="vectors")
        # Gradients flow through the data alone, as in the runs of the ledger.
        self._outer = PCAFrame(moving, differentiable=False)
        self._latent = PCAFrame(Symmetry(around, input="vectors", output="vectors"), differentiable=False)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]`` that are predicted.

        Args:
            x: ``pos`` and ``vel`` ``[B, N, 3]``, and ``edge_attr [B, N, N, F]`` where the network reads it.

        Raises:
            ShapeError: shapes do not fit, or there are no particles.
            NotFiniteError: a number is NaN or infinite; names the system.
            DegenerateFrameError: all particles lie at one place and rest, or see `on_degenerate`.
        """
        pos, vel = self._checked(x)
        centre = pos.double().mean(1, keepdim=True)  # in float64, so that far away places do not cost digits
        local = {"pos": (pos.double() - centre).to(pos), "vel": vel}
        frames = self._outer(local)
        self._judge(frames)
        axes = frames.elements.to(pos)
        h = torch.cat([_into(local["pos"], axes), _into(vel, axes)], -1)
        count = axes.shape[1]
        edges, attr = edges_of(h, self._repeated(x, count), self.net.edge_features, None)
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
        return self._outer({"pos": pos - pos.mean(1, keepdim=True), "vel": vel}).gap

    def _reframed(self, axes: Tensor, h: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
        """The frame ``[B, K, 3, 3]`` of latent vectors, and the features ``[B K N, W]`` in its coordinates."""
        batch, count = axes.shape[:2]
        channels = h.shape[-1] // 3
        vectors = _back(axes, h.reshape(batch, count, nodes * channels, 3)).mean(1)
        spread = vectors.detach() - vectors.detach().mean(1, keepdim=True)
        axes = self._latent(spread).elements.to(vectors)
        return axes, _into(vectors, axes).reshape(batch * count * nodes, 3 * channels)

    def _repeated(self, x: dict[str, Tensor], count: int) -> Tensor | None:
        attr = x.get("edge_attr")
        return None if attr is None else attr[:, None].expand(-1, count, -1, -1, -1)

    def _checked(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        missing = [key for key in ("pos", "vel") if key not in x]
        if missing:
            raise ShapeError(f"x has no {' and no '.join(missing)}; its keys are {sorted(x)}")
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
        absent, close = (spectrum == 0).all(-1), frames.gap < 1e-6
        if bool(absent.any()):
            raise DegenerateFrameError(
                f"system {first_index(absent)[0]} has no frame: zero covariance, all particles lie at one place and rest"
            )
        if bool(close.any()):
            index = first_index(close)[0]
            message = (
                f"system {index} does not determine its frame: eigenvalues {[f'{v:.4g}' for v in spectrum[index].tolist()]} "
                f"have the relative gap {float(frames.gap[index]):.2g}, so the prediction may not be equivariant there; "
                "break the tie, average over sampled elements of the group, or pass on_degenerate='allow'"
            )
            tell_degenerate(message, self.on_degenerate, stacklevel=3)


def _into(vectors: Tensor, axes: Tensor) -> Tensor:
    """Coordinates ``[B, K, M, 3]`` of ``[B, M, 3]`` along the columns of axes ``[B, K, 3, 3]``."""
    return vectors[:, None] @ axes


def _back(axes: Tensor, coordinates: Tensor) -> Tensor:
    """The inverse of `_into`, for coordinates that differ from frame to frame ``[B, K, M, 3]``."""
    return coordinates @ axes.mT


# --- motions: lines, and frames of patches ---------------------------------------------------------------------------
class Lines(nn.Module):
    """Projectors ``[..., 3, 3]`` on the lines along the vectors ``[..., 3]`` of a network.

    The sign of a normal is not asked for, so its line is what moves with the points. Averages of vectors would cancel where
    a cloud is its own mirror image; averages of projectors do not, and their product with a line is the average of cos^2.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Projectors for the points, or patches, x."""
        vectors = self.net(x)
        unit = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return unit[..., :, None] * unit[..., None, :]


class LocalFrames(nn.Module):
    """A line for each point from its nearest neighbours alone, exact under rotations, reflections and shifts.

    Every patch is moved to its point, divided by its size, and framed by its own principal axes. A network that sees patches
    in their frames meets fewer different pictures than one that sees whole clouds.

    Args:
        net: from patches ``[P, neighbours, 3]`` to vectors ``[P, 3]``.
        neighbours: points of a patch, the point itself among them.
        samples: elements of each frame in a training step, drawn at random; all 8 without it, and in eval mode.

    Attributes:
        symmetry: E(3) from points to projectors.
    """

    symmetry = NORMALS

    def __init__(self, net: nn.Module, neighbours: int = 16, *, samples: int | None = None) -> None:
        super().__init__()
        self.neighbours = neighbours
        around = Symmetry(O(3), input="vectors", output="spd")
        # Patches of few points are often near to a tie; what is exact for all others still holds.
        self.net = symmetrize(Lines(net), around, samples=samples, on_degenerate="allow")

    def forward(self, x: Tensor) -> Tensor:
        """Averaged projectors ``[B, N, 3, 3]`` of clouds ``[B, N, 3]``.

        Raises:
            ShapeError: another shape, or fewer points than neighbours.
            NotFiniteError: a number is NaN or infinite.
        """
        if x.dim() != 3 or x.shape[-1] != 3 or x.shape[1] < self.neighbours:
            raise ShapeError(f"x has shape {tuple(x.shape)}; pass [B, N, 3] with N at least {self.neighbours}")
        check_finite(x, "x")
        local = patches(x, self.neighbours)
        size = local.square().sum(-1).mean(-1).sqrt()[..., None, None]
        return self.net((local / size.clamp(min=torch.finfo(x.dtype).tiny)).flatten(0, 1)).unflatten(0, x.shape[:2])


def patches(x: Tensor, neighbours: int) -> Tensor:
    """Nearest neighbours of every point relative to it, ``[B, N, neighbours, 3]``."""
    apart = (x.detach()[:, :, None] - x.detach()[:, None]).square().sum(-1)
    nearest = apart.topk(neighbours, largest=False).indices
    index = nearest.flatten(1)[..., None].expand(-1, -1, 3)
    return x.gather(1, index).unflatten(1, nearest.shape[1:]) - x[:, :, None]


# --- graphs -----------------------------------------------------------------------------------------------------------
class FlatMLP(nn.Module):
    """A network of the adjacency matrix as a list of numbers, above the diagonal; it knows nothing of graphs.

    Args:
        nodes: nodes of every graph.
        features: width.
        outputs: numbers per graph.
        generator: source of the parameters.

    Raises:
        ShapeError: at the call, another number of nodes.
    """

    def __init__(
        self, nodes: int, features: int = 64, *, outputs: int = 10, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.nodes = nodes
        pairs = nodes * (nodes - 1) // 2
        self.net = mlp([pairs, features, features, outputs], nn.Tanh, generator=generator)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``[B, outputs]`` of adjacency matrices ``x["adj"] [B, n, n]``."""
        adj = x["adj"]
        if adj.shape[-1] != self.nodes:
            raise ShapeError(f"adj has {adj.shape[-1]} nodes, but the network reads {self.nodes}")
        row, column = torch.triu_indices(self.nodes, self.nodes, 1)
        return self.net(adj[:, row, column])

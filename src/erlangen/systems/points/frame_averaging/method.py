"""Frame averaging beyond what the library's `symmetrize` and `FrameGNN` do: frames of patches, graphs as lists of numbers.

Puny, Atzmon, Ben-Hamu, Misra, Grover, Smith and Lipman (2022); sections are numbered as there.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from erlangen.enforce import symmetrize
from erlangen.errors import (
    ShapeError,
    check_finite,
    check_floating,
    check_integer,
)
from erlangen.groups import E, O
from erlangen.nn import mlp
from erlangen.symmetry import Symmetry

NORMALS = Symmetry(E(3), input="points", output="spd")
"""Lines along the normals, as projectors, turn with the cloud and do not notice shifts."""


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

    Raises:
        ErlangenError: fewer than two neighbours, a point alone has no frame.
    """

    symmetry = NORMALS

    def __init__(self, net: nn.Module, neighbours: int = 16, *, samples: int | None = None) -> None:
        super().__init__()
        self.neighbours = check_integer("neighbours", neighbours, 2)
        around = Symmetry(O(3), input="vectors", output="spd")
        # Patches of few points are often near to a tie; what is exact for all others still holds.
        self.net = symmetrize(Lines(net), around, samples=samples, on_degenerate="allow")

    def forward(self, x: Tensor) -> Tensor:
        """Averaged projectors ``[B, N, 3, 3]`` of clouds ``[B, N, 3]``.

        Raises:
            ShapeError: another shape, or fewer points than neighbours.
            DtypeError: numbers that are not floating.
            NotFiniteError: a number is NaN or infinite.
        """
        if x.dim() != 3 or x.shape[-1] != 3 or x.shape[1] < self.neighbours:
            raise ShapeError(f"x has shape {tuple(x.shape)}; pass [B, N, 3] with N at least {self.neighbours}")
        check_floating(x, "x")
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
        adj = x.get("adj") if isinstance(x, dict) else None
        if adj is None or adj.dim() != 3 or adj.shape[1:] != (self.nodes, self.nodes):
            given = "missing" if adj is None else f"of shape {tuple(adj.shape)}"
            raise ShapeError(f"adj is {given}; the network reads a dict of adj [B, {self.nodes}, {self.nodes}]")
        row, column = torch.triu_indices(self.nodes, self.nodes, 1)
        return self.net(adj[:, row, column])

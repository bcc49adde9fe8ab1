"""Spherical graph convolutions (Igashov, Pavlichenko and Grudinin 2021): filters that know the direction of a neighbour.

Every amino acid has a frame of its own, from its backbone, in which directions are expanded in real spherical harmonics. "Order"
L means degrees 0 to L - 1.
"""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from erlangen.errors import (
    DataError,
    DegenerateFrameError,
    ShapeError,
    UnknownNameError,
    check_finite,
    check_floating,
    check_integer,
)
from erlangen.geometry import ball_cells, burial
from erlangen.irreps import spherical_harmonics
from erlangen.symmetry import Symmetry

KINDS = 20
INPUTS = KINDS + 3
HIGHEST_ORDER = 10
FEWEST_EDGES = 5
"""The authors refuse models with fewer contacts."""

PROBE = 1.4
RADII = {"N": 1.65, "C": 1.8, "O": 1.42, "S": 1.85}
"""Radii of atoms in Angstrom by their element, and of water; they decide what touches."""


class SphericalConvolution(nn.Module):
    """``h_i W_0 + sum_lm (sum_j Y_lm(w_ij) h_j) W_lm + b``, a plain sum over neighbours.

    >>> layer = SphericalConvolution(23, 20, order=5)
    >>> sum(p.numel() for p in layer.parameters())
    11980

    Args:
        inputs, outputs: channels.
        order: L, so that there are L^2 harmonics; 1 to 10.
        start: "each" draws every matrix by Xavier's rule for itself, as the authors do, so that the sum over harmonics is L times
            as large; "joint" draws the filters as one matrix from L^2 times as many inputs.

    Raises:
        UnknownNameError: another start.
    """

    def __init__(self, inputs: int, outputs: int, order: int, *, start: Literal["each", "joint"] = "each") -> None:
        super().__init__()
        check_integer("order", order, 1)
        if start not in ("each", "joint"):
            raise UnknownNameError(f"start = {start!r}; give each or joint")
        self.order = order
        self.own = nn.Parameter(torch.empty(inputs, outputs))
        self.filters = nn.Parameter(torch.empty(order**2, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_normal_(self.own)
        for one in self.filters if start == "each" else (self.filters.flatten(0, 1),):
            nn.init.xavier_normal_(one)

    def forward(self, h: Tensor, Y: Tensor, neighbors: Tensor) -> Tensor:
        """New features ``[B, N, outputs]``.

        Args:
            h: features ``[B, N, inputs]``.
            Y: harmonics of the neighbours' directions ``[B, N, K, order^2]``, zero where there is no neighbour.
            neighbors: which they are, int64 ``[B, N, K]``; any number where there is none.
        """
        near = gathered(h, neighbors)
        messages = Y.mT @ near  # [B, N, L^2, inputs]
        return h @ self.own + messages.flatten(-2) @ self.filters.flatten(0, 1) + self.bias


class SGCN(nn.Module):
    """The network of the paper: local quality in (0, 1) of each residue of a model of a protein.

    >>> sum(p.numel() for p in SGCN(5).parameters()), sum(p.numel() for p in SGCN(5, variant="s").parameters())
    (24633, 42567)

    Args:
        order: L; 1 has filters without direction.
        variant: "plain"; "s", with a perceptron in the end; "r", whose harmonics are weighted by areas of contact.
        dropout: after the first four layers; 0.02 in the authors' script.
        widths: of the five layers, in place of the authors'.
        start: see `SphericalConvolution`.
    """

    symmetry = Symmetry(
        "SE(3)",
        input={
            "features": "invariant", "pos": "points", "neighbors": "invariant", "area": "invariant",
            "separation": "invariant", "mask": "invariant",
        },
        output="invariant",
    )  # fmt: skip

    def __init__(
        self,
        order: int = 5,
        variant: Literal["plain", "s", "r"] = "plain",
        *,
        dropout: float = 0.02,
        widths: tuple[int, int, int, int, int] | None = None,
        start: Literal["each", "joint"] = "each",
    ) -> None:
        super().__init__()
        check_integer("order", order, 1)
        if order > HIGHEST_ORDER or variant not in ("plain", "s", "r"):
            raise UnknownNameError(f"order = {order}, variant = {variant!r}; give 1 to 10, and plain, s or r")
        self.order, self.variant = order, variant
        sizes = (INPUTS, *(widths or ((20, 16, 14, 12, 8) if variant == "s" else (20, 16, 8, 4, 1))))
        self.layers = nn.ModuleList(
            SphericalConvolution(a, b, order, start=start) for a, b in itertools.pairwise(sizes)
        )
        self.norms = nn.ModuleDict({"1": nn.BatchNorm1d(sizes[2]), "3": nn.BatchNorm1d(sizes[4])})
        self.dropout = nn.Dropout(dropout)
        self.head = (
            nn.Sequential(nn.Linear(sizes[-1], 128), nn.ELU(), nn.Dropout(0.1), nn.Linear(128, 64), nn.ELU(), nn.Dropout(0.1))
            .append(nn.Linear(64, 1))
            if variant == "s"
            else nn.Identity()
        )  # fmt: skip

    @property
    def convolutions(self) -> list[SphericalConvolution]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, SphericalConvolution)]

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Quality of each residue ``[B, N]``, 0 for padding; that of the model is the mean.

        Args:
            x: "features" ``[B, N, 23]``, "pos" (N, CA, C) ``[B, N, 3, 3]``, "neighbors" ``[B, N, K]`` (-1 for none), "area"
                ``[B, N, K]``, "mask" bool ``[B, N]``; see `residue_graph` and `padded`.
        """
        h, mask = x["features"], x["mask"]
        angular = directions(x["pos"], x["neighbors"], mask, self.order)
        if self.variant == "r":
            angular = angular * (x["area"] / x["area"].sum(-1, keepdim=True).clamp(min=1e-9))[..., None]
        neighbors = x["neighbors"].clamp(min=0)
        last = len(self.layers) - 1
        for k, layer in enumerate(self.layers):
            h = layer(h, angular, neighbors)
            if k < last or self.variant == "s":
                h = nn.functional.elu(h)
            if str(k) in self.norms:
                h = normalized(self.norms[str(k)], h, mask)
            if k < last:
                h = self.dropout(h)
        return self.head(h)[..., 0].sigmoid() * mask


def residue_frames(pos: Tensor, *, label: tuple[str, ...] | None = None) -> Tensor:
    """Frames from N, CA and C: ``[..., N, 3, 3] -> [..., N, 3, 3]``, columns are the axes; rotations.

    The first axis points from CA to C, the third is normal to the plane of the three atoms.

    Raises:
        DegenerateFrameError: the atoms of a residue are collinear; the message names it.
    """
    check_floating(pos, "pos")
    along, other = pos[..., 2, :] - pos[..., 1, :], pos[..., 0, :] - pos[..., 1, :]
    e1 = nn.functional.normalize(along, dim=-1)
    normal = torch.linalg.cross(e1, other)
    if label is not None:
        flat = normal.norm(dim=-1) <= 1e-3 * other.norm(dim=-1).clamp(min=1e-9)
        if bool(flat.any()) or bool((along.norm(dim=-1) < 1e-9).any()):
            bad = [label[k] for k in (flat | (along.norm(dim=-1) < 1e-9)).nonzero()[:, 0].tolist()]
            raise DegenerateFrameError(f"N, CA and C of residues {', '.join(bad)} are collinear; leave them out")
    e3 = nn.functional.normalize(normal, dim=-1)
    return torch.stack([e1, torch.linalg.cross(e3, e1), e3], -1)


def directions(pos: Tensor, neighbors: Tensor, mask: Tensor, order: int) -> Tensor:
    """Harmonics of where neighbours lie, seen from each residue's frame, ``[B, N, K, order^2]``; zero where there is none."""
    frames = residue_frames(pos)
    ca = pos[..., 1, :]
    step = gathered(ca, neighbors.clamp(min=0)) - ca[..., None, :]
    real = (neighbors >= 0) & mask[..., None]
    w = torch.where(real[..., None], step @ frames, step.new_tensor([0.0, 0.0, 1.0]))
    return spherical_harmonics(order - 1, w) * real[..., None]


def gathered(h: Tensor, neighbors: Tensor) -> Tensor:
    """Rows of ``h [B, N, d]`` at ``neighbors [B, N, K]``: ``[B, N, K, d]``."""
    flat = neighbors.flatten(-2)[..., None].expand(*neighbors.shape[:-2], -1, h.shape[-1])
    return h.gather(-2, flat).unflatten(-2, neighbors.shape[-2:])


def normalized(norm: nn.Module, h: Tensor, mask: Tensor) -> Tensor:
    """Batch normalisation over real residues alone."""
    if not norm.training:
        return norm(h.flatten(0, 1)).view_as(h)
    return torch.zeros_like(h).masked_scatter(mask[..., None], norm(h[mask]))


# --- graphs ----------------------------------------------------------------------------------------------------------
class ResidueGraph(NamedTuple):
    """A model of a protein as the network sees it.

    Attributes:
        features: ``[N, 23]``: kind of amino acid, volume and exposed area, each as a share of the whole, and burial.
        pos: N, CA and C ``[N, 3, 3]``.
        area: of contacts between residues ``[N, N]``, symmetric; covalent neighbours have an edge whatever it is.
        edges: bool ``[N, N]``, who is joined.
    """

    features: Tensor
    pos: Tensor
    area: Tensor
    edges: Tensor


def residue_graph(
    kind: Tensor,
    atoms: Tensor,
    names: tuple[str, ...],
    residue: Tensor,
    *,
    label: tuple[str, ...] | None = None,
    rays: int = 64,
) -> ResidueGraph:
    """The graph of a protein from its heavy atoms: contacts of atoms, summed by residues.

    Args:
        kind: amino acids, int64 ``[N]``, numbers below 20.
        atoms: places ``[A, 3]``.
        names: of the atoms, such as "CA"; their first letter is the element.
        residue: which residue each atom is of ``[A]``.
        label: names of residues for messages.
        rays: see `erlangen.geometry.ball_cells`.

    Raises:
        DataError: fewer than five edges, coinciding CA, unknown kinds or elements, or a residue without N, CA and C.
        DegenerateFrameError: N, CA and C of a residue are collinear.
        NotFiniteError: a place that is not finite.
    """
    n = len(kind)
    label = label or tuple(map(str, range(n)))
    check_finite(atoms, "atoms")
    if atoms.shape != (len(names), 3) or residue.shape != (len(names),):
        raise ShapeError(
            f"atoms has shape {tuple(atoms.shape)}, residue {tuple(residue.shape)}, but there are {len(names)} names"
        )
    if n == 0 or int(kind.min()) < 0 or int(kind.max()) >= KINDS:
        raise DataError(f"kind has {n} residues; give numbers of amino acids below {KINDS}")
    if unknown := sorted({name for name in names if name[:1] not in RADII}):
        raise DataError(f"names has {unknown}; heavy atoms of amino acids are N, C, O and S")
    pos = atoms.new_full((n, 3, 3), torch.nan)
    for place, which in enumerate(("N", "CA", "C")):
        rows = [row for row, name in enumerate(names) if name == which]
        pos[residue[rows], place] = atoms[rows]
    if bool(pos.isnan().any()):
        bad = [label[k] for k in pos.isnan().any(-1).any(-1).nonzero()[:, 0].tolist()]
        raise DataError(f"residues {', '.join(bad)} lack N, CA or C; leave them out")
    frames = residue_frames(pos, label=label)
    if n > 1 and float(torch.pdist(pos[:, 1].double()).min()) < 1e-6:
        raise DataError("two CA are at one place, so that there is no direction between them")
    radius = atoms.new_tensor([RADII[name[0]] + PROBE for name in names])
    cells = ball_cells(atoms, radius, frames=frames[residue], rays=rays)
    area = atoms.new_zeros(n, n).index_put_(tuple(residue[cells.pairs].mT), cells.area, accumulate=True)
    area = (area + area.mT) / 2
    area.fill_diagonal_(0)
    bonded = (pos[1:, 0] - pos[:-1, 2]).norm(dim=-1) < 2
    edges = area > 0
    k = bonded.nonzero()[:, 0]
    edges[k, k + 1] = edges[k + 1, k] = True
    if int(edges.sum()) < 2 * FEWEST_EDGES:
        raise DataError(f"the model has {int(edges.sum()) // 2} contacts of residues; {FEWEST_EDGES} are the least")

    def summed(values: Tensor) -> Tensor:
        return atoms.new_zeros(n).index_add_(0, residue, values)

    volume, exposed = summed(cells.volume), summed(cells.exposed)
    deep = burial(cells.pairs, cells.exposed).to(atoms)
    least = atoms.new_full((n,), torch.inf).scatter_reduce_(0, residue, deep, "amin")
    columns = (volume / volume.sum(), exposed / exposed.sum().clamp(min=1e-9), least)
    features = torch.cat([nn.functional.one_hot(kind, KINDS).to(atoms), torch.stack(columns, 1)], 1)
    return ResidueGraph(features, pos, area, edges)


def padded(graphs: list[ResidueGraph], *, rows: int | None = None, most: int | None = None) -> dict[str, Tensor]:
    """A batch for `SGCN`: graphs padded to `rows` residues and `most` neighbours each, by default as many as there are.

    "separation" ``[B, N, K]`` is there too: how far neighbours are apart along the sequence.
    """
    n = rows or max(len(graph.pos) for graph in graphs)
    k = most or max(int(graph.edges.sum(1).max()) for graph in graphs)
    pad = nn.functional.pad
    batch: dict[str, list[Tensor]] = {
        name: [] for name in ("features", "pos", "neighbors", "area", "separation", "mask")
    }
    for graph in graphs:
        own = len(graph.pos)
        count = graph.edges.sum(1)
        if own > n or int(count.max()) > k:
            raise ShapeError(
                f"a graph has {own} residues and up to {int(count.max())} neighbours, more than {n} and {k}"
            )
        order = graph.edges.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :k]
        order = pad(order, (0, k - order.shape[1]))
        real = torch.arange(k) < count[:, None]
        apart = (order - torch.arange(own)[:, None]).abs() * real
        values = {
            "features": pad(graph.features, (0, 0, 0, n - own)),
            # Padding has a frame too, so that no gradient is NaN.
            "pos": torch.cat([graph.pos, torch.eye(3).to(graph.pos).expand(n - own, 3, 3)]),
            "neighbors": pad(torch.where(real, order, -1), (0, 0, 0, n - own), value=-1),
            "area": pad(graph.area.gather(1, order) * real, (0, 0, 0, n - own)),
            "separation": pad(apart, (0, 0, 0, n - own)),
            "mask": torch.arange(n) < own,
        }
        for name, value in values.items():
            batch[name].append(value)
    return {name: torch.stack(values) for name, values in batch.items()}

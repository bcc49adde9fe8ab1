"""Polarisability tensors of real molecules: the network on positions and orientations, EGNN and message passing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from erlangen.data import MoleculeData, qm9
from erlangen.errors import MissingExtraError
from erlangen.groups import O
from erlangen.nn import EGNN, MessagePassing, mlp, segment_sum
from erlangen.survey import Claim, Part, Rival, Run, Sizes, Split, Training, compare
from erlangen.systems.points.ponita._spaces import Lifted
from erlangen.systems.points.ponita.method import Ponita
from erlangen.training import one_cycle

Inputs = dict[str, Tensor]
Molecules = tuple[Inputs, Tensor]

ATOMS = 18
"""The largest molecules."""
KINDS = (1, 6, 7, 8, 9)
CUTOFF = 3.0
"""Angstrom up to which atoms are neighbours, for all networks."""

OURS, EXACT, PLAIN, CONSTANT = "PONITA", "EGNN", "message passing, augmented", "numbers of atoms"


# --- molecules as graphs ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Graphs:
    """The atoms of all molecules one after the other.

    Attributes:
        pos: ``[M, 3]``, with the mean of each molecule at the origin.
        kinds: one-hot ``[M, 5]``.
        edges: int64 ``[2, E]`` between atoms nearer than `CUTOFF`.
        owner: the molecule of each atom, int64 ``[M]``.
        count: number of molecules.
    """

    pos: Tensor
    kinds: Tensor
    edges: Tensor
    owner: Tensor
    count: int


def graphs_of(x: Inputs) -> Graphs:
    """Graphs of padded molecules, ``pos [B, N, 3]`` and ``kinds [B, N, 5]``, which is zero for padding."""
    pos, kinds = x["pos"], x["kinds"]
    mask = kinds.sum(-1) > 0
    number = (mask.flatten().cumsum(0) - 1).view_as(mask)
    own = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    near = (torch.cdist(pos, pos) < CUTOFF) & mask[:, None] & mask[:, :, None] & ~own
    molecule, target, source = near.nonzero(as_tuple=True)
    edges = torch.stack([number[molecule, source], number[molecule, target]])
    return Graphs(pos[mask], kinds[mask], edges, mask.nonzero()[:, 0], len(pos))


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part ``[..., 3, 3]``."""
    return 0.5 * (matrix + matrix.mT)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """``[..., 3, 3]`` of two vectors ``[..., 3]``."""
    return a[..., :, None] * b[..., None, :]


# --- models -----------------------------------------------------------------------------------------------------------
class TensorPonita(Ponita):
    """`Ponita` with a symmetric matrix for each node: a number times 1, and ``5/2 mean_o f(o) (3 o o^T - 1)``.

    The factor makes the second part the way back from ``f(o) = o^T A o`` with trace zero, exactly on the 12 corners of an
    icosahedron, where means of polynomials up to degree 5 are those over the sphere.
    """

    def _read_out(
        self, f: Tensor, lifted: Lifted, nodes: int, lead: torch.Size, batch: Tensor | None
    ) -> dict[str, Tensor]:
        directions = cast("Tensor", lifted.directions)
        one = torch.eye(3).to(f)
        harmonics = 2.5 * (3 * outer(directions, directions) - one) / len(directions)
        scalar = f[..., 0].mean(1)[:, None, None] * one
        return {"tensor": scalar + torch.einsum("mo,oij->mij", f[..., 1], harmonics)}


class Oriented(nn.Module):
    """Sum of the matrices of `TensorPonita` over the atoms."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TensorPonita(
            len(KINDS),
            scalars_out=2,
            directions=12,
            width=32,
            layers=2,
            basis=20,
            widening=2,
            cutoff=CUTOFF,
            layer_scale=0.1,
        )

    def calibrate_(self, x: Inputs) -> None:
        """See `Ponita.calibrate_`."""
        graphs = graphs_of(x)
        self.net.calibrate_({"pos": graphs.pos, "x": graphs.kinds}, graphs.edges)

    def forward(self, x: Inputs) -> Tensor:
        """``[B, 3, 3]``."""
        graphs = graphs_of(x)
        found = self.net({"pos": graphs.pos, "x": graphs.kinds}, graphs.edges)["tensor"]
        return segment_sum(found, graphs.owner, graphs.count)


class Pushed(nn.Module):
    """`EGNN` whose features are multiplied with what is exactly equivariant.

    That is ``sum_i (s_i + m_i r_i r_i^T)`` with r from the middle of the molecule, as far as the network moved it, and
    ``sum_ij m_ij r_ij r_ij^T / |r_ij|^2`` over neighbours, without which matrices far from the middle could not turn freely.
    """

    def __init__(self, features: int = 27) -> None:
        super().__init__()
        self.net = EGNN(len(KINDS), features, features, layers=2)
        self.nodes = nn.Linear(features, 2)
        self.pairs = mlp([2 * features + 1, features, 1])

    def forward(self, x: Inputs) -> Tensor:
        """``[B, 3, 3]``."""
        graphs = graphs_of(x)
        h, pos = self.net(graphs.kinds, graphs.pos, edge_index=graphs.edges)
        scalar, weight = self.nodes(h)[..., None, None].unbind(1)
        own = scalar * torch.eye(3).to(pos) + 0.1 * weight * outer(pos, pos)
        source, target = graphs.edges
        r = graphs.pos[source] - graphs.pos[target]
        squared = r.square().sum(-1, keepdim=True)
        pair = self.pairs(torch.cat([h[source], h[target], squared], -1))[..., None] * outer(r, r) / squared[..., None]
        return segment_sum(own, graphs.owner, graphs.count) + segment_sum(pair, graphs.owner[target], graphs.count)


class Plain(nn.Module):
    """Message passing on coordinates; the sum of its answers over the atoms is filled into a symmetric matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MessagePassing(len(KINDS) + 3, 9, 32, layers=2)

    def forward(self, x: Inputs) -> Tensor:
        """``[B, 3, 3]``."""
        graphs = graphs_of(x)
        found = self.net(torch.cat([graphs.pos, graphs.kinds], -1), edge_index=graphs.edges)
        return symmetric(segment_sum(found, graphs.owner, graphs.count).unflatten(-1, (3, 3)))


# --- data -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Targets:
    """Tensors in Bohr^3 and what networks learn: what remains after a multiple of 1 that numbers of atoms tell, over its size.

    Attributes:
        counts: least-squares polarisability of each kind of atom ``[6]``, the last a constant.
        size: root of the mean square of what remains, Frobenius, in Bohr^3.
    """

    counts: Tensor
    size: float

    def guess(self, x: Inputs) -> Tensor:
        """Multiples of 1 ``[B, 3, 3]``, Bohr^3."""
        return (numbers_of_atoms(x) @ self.counts)[:, None, None] * torch.eye(3)


def numbers_of_atoms(x: Inputs) -> Tensor:
    """How many of each kind, and one, ``[B, 6]``."""
    counts = x["kinds"].sum(1)
    return torch.cat([counts, torch.ones(len(counts), 1)], 1)


def targets_of(train: Molecules) -> Targets:
    """Fitted on the molecules of the training."""
    thirds = train[1].diagonal(dim1=1, dim2=2).mean(1)
    counts = torch.linalg.lstsq(numbers_of_atoms(train[0]), thirds[:, None], driver="gelsd").solution[:, 0]
    rest = train[1] - Targets(counts, 1.0).guess(train[0])
    return Targets(counts, float(rest.square().sum((1, 2)).mean().sqrt()))


def molecules_of(data: MoleculeData) -> Molecules:
    """Centred positions, kinds and tensors of molecules whose frame is clear."""
    mask = data.mask[..., None].float()
    centre = data.pos.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    kinds = (data.elements[..., None] == torch.tensor(KINDS)).float()
    x = {"pos": (data.pos - centre) * mask, "kinds": kinds}
    return {key: value[data.clear] for key, value in x.items()}, data.polarizability[data.clear]


def split_of(sizes: Sizes, seed: int) -> Split:
    """Molecules in random order; targets are ``rest``, what networks learn, and ``size``, its unit in Bohr^3.

    Raises:
        MissingExtraError: qm9pack is not installed.
    """
    generator = Generator().manual_seed(seed)
    # About one of a hundred has no clear frame.
    x, y = molecules_of(qm9(sizes.total + 2 + sizes.total // 25, most_atoms=ATOMS, generator=generator))
    parts = torch.randperm(len(y), generator=generator)[: sizes.total].split(list(sizes))
    first, second, third = (({key: value[rows] for key, value in x.items()}, y[rows]) for rows in parts)
    targets = targets_of(first)

    def pair(part: Molecules) -> tuple[Inputs, dict[str, Tensor]]:
        rest = (part[1] - targets.guess(part[0])) / targets.size
        return part[0], {"rest": rest, "size": torch.full((len(rest),), targets.size)}

    return Split(pair(first), pair(second), pair(third))


def turned(
    x: Inputs, y: Mapping[str, Tensor], *, generator: Generator | None = None
) -> tuple[Inputs, dict[str, Tensor]]:
    """Each molecule with its tensor, turned or mirrored at random."""
    turns = O(3).sample(len(y["rest"]), generator=generator, dtype=y["rest"].dtype).to(y["rest"].device)
    return {**x, "pos": x["pos"] @ turns.mT}, {**y, "rest": turns @ y["rest"] @ turns.mT}


def squares(found: Tensor, y: Mapping[str, Tensor]) -> Tensor:
    """Mean squared Frobenius norm of the difference."""
    return (found - y["rest"]).square().sum((-1, -2)).mean()


def no_rest(x: Inputs) -> Tensor:
    """The guess from the numbers of atoms alone."""
    return x["pos"].new_zeros(len(x["pos"]), 3, 3)


def errors_of(found: Tensor, y: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean Frobenius norm of the error, and mean absolute error of a third of the trace, in Bohr^3."""
    apart = (found - y["rest"]) * y["size"][:, None, None]
    return {
        "tensor error, a0^3": float(apart.square().sum((1, 2)).sqrt().mean()),
        "alpha error, a0^3": float(apart.diagonal(dim1=1, dim2=2).mean(1).abs().mean()),
    }


@torch.no_grad()
def broken(model: nn.Module, x: Inputs, generator: Generator) -> float:
    """Relative difference of the answers for turned molecules and the turned answers, without the guess, which is exact."""
    found = model(x)
    again, wanted = turned(x, {"rest": found}, generator=generator)
    return float((model(again) - wanted["rest"]).norm() / wanted["rest"].norm())


@torch.no_grad()
def measure(model: Any, x: Inputs, y: Mapping[str, Tensor], generator: Generator) -> dict[str, float]:
    """Errors of the tensors; of networks also the error of symmetry."""
    row = errors_of(model(x), y)
    return row | ({"equivariance error": broken(model, x, generator)} if isinstance(model, nn.Module) else {})


# --- the part ---------------------------------------------------------------------------------------------------------
def calibrate(model: Oriented, split: Split) -> None:
    """Scale the kernels of PONITA for the first molecules of the training."""
    model.calibrate_({key: value[:50] for key, value in cast("Inputs", split.train[0]).items()})


def make_rivals() -> dict[str, Rival]:
    """All models; PONITA is calibrated on a few molecules. All but the exactly equivariant one see turned molecules."""
    return {
        OURS: Rival(Oriented, turned, prepare=calibrate),
        EXACT: Rival(Pushed),
        PLAIN: Rival(Plain, turned),
        CONSTANT: Rival(lambda: no_rest, trains=False),
    }


def tensors_part(run: Run[Any]) -> Part:
    """PONITA against the better of its rivals; not measurable where the package is missing."""
    statement = "Error of polarisability tensors of QM9 over that of the better of EGNN and augmented message passing."
    published = "QM9 alpha .0375 a0^3"

    @cache
    def draw(seed: int) -> Split:
        return split_of(run.sizes(run.budget.qm9), seed)

    try:
        draw(run.seed)
    except MissingExtraError:
        reason = "needs the extra qm9: pip install 'erlangen[qm9]'"
        return Part(claims=[Claim.not_measurable("qm9-tensors", statement, published=published, reason=reason)])
    how = Training(
        squares,
        run.budget.qm9_epochs,
        50,
        rates=(5e-3, 1.5e-2),
        optimizer=torch.optim.Adam,
        schedule=one_cycle,
        clip=1.0,
    )
    column = "tensor error, a0^3"
    table = compare("QM9", make_rivals(), draw, how, measure, best=column, run=run)
    return table.part(
        table.beats("qm9-tensors", OURS, (EXACT, PLAIN), column, statement=statement, published=published)
    )

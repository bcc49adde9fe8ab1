"""Shells of elastic triangles: the energy of stretched sides and of bent bonds, and assembly from single triangles.

>>> import erlangen as er
>>> shell = er.geometry.icosahedral_shell(1)
>>> rest = fold_angles(shell.pos, shell.faces, shell.twins)
>>> round(float(rest.min()), 4), round(float(rest.max()), 4)  # pi minus the dihedral angle of the icosahedron
(0.7297, 0.7297)
>>> energy = shell_energy(1.1 * shell.pos, shell.faces, shell.twins, angles=rest, stretch=300.0, bend=30.0)
>>> round(float(energy), 9)  # 60 sides, 10 % long
90.0
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from erlangen.errors import (
    DtypeError,
    ErlangenError,
    MissingExtraError,
    ShapeError,
    StepWarning,
    UnknownNameError,
    check_finite,
    check_floating,
    check_integer,
)

RATES = {"insertion": 5e-3, "wedge": 5e-3, "hole": 5e-3, "fusion": 1e-3, "fusion2": 1e-4, "edge": 1e-2}
"""With what probability a site of each kind of move, or of its reverse, is tried when its turn comes."""

MOVES = (
    "sweep", "insertion", "removal", "wedge insertion", "wedge removal", "hole insertion", "hole removal", "fusion", "fission",
    "fusion2", "fission2", "edge fusion", "edge fission",
)  # fmt: skip
"""Moves of `Assembly`, in the order of its counts."""

_RATE = ("insertion", "wedge", "hole", "fusion", "fusion2", "edge")


def fold_angles(pos: Tensor, faces: Tensor, twins: Tensor) -> Tensor:
    """The angle between the normals of the two triangles at each half-edge ``[..., 3 F]``, positive where the shell is convex.

    Zero for open half-edges. Gradients exist everywhere but where triangles have no area, or lie on each other.

    Args:
        pos: vertices ``[..., V, 3]``.
        faces: their numbers in each triangle, counterclockwise from outside, int64 ``[F, 3]``. Half-edge ``3 f + s`` is side s
            of face f, from its corner s to the next.
        twins: the half-edge that each is bound to, int64 ``[3 F]``; -1 where it is open.

    Raises:
        ShapeError, DtypeError, NotFiniteError: an input is not as above.
        ErlangenError: numbers that do not exist, or half-edges of which only one is bound to the other.
    """
    _check(pos, faces, twins)
    corner = pos[..., faces, :]  # [..., F, 3, 3]
    side = corner.roll(-1, -2) - corner
    normal = torch.linalg.cross(side[..., 0, :], side[..., 1, :])
    normal = normal / normal.norm(dim=-1, keepdim=True)
    bound = twins >= 0
    here = normal.repeat_interleave(3, -2)
    there = here[..., twins.clamp(min=0), :]
    along = side.flatten(-3, -2)
    along = along / along.norm(dim=-1, keepdim=True)
    sine = (torch.linalg.cross(here, there) * along).sum(-1)
    cosine = (here * there).sum(-1)
    # Open half-edges get the pair (0, 1), whose angle is 0 with slopes that are 0, too.
    return torch.atan2(torch.where(bound, sine, 0.0), torch.where(bound, cosine, 1.0))


def shell_energy(
    pos: Tensor,
    faces: Tensor,
    twins: Tensor,
    *,
    lengths: Tensor | float = 1.0,
    angles: Tensor | float = 0.0,
    stretch: float,
    bend: float,
    binding: Tensor | float = 0.0,
) -> Tensor:
    """``sum over half-edges stretch (l - l0)^2 / 2 + sum over bonds (bend (theta - theta0)^2 / 2 + binding)``, ``[...]``.

    A bond has two half-edges, each of which is stretched; its rest angle and its binding energy are the means of theirs.
    This is the energy of Tyukodi et al. (2025) for triangular subunits. Differentiable by positions.

    Args:
        pos, faces, twins: as for `fold_angles`.
        lengths, angles: at rest, of half-edges ``[3 F]`` or of all; angles in radians.
        stretch, bend: moduli, energies per length squared and per radian squared.
        binding: energy of a bond, for half-edges ``[3 F]`` or for all; negative where bonds hold.

    Raises:
        ShapeError, DtypeError, NotFiniteError: an input is not as above.
        ErlangenError: a modulus is negative, a rest length is not positive, or `faces` and `twins` do not fit.
    """
    for name, modulus in (("stretch", stretch), ("bend", bend)):
        if not 0 <= modulus < float("inf"):
            raise ErlangenError(f"{name} = {modulus}; give a modulus of 0 or more")
    theta = fold_angles(pos, faces, twins)
    length, angle, bond = (_each(name, value, pos, len(twins)) for name, value in
                           (("lengths", lengths), ("angles", angles), ("binding", binding)))  # fmt: skip
    if not bool((length > 0).all()):
        raise ErlangenError("lengths must be positive")
    corner = pos[..., faces, :]
    side = (corner.roll(-1, -2) - corner).norm(dim=-1).flatten(-2)
    other = twins.clamp(min=0)
    rest, held = (angle + angle[other]) / 2, (bond + bond[other]) / 2
    # Every bond is met twice, once from each of its half-edges.
    bonds = torch.where(twins >= 0, (bend * (theta - rest).square() / 2 + held) / 2, 0.0)
    return (stretch * (side - length).square() / 2 + bonds).sum(-1)


@dataclass(frozen=True, eq=False)
class ShellState:
    """A shell, closed or open, of one piece and without handles.

    Attributes:
        pos: vertices, float64 ``[V, 3]``.
        faces: their numbers, int64 ``[F, 3]``; side s, from corner s to the next, has the label ``subunits[species, s]``.
        twins: the half-edge that each is bound to, or -1, int64 ``[3 F]``.
        species: of each triangle, int64 ``[F]``.
    """

    pos: Tensor
    faces: Tensor
    twins: Tensor
    species: Tensor

    @property
    def open_sides(self) -> int:
        """Half-edges that are not bound; none in a closed shell."""
        return int((self.twins < 0).sum())

    @property
    def coordination(self) -> Tensor:
        """Triangles at each vertex, int64 ``[V]``; 0 where the vertex is on a boundary."""
        count = torch.bincount(self.faces.flatten(), minlength=len(self.pos))
        sides = torch.stack([self.faces, self.faces.roll(-1, 1)], -1).flatten(0, 1)
        count[sides[self.twins < 0].flatten()] = 0
        return count


class Assembly:
    """Triangles that come, go and bind at a temperature: the kinetic Monte Carlo of Tyukodi et al. (2022, 2025), kT = 1.

    >>> any_side = dict(subunits=torch.tensor([[0, 0, 0]]), partners=torch.tensor([0]), angles=0.73)
    >>> shell = Assembly(**any_side, stretch=300.0, bend=30.0, binding=-6.0, potentials=-5.0)
    >>> shell.run(1000)
    1000
    >>> bool(shell.state.coordination.max() < 10), shell.closed
    (True, False)

    The states are meshes of one piece without handles in which no two edges join the same two vertices. Each has the weight
    ``exp(sum of potentials - shell_energy)`` and the measure of all positions. Each step draws one of `MOVES`: a sweep of as
    many attempts as there are vertices to move one evenly within a cube, or a move that changes the mesh, which is tried with
    the probability of a rate times the number of its sites. Insertion puts a vertex normally around its place at rest. Fusion
    takes two vertices on a boundary that are near enough to their middle, and closes one side (type 1), the two that are left
    of a hole of four (type 2), or two sides apart (edge fusion). Every move is in detailed balance with its reverse.

    Args:
        subunits: labels of the three sides of each species, counterclockwise from outside, int64 ``[S, 3]``.
        partners: the label that each label binds, int64 ``[labels]``; -1 for one that binds nothing.
        lengths, angles, binding: of labels at rest, and energy of a bond ``[labels]``, or of all; see `shell_energy`. A side that
            is longer or shorter than at rest by half is forbidden.
        stretch, bend: moduli.
        potentials: chemical potential of each species ``[S]`` or of all.
        exclusion: radius of spheres in the middles of triangles that do not meet.
        step: vertices move by at most that much along each axis.
        reach: standard deviation of a new vertex along each axis.
        fuse: distance to which two vertices may become one.
        rates: some of `RATES` that are to be others.
        start: what there is at first; by default one triangle of species 0. Its labels have to fit.
        largest: triangles from which none is added.
        generator: source of random numbers.

    Raises:
        MissingExtraError: numba is not installed; it comes with ``erlangen[physics]``.
        ShapeError, DtypeError, NotFiniteError: an input is not as above.
        ErlangenError: labels whose partner has another partner, a binding energy above zero, `fuse` larger than a length at
            rest, a modulus or distance that is negative, a start that is no mesh or binds what is no pair.
        UnknownNameError: there is no such rate.
    """

    def __init__(
        self,
        subunits: Tensor,
        partners: Tensor,
        *,
        stretch: float,
        bend: float,
        binding: Tensor | float,
        potentials: Tensor | float,
        lengths: Tensor | float = 1.0,
        angles: Tensor | float = 0.0,
        exclusion: float = 0.2,
        step: float = 0.2,
        reach: float = 0.2,
        fuse: float = 0.5,
        rates: Mapping[str, float] | None = None,
        start: ShellState | None = None,
        largest: int = 400,
        generator: Generator | None = None,
    ) -> None:
        try:
            from erlangen.simulate import _assembly_mesh, _assembly_moves
        except ImportError as error:
            raise MissingExtraError("numba", "physics", "Assembly") from error
        check_integer("largest", largest, 1)
        _check_labels(subunits, partners)
        unknown = set(rates or {}) - set(RATES)
        if unknown:
            raise UnknownNameError(f"rates has {sorted(unknown)}; rates are {', '.join(RATES)}")
        rate = RATES | dict(rates or {})
        constants = {
            "stretch": stretch,
            "bend": bend,
            "exclusion": exclusion,
            "step": step,
            "reach": reach,
            "fuse": fuse,
        }
        for name, value in [*constants.items(), *rate.items()]:
            if not 0 <= value < float("inf") or (value == 0 and name in ("reach", "fuse")):
                raise ErlangenError(f"{name} = {value}; give a finite number above 0")
        labels = {"lengths": lengths, "angles": angles, "binding": binding}
        self.lengths, self.angles, self.binding = (_table(n, v, len(partners)) for n, v in labels.items())
        self.potentials = _table("potentials", potentials, len(subunits))
        if bool((self.binding > 0).any()):
            raise ErlangenError("binding is above 0: such bonds do not hold; give negative energies")
        if float(self.lengths.min()) < fuse:
            raise ErlangenError(
                f"fuse = {fuse} is more than the length {float(self.lengths.min()):g} at rest; take half of it"
            )
        self.subunits, self.partners, self.stretch, self.bend = subunits, partners, stretch, bend
        equal = (subunits == subunits[:, :1]).all(1)
        each = [1.0] + [rate[name] for name in _RATE for _ in range(2)]
        self._rules = _assembly_mesh.Rules(
            subunits.numpy(), self.potentials.numpy(), torch.where(equal, 1, 3).numpy(), partners.numpy(),
            self.lengths.numpy(), self.angles.numpy(), self.binding.numpy(), np.array(each),
            *(float(value) for value in constants.values()),
        )  # fmt: skip
        self._moves: Any = _assembly_moves
        self._mesh, self._saved = (
            _assembly_mesh.Mesh(
                np.zeros((3 * largest + 3, 3)), np.zeros(3 * largest, np.int64), np.full(3 * largest, -1),
                np.zeros(largest, np.int64), np.zeros(2, np.int64),
            )
            for _ in range(2)
        )  # fmt: skip
        self._out, self._found = np.zeros(3 * largest + 3, np.int64), np.zeros((96 * largest, 2), np.int64)
        self._random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        self._counts, self._high, self._last = np.zeros((2, 13), np.int64), np.zeros(13), np.zeros(4)
        self._put(start or self._triangle())

    def run(self, steps: int, *, until_closed: bool = True) -> int:
        """Make steps, at most until no side is open; how many were made.

        Warns:
            StepWarning: a move had more sites than its rate allows, so that it was tried too rarely; balance is lost.

        Raises:
            ErlangenError: `steps` is negative.
        """
        check_integer("steps", steps, 0)
        if until_closed and self.closed:
            return 0
        tried, accepted = self._counts
        made = int(
            self._moves.run(
                self._mesh, self._rules, self._saved, self._out, self._found, self._random, steps, until_closed, tried, accepted,
                self._high, self._last,
            )
        )  # fmt: skip
        if self._high.max() > 1:
            name = MOVES[int(self._high.argmax())]
            warnings.warn(
                f"{name}: its rate times the number of its sites was {self._high.max():.3g}; give smaller rates, so that this "
                "stays below 1",
                StepWarning,
                stacklevel=2,
            )
            self._high[:] = 0
        return made

    @property
    def state(self) -> ShellState:
        """A copy of the present shell."""
        vertices, faces = self._mesh.size.tolist()
        copies = (
            self._mesh.pos[:vertices],
            self._mesh.corner[: 3 * faces].reshape(-1, 3),
            self._mesh.twin[: 3 * faces],
        )
        return ShellState(*(torch.tensor(part) for part in (*copies, self._mesh.kind[:faces])))

    @property
    def closed(self) -> bool:
        """Whether no side is open."""
        return self.state.open_sides == 0

    @property
    def tried(self) -> Tensor:
        """How many of each of `MOVES` were tried, int64 ``[13]``; attempts of a sweep each count."""
        return torch.tensor(self._counts[0])

    @property
    def accepted(self) -> Tensor:
        """How many of each were made, int64 ``[13]``."""
        return torch.tensor(self._counts[1])

    @property
    def last_change(self) -> float:
        """Change of the energy by the last move that changed the mesh."""
        return float(self._last[1])

    def labels(self, state: ShellState) -> Tensor:
        """Labels of the half-edges of a state, int64 ``[3 F]``."""
        return self.subunits[state.species].flatten()

    def energy(self, state: ShellState) -> Tensor:
        """`shell_energy` of a state, without chemical potentials."""
        labels = self.labels(state)
        return shell_energy(
            state.pos, state.faces, state.twins, lengths=self.lengths[labels], angles=self.angles[labels],
            stretch=self.stretch, bend=self.bend, binding=self.binding[labels],
        )  # fmt: skip

    def _triangle(self) -> ShellState:
        """Species 0 at rest, in the plane."""
        a, b, c = self.lengths[self.subunits[0]].tolist()
        x = (a * a + c * c - b * b) / (2 * a)
        if not x * x < c * c:
            raise ErlangenError(f"lengths: a triangle has no sides {a:g}, {b:g}, {c:g}; give others, or a start")
        pos = torch.tensor([[0.0, 0, 0], [a, 0, 0], [x, (c * c - x * x) ** 0.5, 0]], dtype=torch.float64)
        return ShellState(pos, torch.tensor([[0, 1, 2]]), torch.full((3,), -1), torch.zeros(1, dtype=torch.int64))

    def _put(self, start: ShellState) -> None:
        _check(start.pos, start.faces, start.twins)
        count = len(start.faces)
        if not 0 < count <= len(self._mesh.kind) or len(start.pos) > len(self._mesh.pos):
            raise ErlangenError(
                f"start has {count} faces; give 1 to largest = {len(self._mesh.kind)}, and no loose vertices"
            )
        if start.species.shape != (count,) or not 0 <= int(start.species.min()) <= int(start.species.max()) < len(
            self.subunits
        ):
            raise ErlangenError(f"start.species must be [{count}] numbers of species, 0 to {len(self.subunits) - 1}")
        labels, bound = self.labels(start), start.twins >= 0
        if not torch.equal(self.partners[labels[bound]], labels[start.twins[bound]]):
            raise ErlangenError("start binds half-edges whose labels are no partners; open them, or give other species")
        _check_manifold(start)
        if not bool(torch.isfinite(self.energy(start))):
            raise ErlangenError("start has triangles without area; its energy is not finite")
        mesh = self._mesh
        mesh.pos[: len(start.pos)], mesh.corner[: 3 * count] = start.pos.double().numpy(), start.faces.flatten().numpy()
        mesh.twin[: 3 * count], mesh.kind[:count] = start.twins.numpy(), start.species.numpy()
        mesh.size[:] = len(start.pos), count


def _check_manifold(state: ShellState) -> None:
    """One piece, without handles, at most one boundary through a vertex, twins that run against each other, simple edges."""
    sides = torch.stack([state.faces, state.faces.roll(-1, 1)], -1).flatten(0, 1)
    bound = state.twins >= 0
    broken = "start is no mesh: "
    if not torch.equal(sides[bound], sides[state.twins[bound]].flip(-1)):
        raise ErlangenError(
            broken + "two half-edges are twins, but do not run between the same vertices against each other"
        )
    edges = torch.cat([sides[~bound], sides[bound & (sides[:, 0] < sides[:, 1])]]).sort(-1).values
    if len(edges.unique(dim=0)) < len(edges) or bool((sides[:, 0] == sides[:, 1]).any()):
        raise ErlangenError(
            broken + "more than one edge joins the same two vertices; bind the half-edges, or split vertices"
        )
    out = {int(a): int(b) for a, b in sides[~bound].tolist()}
    if len(out) < int((~bound).sum()):
        raise ErlangenError(broken + "two boundaries meet in a vertex; split it")
    loops, left = 0, set(out)
    while left:
        loops, v = loops + 1, left.pop()
        while (v := out[v]) in left:
            left.remove(v)
    euler = len(state.pos) - len(edges) + len(state.faces) + loops
    if len(state.faces.unique()) < len(state.pos) or euler != 2:
        raise ErlangenError(
            f"{broken}V - E + F + boundaries = {euler}, not 2: loose vertices, several pieces, or handles"
        )


def _check_labels(subunits: Tensor, partners: Tensor) -> None:
    for name, table in (("subunits", subunits), ("partners", partners)):
        if table.dtype != torch.int64:
            raise DtypeError(f"{name} has dtype {table.dtype}; pass int64")
    if subunits.ndim != 2 or subunits.shape[1] != 3 or partners.ndim != 1 or 0 in (*subunits.shape, *partners.shape):
        raise ShapeError(
            f"subunits {tuple(subunits.shape)}, partners {tuple(partners.shape)}; pass [S, 3] and [labels]"
        )
    count = len(partners)
    if not 0 <= int(subunits.min()) <= int(subunits.max()) < count:
        raise ErlangenError(f"subunits has labels {int(subunits.min())} to {int(subunits.max())}; partners has {count}")
    if not -1 <= int(partners.min()) <= int(partners.max()) < count:
        raise ErlangenError(f"partners must be labels 0 to {count - 1}, or -1")
    binds = partners >= 0
    if not torch.equal(partners[partners[binds]], binds.nonzero()[:, 0]):
        raise ErlangenError("partners: a label binds one that does not bind it; each must be the other's")


def _table(name: str, value: Tensor | float, count: int) -> Tensor:
    given = torch.as_tensor(value, dtype=torch.float64)
    check_finite(given, name)
    if given.ndim and given.shape != (count,):
        raise ShapeError(f"{name} has shape {tuple(given.shape)}; pass a number, or [{count}]")
    return given.expand(count).contiguous()


def _each(name: str, value: Tensor | float, pos: Tensor, sides: int) -> Tensor:
    given = torch.as_tensor(value, dtype=pos.dtype, device=pos.device)
    check_finite(given, name)
    if given.ndim and given.shape != (sides,):
        raise ShapeError(f"{name} has shape {tuple(given.shape)}; pass a number, or one for each half-edge ({sides},)")
    return given.expand(sides)


def _check(pos: Tensor, faces: Tensor, twins: Tensor) -> None:
    check_floating(pos, "pos")
    check_finite(pos, "pos")
    if pos.ndim < 2 or pos.shape[-1] != 3:
        raise ShapeError(f"pos has shape {tuple(pos.shape)}; pass [..., V, 3]")
    for name, table in (("faces", faces), ("twins", twins)):
        if table.dtype != torch.int64:
            raise DtypeError(f"{name} has dtype {table.dtype}; pass int64")
    if faces.ndim != 2 or faces.shape[1] != 3 or twins.shape != (faces.numel(),):
        raise ShapeError(f"faces {tuple(faces.shape)}, twins {tuple(twins.shape)}; pass [F, 3] and [3 F]")
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < pos.shape[-2]:
        raise ErlangenError(
            f"faces ranges from {int(faces.min())} to {int(faces.max())}; vertices are 0 to {pos.shape[-2] - 1}"
        )
    bound = twins >= 0
    if bool((twins < -1).any()) or bool((twins >= len(twins)).any()):
        raise ErlangenError(f"twins must be half-edges 0 to {len(twins) - 1}, or -1 where there is none")
    if not torch.equal(twins[twins[bound]], bound.nonzero()[:, 0]):
        raise ErlangenError("twins: a half-edge is bound to one that is not bound to it; each must be the other's")

"""Molecules that move by quantum chemistry: GFN2-xTB forces from the package tblite, dynamics by our own integrator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from erlangen.errors import (
    ErlangenError,
    MissingExtraError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
    check_finite,
    check_integer,
)
from erlangen.simulate.laws import check_number

__all__ = ["Molecule", "MolecularMotion", "ethanol", "xtb_trajectory"]

BOHR = 0.529177210903
"""Angstrom per bohr (CODATA 2018)."""
HARTREE = 27.211386245988
"""Electronvolt per hartree (CODATA 2018)."""
FORCE = 9.648533212331e-3
"""Acceleration in Angstrom / fs^2 by one eV / Angstrom on one dalton: elementary charge / atomic mass constant, in 1e-10 fs^2."""
BOLTZMANN = 8.617333262e-5
"""Electronvolt per kelvin."""
MASSES = {1: 1.008, 6: 12.011, 7: 14.007, 8: 15.999, 9: 18.998, 16: 32.06, 17: 35.45}
"""Standard atomic weights of the elements that a molecule may hold, in dalton."""


@dataclass(frozen=True)
class Molecule:
    """Atoms: atomic numbers ``[N]`` int64 and a start ``pos [N, 3]`` float64 in Angstrom."""

    numbers: Tensor
    pos: Tensor

    @property
    def masses(self) -> Tensor:
        """Masses ``[N]`` in dalton.

        Raises:
            UnknownNameError: an element is not in the table.
        """
        unknown = sorted({int(z) for z in self.numbers} - set(MASSES))
        if unknown:
            raise UnknownNameError(f"atomic numbers {unknown} have no mass here; known are {sorted(MASSES)}")
        return torch.tensor([MASSES[int(z)] for z in self.numbers], dtype=torch.float64)


@dataclass(frozen=True)
class MolecularMotion:
    """A trajectory of one molecule at T moments.

    Attributes:
        pos: positions ``[T, N, 3]`` in Angstrom.
        vel: velocities ``[T, N, 3]`` in Angstrom / fs.
        energy: potential energy ``[T]`` in eV.
        molecule: its atoms.
        time: the moments ``[T]`` in fs.
        force: forces ``[T, N, 3]`` in eV / Angstrom.
    """

    pos: Tensor
    vel: Tensor
    energy: Tensor
    molecule: Molecule
    time: Tensor
    force: Tensor


def ethanol() -> Molecule:
    """Ethanol, C2H5OH, near its anti conformer: bond lengths 1.09 (C-H), 1.51 (C-C), 1.42 (C-O) and 0.97 (O-H) Angstrom.

    Order: two carbons (the first of CH3), oxygen, the hydrogen of OH, three of CH3, two of CH2.
    """
    carbon, oxygen = 6, 8
    numbers = torch.tensor([carbon, carbon, oxygen, 1, 1, 1, 1, 1, 1])
    pos = [
        [1.17, -0.39, 0.00],
        [0.00, 0.56, 0.00],
        [-1.18, -0.23, 0.00],
        [-1.94, 0.37, 0.00],
        [2.11, 0.17, 0.00],
        [1.12, -1.03, 0.88],
        [1.12, -1.03, -0.88],
        [0.04, 1.20, 0.88],
        [0.04, 1.20, -0.88],
    ]
    return Molecule(numbers, torch.tensor(pos, dtype=torch.float64))


class _Forces:
    """Forces in eV / Angstrom and the energy in eV of a molecule, each call starting from the last density."""

    def __init__(self, molecule: Molecule) -> None:
        try:
            from tblite.interface import Calculator
        except ImportError as error:
            raise MissingExtraError("tblite", "molecules", "xtb_trajectory") from error
        numbers, pos = molecule.numbers.numpy(), molecule.pos.numpy() / BOHR
        self.calculator: Any = Calculator("GFN2-xTB", numbers, pos)
        self.calculator.set("verbosity", 0)
        self.last: Any = None

    def __call__(self, pos: Tensor) -> tuple[Tensor, float]:
        self.calculator.update(pos.numpy() / BOHR)
        self.last = self.calculator.singlepoint(self.last)
        gradient = torch.from_numpy(self.last.get("gradient").copy())
        return -gradient * (HARTREE / BOHR), float(self.last.get("energy")) * HARTREE


@torch.no_grad()
def xtb_trajectory(
    molecule: Molecule,
    *,
    steps: int = 2000,
    dt: float = 0.5,
    record_every: int = 4,
    temperature: float = 300.0,
    friction: float = 0.01,
    warmup: int = 200,
    generator: Generator | None = None,
    dtype: torch.dtype | None = None,
) -> MolecularMotion:
    """Molecular dynamics under GFN2-xTB forces (Bannwarth, Ehlert and Grimme 2019), computed by the package tblite.

    Langevin dynamics in the splitting BAOAB (Leimkuhler and Matthews 2013): half a kick, half a drift, friction and noise,
    half a drift, half a kick. Without friction that is velocity Verlet, which conserves energy. Velocities start at random
    from the distribution of `temperature`; neither they nor the noise move or turn the molecule as a whole.

    Args:
        molecule: its atoms and their start; `ethanol` is one.
        steps: steps that are recorded, a multiple of `record_every`; ethanol takes about 2 ms for each.
        dt: length of a step in fs; hydrogen moves with periods of 9 fs.
        record_every: steps from one frame to the next; T is ``steps // record_every + 1``.
        temperature: in kelvin.
        friction: rate in 1 / fs; 0 leaves the energy alone.
        warmup: steps before the first frame.
        generator: source of velocities and noise; torch's global stream without it.
        dtype: dtype of the result; torch's default dtype without it.

    Raises:
        MissingExtraError: tblite is not installed; it comes with ``erlangen[molecules]``.
        ErlangenError: a number is out of range, or `steps` is no multiple of `record_every`.
        ShapeError: the molecule has no two atoms, or numbers and positions do not fit.
        UnknownNameError: an element without a mass in the table.
        NotFiniteError: the start is not finite, or the motion has run away.
    """
    _check(molecule, steps, record_every, dt, temperature, friction, warmup)
    masses = molecule.masses[:, None]
    thermal = (BOLTZMANN * temperature * FORCE / masses).sqrt()
    forces = _Forces(molecule)
    keep = torch.tensor(-friction * dt, dtype=torch.float64).exp()

    def drawn() -> Tensor:
        noise = torch.randn(molecule.pos.shape, generator=generator, dtype=torch.float64)
        return thermal * noise

    pos = molecule.pos.double() - (masses * molecule.pos).sum(0) / masses.sum()
    vel = internal(pos, drawn(), masses)
    force, energy = forces(pos)
    frames: list[tuple[Tensor, Tensor, float, Tensor]] = []
    for step in range(-warmup, steps + 1):
        if step >= 0 and step % record_every == 0:
            frames.append((pos, vel, energy, force))
        vel = vel + 0.5 * dt * FORCE * force / masses
        pos = pos + 0.5 * dt * vel
        if friction > 0:
            vel = keep * vel + (1 - keep**2).sqrt() * internal(pos, drawn(), masses)
        pos = pos + 0.5 * dt * vel
        if not bool(torch.isfinite(pos).all()):
            raise NotFiniteError(f"the motion is not finite after step {step}; lower dt = {dt} or the temperature")
        force, energy = forces(pos)
        vel = vel + 0.5 * dt * FORCE * force / masses
    dtype = torch.get_default_dtype() if dtype is None else dtype
    return MolecularMotion(
        torch.stack([frame[0] for frame in frames]).to(dtype),
        torch.stack([frame[1] for frame in frames]).to(dtype),
        torch.tensor([frame[2] for frame in frames], dtype=dtype),
        molecule,
        torch.arange(len(frames), dtype=dtype) * (record_every * dt),
        torch.stack([frame[3] for frame in frames]).to(dtype),
    )


def internal(pos: Tensor, vel: Tensor, masses: Tensor) -> Tensor:
    """Velocities ``[N, 3]`` without their share that moves or turns the whole, which masses ``[N, 1]`` weigh."""
    vel = vel - (masses * vel).sum(0) / masses.sum()
    arm = pos - (masses * pos).sum(0) / masses.sum()
    spin = (masses * torch.linalg.cross(arm, vel)).sum(0)
    inertia = (masses * arm.square()).sum() * torch.eye(3, dtype=pos.dtype) - (masses * arm).mT @ arm
    # The pseudo-inverse: a line of atoms has no inertia about itself, and no spin.
    turning = torch.linalg.pinv(inertia, hermitian=True, rtol=1e-10) @ spin
    return vel - torch.linalg.cross(turning.expand_as(arm), arm)


def _check(
    molecule: Molecule, steps: int, record_every: int, dt: float, temperature: float, friction: float, warmup: int
) -> None:
    numbers, pos = molecule.numbers, molecule.pos
    if numbers.dim() != 1 or len(numbers) < 2 or pos.shape != (len(numbers), 3):
        raise ShapeError(
            f"numbers {tuple(numbers.shape)} and pos {tuple(pos.shape)}; pass [N] and [N, 3], N at least 2"
        )
    check_finite(pos, "pos")
    check_integer("steps", steps, 1)
    check_integer("record_every", record_every, 1)
    check_number("dt", dt, above=0.0)
    check_number("temperature", temperature, least=0.0)
    check_number("friction", friction, least=0.0)
    if warmup < 0 or steps % record_every:
        raise ErlangenError(
            f"warmup = {warmup} and steps = {steps} with record_every = {record_every}; give a warmup >= 0 and a multiple"
        )

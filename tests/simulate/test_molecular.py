"""Molecular dynamics: closed forms of what is removed and conserved, and what happens without the extra."""

import sys

import pytest
import torch

from erlangen.errors import ErlangenError, MissingExtraError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.simulate import Molecule, ethanol, xtb_trajectory
from erlangen.simulate.molecular import FORCE, internal


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_internal_motion_neither_moves_nor_turns() -> None:
    atoms = ethanol()
    masses = atoms.masses[:, None]
    vel = torch.randn(9, 3, dtype=torch.float64, generator=generator())
    kept = internal(atoms.pos, vel, masses)
    assert float((masses * kept).sum(0).abs().max()) < 1e-12
    assert float(torch.linalg.cross(atoms.pos, masses * kept).sum(0).abs().max()) < 1e-12
    torch.testing.assert_close(internal(atoms.pos, kept, masses), kept)  # a projection
    rigid = torch.tensor([1.0, 2.0, 3.0]).double() + torch.linalg.cross(torch.ones(9, 3).double(), atoms.pos)
    assert float(internal(atoms.pos, rigid, masses).abs().max()) < 1e-12
    line = torch.tensor([[0.0, 0, 0], [0, 0, 1]]).double()
    stretch = torch.tensor([[0.0, 0, -1], [0, 0, 1]]).double()
    torch.testing.assert_close(internal(line, stretch, torch.ones(2, 1).double()), stretch)


def test_ethanol_has_the_bonds_of_the_molecule() -> None:
    atoms = ethanol()
    bonds = {
        (0, 1): 1.51,
        (1, 2): 1.42,
        (2, 3): 0.97,
        (0, 4): 1.09,
        (0, 5): 1.09,
        (0, 6): 1.09,
        (1, 7): 1.09,
        (1, 8): 1.09,
    }
    for (a, b), length in bonds.items():
        assert float((atoms.pos[a] - atoms.pos[b]).norm()) == pytest.approx(length, abs=0.03)
    assert float(atoms.masses.sum()) == pytest.approx(46.069, abs=1e-3)  # molar mass in g / mol


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite.interface", None)
    with pytest.raises(MissingExtraError, match=r"erlangen\[molecules\]"):
        xtb_trajectory(ethanol(), steps=4)


def test_bad_input_is_refused() -> None:
    atoms = ethanol()
    with pytest.raises(ShapeError, match="N at least 2"):
        xtb_trajectory(Molecule(atoms.numbers, atoms.pos[:4]))
    with pytest.raises(NotFiniteError, match="pos"):
        xtb_trajectory(Molecule(atoms.numbers, atoms.pos * torch.nan))
    with pytest.raises(UnknownNameError, match=r"\[92\]"):
        xtb_trajectory(Molecule(torch.tensor([92, 1]), atoms.pos[:2]))
    for options in ({"steps": 5}, {"dt": 0.0}, {"temperature": -1.0}, {"friction": -1.0}, {"warmup": -1}, {"steps": 0}):
        with pytest.raises(ErlangenError, match=f"{next(iter(options))} = "):
            xtb_trajectory(atoms, **options)


@pytest.mark.extra
def test_energy_is_conserved_without_friction_and_the_rest_is_thermal() -> None:
    pytest.importorskip("tblite", reason="needs the extra 'molecules' (tblite)")
    motion = xtb_trajectory(
        ethanol(), steps=100, record_every=1, friction=0.0, warmup=0, generator=generator(), dtype=torch.float64
    )
    masses = motion.molecule.masses[:, None]
    kinetic = (masses * motion.vel.square()).sum((1, 2)) / (2 * FORCE)
    total = kinetic + motion.energy
    # Verlet's fluctuation at 0.5 fs is a few per cent of what moves between kinetic and potential energy.
    assert float(total.max() - total.min()) < 0.05 * float(motion.energy.max() - motion.energy.min())
    assert float((masses * motion.vel).sum(1).abs().max()) < 1e-6
    spin = torch.linalg.cross(motion.pos, masses * motion.vel).sum(1)
    assert float(spin.abs().max()) < 1e-3 * float((masses * motion.vel.abs()).sum(1).max())
    # A step of velocity Verlet changes velocities by the mean of two accelerations.
    kick = 0.5 * 0.5 * FORCE * (motion.force[1:] + motion.force[:-1]) / masses
    torch.testing.assert_close(motion.vel[1:] - motion.vel[:-1], kick, rtol=0, atol=1e-12)
    # Differences of positions are velocities, to second order.
    central = (motion.pos[2:] - motion.pos[:-2]) / (motion.time[2] - motion.time[0])
    torch.testing.assert_close(central, motion.vel[1:-1], atol=0.05 * float(motion.vel.abs().max()), rtol=0)


@pytest.mark.extra
def test_without_friction_only_velocities_are_drawn() -> None:
    pytest.importorskip("tblite", reason="needs the extra 'molecules' (tblite)")
    source, alone = generator(), generator()
    xtb_trajectory(ethanol(), steps=1, record_every=1, friction=0.0, warmup=0, generator=source)
    torch.randn(9, 3, generator=alone, dtype=torch.float64)
    assert torch.equal(source.get_state(), alone.get_state())


@pytest.mark.extra
def test_temperature_is_held() -> None:
    pytest.importorskip("tblite", reason="needs the extra 'molecules' (tblite)")
    motion = xtb_trajectory(ethanol(), steps=800, friction=0.2, warmup=100, generator=generator())
    again = xtb_trajectory(ethanol(), steps=40, friction=0.2, warmup=100, generator=generator())
    assert motion.pos.dtype == torch.float32
    assert motion.pos.shape == (201, 9, 3)
    torch.testing.assert_close(
        again.pos, motion.pos[:11], atol=1e-4, rtol=0
    )  # the tolerance of the self-consistent field
    kinetic = (motion.molecule.masses[:, None] * motion.vel.double().square()).sum((1, 2)) / (2 * FORCE)
    kelvin = 2 * kinetic / (21 * 8.617333262e-5)  # 27 - 6 degrees of freedom
    assert 220 < float(kelvin.mean()) < 380

"""Decoys: bonds and angles stay, loops are closed, soft modes bend as far as they say, shifts are shifts."""

import math

import pytest
import torch

from erlangen.data import backbones
from erlangen.errors import ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.measure import lddt
from erlangen.simulate import DECOYS, decoy_maker, ideal_cb, soft_torsions, turn_torsions

CHAINS = backbones()
SMALL = next(chain for chain in CHAINS if chain.family == "Kunitz domain")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dihedral(a, b, c, d):
    u, v, w = b - a, c - b, d - c
    m, n = torch.linalg.cross(u, v), torch.linalg.cross(v, w)
    return torch.atan2((torch.linalg.cross(m, n) * v).sum(-1) / v.norm(dim=-1), (m * n).sum(-1))


def torsions(pos):
    """phi of residues 1.., psi of residues ..n-2, by the textbook's formula."""
    N, CA, C = pos[:, 0], pos[:, 1], pos[:, 2]
    return dihedral(C[:-1], N[1:], CA[1:], C[1:]), dihedral(N[:-1], CA[:-1], C[:-1], N[1:])


def test_torsions_turn_by_what_is_said() -> None:
    by = torch.randn(len(SMALL.pos), 2, generator=generator(), dtype=torch.float64)
    (phi, psi), (phi2, psi2) = torsions(SMALL.pos), torsions(turn_torsions(SMALL.pos, by))
    for found, expected in ((phi2 - phi, by[1:, 0]), (psi2 - psi, by[:-1, 1])):
        off = torch.remainder(found - expected + math.pi, 2 * math.pi) - math.pi
        assert float(off.abs().max()) < 1e-9


def test_carbonyl_oxygens_stay_in_their_plane() -> None:
    """CA, C, O and the next N are planar however psi turns."""
    by = torch.randn(len(SMALL.pos), 2, generator=generator(1), dtype=torch.float64)
    for pos in (SMALL.pos, turn_torsions(SMALL.pos, by)):
        angle = dihedral(pos[:-1, 1], pos[:-1, 2], pos[:-1, 3], pos[1:, 0]).abs()
        assert float((angle - math.pi).abs().max()) < 0.2


def test_soft_modes_move_as_far_as_they_say() -> None:
    """Small steps, by Kabsch: 1 Angstrom for each, and at right angles; softer ones cost less."""
    modes = soft_torsions(SMALL.pos, 5)
    step = 1e-4

    def moved(turns):
        x, y = SMALL.pos[:, 1], turn_torsions(SMALL.pos, step * turns)[:, 1]
        x, y = x - x.mean(0), y - y.mean(0)
        U, _, Vh = torch.linalg.svd(y.mT @ x)
        return ((y @ U @ Vh - x) / step).flatten()

    fields = torch.stack([moved(turns) for turns in modes.turns])
    gram = fields @ fields.mT / len(SMALL.pos)
    torch.testing.assert_close(gram, torch.eye(5, dtype=torch.float64), rtol=0, atol=5e-3)
    assert bool((modes.stiffness.diff() >= 0).all())
    assert float(modes.stiffness[0]) > 1e-6


@pytest.mark.parametrize("kind", DECOYS)
def test_decoys_differ_from_the_native_and_repeat(kind) -> None:
    make = decoy_maker(SMALL.pos)
    one, same, other = make(kind, generator(1)), make(kind, generator(1)), make(kind, generator(5))
    torch.testing.assert_close(one.pos, same.pos, rtol=0, atol=1e-8)  # closing a loop is up to rounding
    assert one.pos.shape != other.pos.shape or not torch.equal(one.pos, other.pos)
    score = lddt(one.pos[:, 1], SMALL.pos[one.rows, 1])
    assert 0 < float(score.mean()) < 1


def test_loops_are_closed() -> None:
    for seed in range(10):
        decoy = decoy_maker(SMALL.pos)("loop", generator(seed))
        moved = (decoy.pos - SMALL.pos).flatten(1).norm(dim=1) > 1e-8
        where = moved.nonzero()[:, 0]
        assert 1 <= len(where) <= 12
        assert int(where[-1] - where[0]) < 12
        gap = (decoy.pos[1:, 0] - decoy.pos[:-1, 2]).norm(dim=-1) - (SMALL.pos[1:, 0] - SMALL.pos[:-1, 2]).norm(dim=-1)
        assert float(gap.abs().max()) < 1e-8


def test_shifts_are_shifts() -> None:
    decoy = decoy_maker(SMALL.pos)("shift", generator(2))
    by = len(SMALL.pos) - len(decoy.pos)
    assert 1 <= by <= 4
    assert torch.equal(decoy.pos, SMALL.pos[by:])
    assert decoy.rows.tolist() == list(range(len(SMALL.pos) - by))


def test_cb_is_where_an_l_amino_acid_has_it() -> None:
    """1.5 Angstrom from CA, and on the side of L: looking from H, CO, R and N are clockwise."""
    for chain in CHAINS[:3]:
        cb = ideal_cb(chain.pos)
        N, CA, C = chain.pos[:, 0], chain.pos[:, 1], chain.pos[:, 2]
        length = (cb - CA).norm(dim=-1)
        assert abs(float(length.mean()) - 1.53) < 0.03
        assert float((length - 1.53).abs().max()) < 0.2  # crystals are not ideal
        assert bool(((torch.linalg.cross(N - CA, C - CA) * (cb - CA)).sum(-1) > 0).all())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: decoy_maker(SMALL.pos[:10]), ErlangenError, "10 residues"),
        (lambda: decoy_maker(SMALL.pos[:, :3]), ShapeError, r"\[N, 4, 3\]"),
        (lambda: decoy_maker(SMALL.pos * torch.nan), NotFiniteError, "pos has"),
        (lambda: decoy_maker(SMALL.pos)("melted", generator()), UnknownNameError, "known are torsions"),  # type: ignore[arg-type]
        (lambda: turn_torsions(SMALL.pos, torch.zeros(3, 2)), ShapeError, "phi and psi"),
        (lambda: soft_torsions(SMALL.pos[:20], 36), ErlangenError, "modes = 36"),
    ],
)
def test_bad_chains(call, error: type[ErlangenError], words: str) -> None:
    with pytest.raises(error, match=words):
        call()

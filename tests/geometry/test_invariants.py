"""Invariants of pairs: unchanged by motions, complete where they say so, and confused where they do not."""

import pytest
import torch

from erlangen.errors import ShapeError, UnknownNameError
from erlangen.geometry import PairInvariants, spatial_invariants
from erlangen.groups import SE, E, group
from erlangen.numerics import safe_norm

SPACES = ("R^n", "R^2xS^1", "R^3xS^2", "SE(2)", "SE(3)")


def pairs(space, count, generator):
    n = 2 if space in ("R^2xS^1", "SE(2)") else 3
    pos = torch.randn(2, count, n, generator=generator, dtype=torch.float64)
    if space == "R^n":
        return n, (*pos, None, None)
    if space.startswith("SE"):
        return n, (*pos, *(SE(n).sample(count, generator=generator, dtype=torch.float64)[:, :n, :n] for _ in range(2)))
    ori = torch.randn(2, count, n, generator=generator, dtype=torch.float64)
    return n, (*pos, *(ori / ori.norm(dim=-1, keepdim=True)))


def moved(g, n, pos_i, pos_j, ori_i, ori_j):
    R, t = g[..., :n, :n], g[..., :n, n]

    def point(x):
        return (R @ x[..., None])[..., 0] + t

    def turn(o):
        return None if o is None else R @ o if o.shape[-2:] == (n, n) and o.dim() == 3 else (R @ o[..., None])[..., 0]

    return point(pos_i), point(pos_j), turn(ori_i), turn(ori_j)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("complete", [True, False])
def test_unchanged_by_the_group(space, complete):
    generator = torch.Generator().manual_seed(0)
    n, pair = pairs(space, 1000, generator)
    invariants = PairInvariants(space, complete=complete)
    g = group(invariants.group.replace("n", str(n))).sample(1000, generator=generator, dtype=torch.float64)
    values = invariants(*pair)
    assert values.shape == (1000, invariants.size) == (1000, len(invariants.names))
    torch.testing.assert_close(invariants(*moved(g, n, *pair)), values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("space", SPACES[1:])
def test_equal_complete_invariants_mean_one_orbit(space):
    """A pair is built from the numbers alone; a proper motion, by Procrustes, takes it to the pair they came from."""
    generator = torch.Generator().manual_seed(1)
    n, pair = pairs(space, 1000, generator)
    source = triads(space, *rebuilt(space, n, PairInvariants(space)(*pair)))
    target = triads(space, *pair)
    U, _, Vh = torch.linalg.svd(target.mT @ source)
    signs = torch.cat([torch.ones(1000, n - 1, dtype=torch.float64), torch.det(U @ Vh)[:, None]], -1)
    R = U @ torch.diag_embed(signs) @ Vh
    torch.testing.assert_close(source @ R.mT, target, rtol=1e-7, atol=1e-7)


def rebuilt(space, n, values):
    """A pair with these invariants: x_i at the origin, and o_i or R_i along the axes."""
    zero, one = torch.zeros(len(values), dtype=torch.float64), torch.ones(len(values), dtype=torch.float64)
    origin = torch.zeros(len(values), n, dtype=torch.float64)
    if space.startswith("SE"):
        return (
            origin,
            values[:, :n],
            torch.eye(n, dtype=torch.float64).expand(len(values), n, n),
            values[:, n:].unflatten(-1, (n, n)),
        )
    if n == 2:
        return origin, values[:, :2], torch.stack([one, zero], -1), values[:, 2:]
    along, across, between, other, volume = values.unbind(-1)
    ori_j = torch.stack([(other - along * between) / across, -volume / across, between], -1)
    return origin, torch.stack([across, zero, along], -1), torch.stack([zero, zero, one], -1), ori_j


def triads(space, pos_i, pos_j, ori_i, ori_j):
    """The vectors of a pair in rows."""
    rows = [pos_j - pos_i]
    if space.startswith("SE"):
        rows += [*ori_i.unbind(-1), *ori_j.unbind(-1)]
    elif ori_i is not None:
        rows += [ori_i, ori_j]
    return torch.stack(rows, 1)


@pytest.mark.parametrize("phi", [0.5, 1.0, 2.5])
def test_three_numbers_confuse_pairs_in_space(phi):
    """The counterexample: o_i along z, r along x, o_j turned about z by phi."""
    z, x = torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0])

    def pair(angle):
        angle = torch.tensor(angle)
        tilt = torch.tensor(0.7)
        return torch.zeros(3), x, z, torch.stack([tilt.sin() * angle.cos(), tilt.sin() * angle.sin(), tilt.cos()])

    three, five = (PairInvariants("R^3xS^2", complete=complete) for complete in (False, True))
    torch.testing.assert_close(three(*pair(0.0)), three(*pair(phi)))
    assert float((five(*pair(0.0)) - five(*pair(phi))).abs().max()) > 0.1
    assert three.is_complete is False
    assert five.is_complete is True


def test_the_plane_set_loses_the_sign_of_the_angle():
    origin, x = torch.zeros(2), torch.tensor([1.0, 0])
    up, down = torch.tensor([0.6, 0.8]), torch.tensor([0.6, -0.8])
    three, four = (PairInvariants("R^2xS^1", complete=complete) for complete in (False, True))
    assert torch.equal(three(origin, x, x, up), three(origin, x, x, down))
    assert not torch.equal(four(origin, x, x, up), four(origin, x, x, down))


def test_reflections_turn_the_volume_alone():
    generator = torch.Generator().manual_seed(3)
    n, pair = pairs("R^3xS^2", 100, generator)
    mirror = torch.diag(torch.tensor([1.0, 1, -1, 1], dtype=torch.float64)).expand(100, 4, 4)
    assert bool(E(3).contains(mirror[0]))
    invariants = PairInvariants("R^3xS^2")
    before, after = invariants(*pair), invariants(*moved(mirror, n, *pair))
    torch.testing.assert_close(after[:, :4], before[:, :4])
    torch.testing.assert_close(after[:, 4], -before[:, 4])


@pytest.mark.parametrize("n", [2, 3])
def test_gradients_are_finite_where_r_is_zero_or_along_the_direction(n):
    ori = torch.eye(n, dtype=torch.float64)[:1]
    for r in (torch.zeros(1, n, dtype=torch.float64), 2 * ori):
        r = r.clone().requires_grad_()
        spatial_invariants(r, ori).sum().backward()
        assert bool(torch.isfinite(r.grad).all())
    r = torch.randn(4, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: spatial_invariants(v, ori), r)


def test_leading_axes_broadcast():
    grid = torch.eye(3)
    r = torch.randn(5, 1, 3)
    assert spatial_invariants(r, grid).shape == (5, 3, 2)
    values = PairInvariants("R^3xS^2")(torch.zeros(3), r, grid, grid)
    assert values.shape == (5, 3, 5)
    torch.testing.assert_close(values[..., :2], spatial_invariants(r, grid))
    torch.testing.assert_close(PairInvariants("R^n")(torch.zeros(3), r), safe_norm(r, keepdim=True))


def test_bad_input():
    with pytest.raises(UnknownNameError, match=r"choose R\^n"):
        PairInvariants("R^4")
    with pytest.raises(ShapeError, match="needs 3"):
        PairInvariants("R^3xS^2")(torch.zeros(2), torch.zeros(2), torch.zeros(2), torch.zeros(2))
    with pytest.raises(ShapeError, match="ori_j is missing"):
        PairInvariants("R^3xS^2")(torch.zeros(3), torch.zeros(3), torch.zeros(3))
    with pytest.raises(ShapeError, match="needs none"):
        PairInvariants("R^n")(torch.zeros(3), torch.zeros(3), torch.zeros(3), torch.zeros(3))
    with pytest.raises(ShapeError, match="2 or 3 coordinates"):
        spatial_invariants(torch.zeros(4), torch.zeros(4))

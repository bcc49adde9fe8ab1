"""Trajectories against closed forms, scipy's integrator and the conservation laws."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError
from erlangen.groups import E
from erlangen.simulate import Hooke, InverseSquare, charged, evolve, gravity, springs

SAMPLERS = [charged, gravity, springs]
PAIR = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)


def start(generator, samples=4, particles=5, dim=3):
    pos, vel = torch.randn(2, samples, particles, dim, generator=generator, dtype=torch.float64)
    signs = 2.0 * torch.randint(2, (samples, particles, 1), generator=generator).double() - 1.0
    return pos, vel, signs * signs.mT


def two_bodies(distance, speed):
    """On the x axis about the origin, with opposite velocities along y."""
    pos = torch.zeros(1, 2, 3, dtype=torch.float64)
    vel = torch.zeros(1, 2, 3, dtype=torch.float64)
    pos[0, :, 0] = torch.tensor([0.5, -0.5]) * distance
    vel[0, :, 1] = torch.tensor([0.5, -0.5]) * speed
    return pos, vel


# --- against exact solutions -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("softening", [0.0, 0.3])
def test_circular_orbit(softening):
    """Two unit masses at distance d circle with omega^2 = 2 / (d^2 + softening^2)^(3/2)."""
    distance = 0.8
    omega = math.sqrt(2.0) / (distance**2 + softening**2) ** 0.75
    pos, vel = two_bodies(distance, omega * distance)
    data = evolve(pos, vel, -PAIR, InverseSquare(softening=softening), steps=4000, dt=1e-3, record_every=100)
    angle = omega * data.time
    exact = 0.5 * distance * torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=-1)
    assert data.time[-1] == pytest.approx(4.0)
    assert (data.pos[0, :, 0] - exact).abs().max() < 1e-5
    assert (data.pos[0, :, 1] + exact).abs().max() < 1e-5


def test_spring_oscillator_solves_the_recurrence():
    """Verlet on an oscillator of frequency omega is cos(n theta) with sin(theta / 2) = omega dt / 2, to the last digit."""
    stiffness, dt = 0.7, 0.05
    pos, vel = two_bodies(1.0, 0.0)
    data = evolve(pos, vel, PAIR, Hooke(stiffness), steps=400, dt=dt, record_every=1)
    theta = 2.0 * math.asin(math.sqrt(2.0 * stiffness) * dt / 2.0)
    exact = 0.5 * torch.cos(theta * torch.arange(401, dtype=torch.float64))
    assert (data.pos[0, :, 0, 0] - exact).abs().max() < 1e-12
    assert data.pos[0, :, :, 1:].abs().max() == 0.0


def test_unequal_masses_keep_their_centre_and_share_the_period():
    """Reduced mass: omega^2 = stiffness (1 / m_1 + 1 / m_2)."""
    masses = torch.tensor([[1.0], [4.0]], dtype=torch.float64)
    pos, vel = two_bodies(1.0, 0.0)
    data = evolve(pos, vel, PAIR, Hooke(2.0), masses=masses, steps=2000, dt=1e-3, record_every=100)
    exact = torch.cos(math.sqrt(2.0 * 1.25) * data.time)
    assert (data.pos[0, :, 0, 0] - data.pos[0, :, 1, 0] - exact).abs().max() < 1e-6
    centre = (masses * data.pos[0]).sum(1) / masses.sum()
    assert (centre - centre[0]).abs().max() < 1e-14


def test_against_scipy(generator):
    """Five particles of both signs, against an adaptive Runge-Kutta method of order 8."""
    pos, vel, coupling = start(generator, samples=2)

    def slope(_, flat):
        x, v = flat.reshape(2, 5, 3)
        apart = x[:, None] - x[None]
        weight = coupling[sample].numpy() / ((apart**2).sum(-1) + 0.2**2) ** 1.5
        return [*v.ravel(), *(weight[..., None] * apart).sum(1).ravel()]

    data = evolve(pos, vel, coupling, InverseSquare(softening=0.2), steps=8000, dt=2.5e-4, record_every=2000)
    for sample in range(2):
        flat = torch.stack([pos[sample], vel[sample]]).flatten().numpy()
        exact = solve_ivp(slope, (0.0, 2.0), flat, method="DOP853", t_eval=data.time.numpy(), rtol=1e-11, atol=1e-12)
        exact = torch.from_numpy(exact.y.T.copy()).reshape(5, 2, 5, 3)
        assert (data.pos[sample] - exact[:, 0]).abs().max() < 1e-5
        assert (data.vel[sample] - exact[:, 1]).abs().max() < 1e-4


def test_free_particles_move_straight(generator):
    pos, vel, coupling = start(generator)
    data = evolve(pos, vel, 0.0 * coupling, Hooke(), steps=100, dt=0.01, record_every=50)
    assert torch.allclose(data.pos, pos[:, None] + vel[:, None] * data.time[:, None, None], rtol=0, atol=1e-13)
    alone = charged(3, 1, steps=100, generator=generator, dtype=torch.float64)
    assert torch.equal(alone.vel[:, 0], alone.vel[:, 1])


# --- laws of conservation and order ----------------------------------------------------------------------------------
def test_second_order(generator):
    """Half the step, a quarter of the error: of the energy and of the positions."""
    pos, vel, coupling = start(generator, samples=8)
    law = InverseSquare(softening=0.3)
    runs = [evolve(pos, vel, coupling, law, steps=n, dt=1.0 / n, record_every=n // 10) for n in (500, 1000, 8000)]
    energy = [(run.energy() - run.energy()[:, :1]).abs().max() for run in runs]
    place = [(run.pos - runs[2].pos).abs().max() for run in runs[:2]]
    assert 3.8 < energy[0] / energy[1] < 4.2
    # The reference has 1 / 256 and 1 / 64 of the errors itself.
    assert 3.9 < place[0] / place[1] * (1 - 1 / 64) / (1 - 1 / 256) < 4.1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_conserved_quantities(sampler, generator):
    data = sampler(32, steps=2000, generator=generator, dtype=torch.float64)
    energy, momentum = data.energy(), data.momentum()
    turning = (data.masses[:, None] * torch.linalg.cross(data.pos, data.vel)).sum(-2)
    kinetic = 0.5 * data.vel.square().sum((-2, -1))
    assert ((energy - energy[:, :1]).abs() / kinetic.amax(1, keepdim=True)).max() < 1e-3
    assert kinetic.std(dim=1).min() > 1e-3  # energy is exchanged, so that its constancy says something
    assert (momentum - momentum[:, :1]).abs().max() < 1e-12
    assert (turning - turning[:, :1]).abs().max() < 1e-11


def test_forces_are_gradients_of_the_potential():
    r2 = torch.linspace(0.01, 4.0, 50, dtype=torch.float64, requires_grad=True)
    for law in (InverseSquare(1.5, 0.2), InverseSquare(softening=0.0), Hooke(0.3)):
        (slope,) = torch.autograd.grad(law.potential(r2).sum(), r2)
        assert torch.allclose(law.push(r2.detach()), -2.0 * slope, rtol=1e-12, atol=0)


def test_time_reversal(generator):
    pos, vel, coupling = start(generator)
    there = evolve(pos, vel, coupling, InverseSquare(softening=0.3), steps=500, dt=1e-3, record_every=500)
    back = evolve(there.pos[:, 1], -there.vel[:, 1], coupling, there.law, steps=500, dt=1e-3, record_every=500)
    assert (back.pos[:, 1] - pos).abs().max() < 1e-11


# --- symmetry --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("law", [InverseSquare(), Hooke()])
@pytest.mark.parametrize("dim", [2, 3])
def test_equivariance(law, dim, generator):
    """E(n) moves positions, its linear part velocities, and permutations reorder particles."""
    pos, vel, coupling = start(generator, dim=dim)
    group = E(dim)
    g = group.sample(1, generator=generator)[0].double()
    linear, shift = group.linear(g), group.translation(g)
    linear = torch.linalg.qr(linear)[0]  # orthogonal to the last digit of float64
    order = torch.randperm(5, generator=generator)
    plain = evolve(pos, vel, coupling, law, steps=300, record_every=100)
    moved = evolve(
        (pos @ linear.mT + shift)[:, order],
        (vel @ linear.mT)[:, order],
        coupling[:, order][:, :, order],
        law,
        steps=300,
        record_every=100,
    )
    assert (plain.pos[:, -1] - plain.pos[:, 0]).abs().max() > 0.1
    assert (moved.pos - (plain.pos @ linear.mT + shift)[:, :, order]).abs().max() < 1e-11
    assert (moved.vel - (plain.vel @ linear.mT)[:, :, order]).abs().max() < 1e-11
    assert torch.allclose(moved.energy(), plain.energy(), rtol=0, atol=1e-10)


# --- samplers --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_shapes_dtypes_and_determinism(sampler):
    def run(seed, **options):
        return sampler(6, 4, steps=200, dim=2, generator=torch.Generator().manual_seed(seed), **options)

    single, double, other = run(0), run(0, dtype=torch.float64), run(1)
    assert single.pos.shape == single.vel.shape == (6, 3, 4, 2)
    assert single.charges.shape == single.masses.shape == (6, 4, 1)
    assert single.coupling.shape == (6, 4, 4)
    assert torch.equal(single.coupling, single.coupling.mT)
    assert single.pos.dtype == single.charges.dtype == single.time.dtype == torch.float32
    assert torch.equal(single.pos, double.pos.float())  # computed in float64, rounded at the end
    assert torch.equal(double.pos, run(0, dtype=torch.float64).pos)
    assert not torch.equal(single.pos, other.pos)
    assert torch.allclose(double.time, torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64), rtol=0, atol=1e-15)


def test_slabs_do_not_change_results(generator, monkeypatch):
    pos, vel, coupling = start(generator, samples=7)
    whole = evolve(pos, vel, coupling, InverseSquare(), steps=100)
    monkeypatch.setattr("erlangen.simulate.nbody._PAIRS_AT_ONCE", 20)
    monkeypatch.setattr("erlangen.simulate.nbody._LEAST_SLAB", 1)
    assert torch.allclose(evolve(pos, vel, coupling, InverseSquare(), steps=100).pos, whole.pos, rtol=0, atol=1e-13)


def test_distribution_of_starts(generator):
    """Means within four standard errors of what the docstrings say."""
    data = charged(4000, 5, steps=1, record_every=1, speed=0.7, generator=generator, dtype=torch.float64)
    count = data.pos[:, 0].numel()
    assert abs(data.pos[:, 0].mean()) < 4 / count**0.5
    assert abs(data.pos[:, 0].square().mean() - 1.0) < 4 * (2 / count) ** 0.5
    assert torch.allclose(data.vel[:, 0].norm(dim=-1), torch.tensor(0.7, dtype=torch.float64), atol=1e-12)
    assert set(data.charges.flatten().tolist()) == {-1.0, 1.0}
    assert abs(data.charges.mean()) < 4 / (4000 * 5) ** 0.5
    off = ~torch.eye(5, dtype=torch.bool)
    assert torch.equal(data.coupling[:, off], (data.charges * data.charges.mT)[:, off])
    wide = charged(2000, 40, steps=1, record_every=1, generator=generator)
    assert wide.pos[:, 0].std() == pytest.approx(2.0, rel=0.01)


def test_spring_graphs_and_masses(generator):
    graphs = springs(4000, 5, steps=1, record_every=1, probability=0.3, generator=generator).coupling
    share = graphs.sum() / (4000 * 20)
    assert set(graphs.flatten().tolist()) == {0.0, 1.0}
    assert abs(share - 0.3) < 4 * (0.21 / 40000) ** 0.5
    assert graphs.diagonal(dim1=1, dim2=2).abs().max() == 0.0
    bodies = gravity(500, 4, masses=(0.5, 2.0), steps=1, record_every=1, generator=generator, dtype=torch.float64)
    assert bodies.masses.min() >= 0.5
    assert bodies.masses.max() <= 2.0
    assert bodies.masses.mean() == pytest.approx(1.25, abs=0.05)
    assert torch.allclose(bodies.coupling[:, 0, 1:2], -bodies.masses[:, 0] * bodies.masses[:, 1])


@pytest.mark.parametrize(
    ("sampler", "particles", "law", "spread"),
    [
        (charged, 5, InverseSquare(1.0, 0.1), 1.0),
        (gravity, 10, InverseSquare(1.0, 0.1), 2 ** (1 / 3)),
        (springs, 5, Hooke(0.1), 0.5),
    ],
)
def test_defaults_of_samplers(sampler, particles, law, spread, generator):
    """The setting of Kipf et al. 2018: 5000 steps of 1e-3, every 100th kept, speeds of a half."""
    data = sampler(1, 2, generator=generator)
    assert torch.allclose(data.time, torch.arange(51) / 10)
    data = sampler(4000, steps=1, record_every=1, generator=generator, dtype=torch.float64)
    assert data.pos.shape == (4000, 2, particles, 3)
    assert data.time[1] == pytest.approx(1e-3)
    assert data.law == law
    assert data.pos[:, 0].std() == pytest.approx(spread, rel=0.01)
    assert torch.allclose(data.vel[:, 0].norm(dim=-1), torch.tensor(0.5, dtype=torch.float64), atol=1e-12)
    assert torch.equal(data.masses, torch.ones(4000, particles, 1).double())
    if sampler is not charged:
        assert not data.charges.any()
    if sampler is springs:
        off = data.coupling[:, ~torch.eye(5, dtype=torch.bool)]
        assert off.mean() == pytest.approx(0.5, abs=0.01)
    assert evolve(data.pos[:2, 0, :2], data.vel[:2, 0, :2], PAIR, law).time[-1] == pytest.approx(5.0)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"n_samples": 0}, ErlangenError, "n_samples = 0"),
        ({"n_particles": 2.5}, ErlangenError, "n_particles = 2.5"),
        ({"steps": 150}, ErlangenError, "pass steps=200"),
        ({"record_every": 0}, ErlangenError, "record_every = 0"),
        ({"dt": 0.0}, ErlangenError, "dt = 0.0; pass a finite number > 0"),
        ({"softening": -0.1}, ErlangenError, "softening = -0.1"),
        ({"strength": math.nan}, ErlangenError, "strength = nan"),
        ({"spread": 0.0}, ErlangenError, "spread = 0.0"),
        ({"dtype": torch.int64}, DtypeError, "torch.int64"),
    ],
)
def test_bad_options(options, error, words):
    with pytest.raises(error, match=words):
        charged(**{"n_samples": 2, "steps": 100, **options})


def test_bad_probability_and_masses():
    with pytest.raises(ErlangenError, match=r"probability = 1.5; pass a finite number >= 0 and <= 1"):
        springs(2, probability=1.5)
    with pytest.raises(ErlangenError, match=r"masses\[1\] = 1.0"):
        gravity(2, masses=(2.0, 1.0))


def test_bad_starts(generator):
    pos, vel, coupling = start(generator)
    law = InverseSquare()
    with pytest.raises(ShapeError, match=r"\(4, 5, 3\) and \(4, 5, 2\)"):
        evolve(pos, vel[..., :2], coupling, law)
    with pytest.raises(ShapeError, match="coupling has shape"):
        evolve(pos, vel, coupling[:, :4, :4], law)
    with pytest.raises(DtypeError, match="pos has dtype"):
        evolve(pos.long(), vel, coupling, law, dtype=torch.float32)
    with pytest.raises(NotFiniteError, match="vel has 1 value"):
        evolve(
            pos,
            vel.index_put((torch.tensor(0), torch.tensor(1), torch.tensor(2)), torch.tensor(math.nan).double()),
            coupling,
            law,
        )
    with pytest.raises(ErlangenError, match="not symmetric"):
        evolve(pos, vel, coupling.triu(1), law)
    with pytest.raises(ErlangenError, match="every mass must be positive"):
        evolve(pos, vel, coupling, law, masses=torch.zeros(5, 1))


def test_a_collision_is_named(generator):
    pos, vel, coupling = start(generator)
    pos[2, 0] = pos[2, 1]
    with pytest.raises(NotFiniteError, match="sample 2 is not finite"):
        evolve(pos, vel, coupling, InverseSquare(softening=0.0), steps=100)
    soft = evolve(pos, vel, coupling, InverseSquare(softening=0.1), steps=100)
    assert torch.isfinite(soft.pos).all()

"""Two independent roads to one answer, across the rooms of the library."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn

import erlangen as er


def assert_close(a, b, atol=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def test_orbit_average_of_a_linear_map_is_the_reynolds_projection(generator):
    """Averaging f over C4 and averaging the weight matrix, rho(g)^-1 W rho(g), give the same map."""
    group = er.Cyclic(4)
    linear = nn.Linear(2, 2, bias=False).double()
    sym = er.Symmetry(group, input="vectors", output="vectors")
    x = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    rho = group.linear(group.elements(), dtype=torch.float64)
    reynolds = (rho.mT @ linear.weight @ rho).mean(0)
    assert_close(er.symmetrize(linear, sym, how="orbit")(x), x @ reynolds.T)
    # Maps that commute with quarter turns are a + b J: two numbers.
    assert_close(reynolds[0, 0], reynolds[1, 1])
    assert_close(reynolds[0, 1], -reynolds[1, 0])


def test_frames_and_reynolds_agree_on_linear_invariants(generator):
    """Averaged over the E(3) frame, the mean of |x - mean|^2 is what it was: an invariant is left alone."""
    sym = er.Symmetry("E(3)", input="points", output="invariant")
    x = torch.randn(6, 11, 3, generator=generator, dtype=torch.float64)

    def spread(x):
        return (x - x.mean(1, keepdim=True)).square().sum((1, 2))

    assert_close(er.symmetrize(spread, sym)(x), spread(x))


def test_pca_frame_gives_classical_multidimensional_scaling(generator):
    """Coordinates in the frame are the classical MDS of the distance matrix, up to signs (Torgerson 1952)."""
    x = torch.randn(4, 9, 3, generator=generator, dtype=torch.float64)
    seen = []

    def record(x):
        seen.append(x)
        return x.sum((1, 2))

    er.symmetrize(record, er.Symmetry("SE(3)", input="points", output="invariant"), how="canonical", chunk=1)(x)
    for cloud, coordinates in zip(x, seen[0], strict=True):
        squared = torch.cdist(cloud, cloud).square().numpy()
        centring = np.eye(9) - 1 / 9
        values, vectors = linalg.eigh(-0.5 * centring @ squared @ centring)
        mds = torch.from_numpy(vectors[:, -3:] * np.sqrt(values[-3:]))
        assert_close(coordinates.abs(), mds.abs(), atol=1e-9)


def test_rolling_is_a_phase_in_fourier_space(generator):
    """A cyclic shift multiplies the discrete Fourier transform by exp(-2 pi i k g / n)."""
    group = er.Shifts(12)
    x = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    g = group.sample(5, generator=generator)
    phase = torch.exp(-2j * torch.pi * torch.arange(12, dtype=torch.float64) * g / 12)
    assert_close(er.actions.Rolled().on(group).act(g, x), torch.fft.ifft(torch.fft.fft(x) * phase).real)


def test_burnside_counts_the_graphs_on_four_nodes():
    """Orbits of the graph action, by counting fixed points and by merging, against networkx: 11 graphs."""
    group = er.Symmetric(4)
    pairs = list(itertools.combinations(range(4), 2))
    graphs = torch.zeros(64, 4, 4, dtype=torch.int64)
    for code, bits in enumerate(itertools.product((0, 1), repeat=6)):
        for (i, j), bit in zip(pairs, bits, strict=True):
            graphs[code, i, j] = graphs[code, j, i] = bit
    g = group.elements()[:, None]
    moved = er.actions.Graph().on(group).act(g, {"adj": graphs[None]})["adj"]
    fixed = (moved == graphs).flatten(2).all(-1).sum(1)
    weights = 2 ** torch.arange(16)
    codes = (moved.flatten(2) * weights).sum(-1)
    assert float(fixed.double().mean()) == 11
    assert len(codes.min(0).values.unique()) == 11
    assert sum(graph.number_of_nodes() == 4 for graph in nx.graph_atlas_g()) == 11


def test_affine_invariant_distance_of_spd_matrices(generator):
    """Generalised eigenvalues, and with them the affine-invariant distance, do not see a congruence."""
    group = er.GLPlus(3)
    a, b = (m @ m.mT + torch.eye(3, dtype=torch.float64) for m in torch.randn(2, 3, 3, generator=generator).double())
    g = group.sample(8, generator=generator, dtype=torch.float64)
    act = er.actions.SPD().on(group).act
    expected = np.linalg.norm(np.log(linalg.eigvalsh(a.numpy(), b.numpy())))
    for x, y in zip(act(g, a.expand(8, 3, 3)), act(g, b.expand(8, 3, 3)), strict=True):
        assert np.linalg.norm(np.log(linalg.eigvalsh(x.numpy(), y.numpy()))) == pytest.approx(expected, rel=1e-9)


def test_lie_derivative_is_the_slope_of_the_equivariance_error(generator):
    """For a small rotation the relative error is angle x Lie derivative, up to second order."""
    sym = er.Symmetry("SO(3)", input="points", output="invariant")
    net = nn.Sequential(nn.Flatten(), nn.Linear(15, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x = torch.randn(5, 5, 3, generator=generator, dtype=torch.float64)
    slope = er.lie_derivative(net, sym, x)
    angle = 1e-5
    small = er.SO(3).exp(angle * torch.eye(3, dtype=torch.float64))
    errors = er.equivariance_error(net, sym, x, elements=small, reduce="none").mean(1)
    torch.testing.assert_close(errors / angle, slope, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["SO(2)", "SO(3)"])
def test_grid_and_haar_sample_average_alike(name, generator):
    """An invariant average over the orbit does not care how the group was covered: grid, sample, closed form."""
    group = er.group(name)
    n = group.space_dim
    v = torch.randn(n, generator=generator, dtype=torch.float64)
    moments = []
    for g in (group.grid(2000, dtype=torch.float64), group.sample(40_000, generator=generator, dtype=torch.float64)):
        moved = g @ v
        moments.append(moved.T @ moved / len(g))
    exact = v.square().sum() * torch.eye(n, dtype=torch.float64) / n
    assert_close(moments[0], exact, atol=2e-3 * float(v.square().sum()))
    assert_close(moments[1], exact, atol=2e-2 * float(v.square().sum()))


def test_closed_form_of_the_worst_sample():
    """A classifier that is right on half of the circle: 50 % over the orbit, and no sample right everywhere."""
    sym = er.Symmetry("SO(2)", input="vectors", output="invariant")
    angles = torch.linspace(0.1, 1.2, 5, dtype=torch.float64)
    x = torch.stack((angles.cos(), angles.sin()), 1)
    report = er.audit(
        lambda v: torch.stack((-v[:, 0], v[:, 0]), 1), sym, x, torch.ones(5, dtype=torch.long), elements=72
    )
    assert report.upright == 1.0
    assert report.orbit_mean == pytest.approx(0.5, abs=1 / 72)
    assert report.worst_sample == 0.0

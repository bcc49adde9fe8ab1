"""Convolution over positions and orientations: against a loop, against group convolution, and under rotations."""

import pytest
import torch

from erlangen.errors import ErlangenError, ShapeError
from erlangen.geometry import PairInvariants, edge_vectors, spatial_invariants
from erlangen.groups import SO, Icosahedral, Octahedral
from erlangen.groups.grids import circle_grid, sphere_grid
from erlangen.nn import FiberConv, KernelBasis, lift_to_directions, vectors_of_directions
from erlangen.nn.edges import complete_edges, smooth_cutoff
from erlangen.nn.points import _gathering

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def parts(directions, channels=4, basis=6, cutoff=None):
    n = directions.shape[-1]
    spatial = KernelBasis(2, basis, cutoff=cutoff, generator=seeded(1)).to(directions)
    fiber = KernelBasis(1, basis, generator=seeded(2)).to(directions)
    conv = FiberConv(channels, basis, generator=seeded(3)).to(directions)

    def apply(pos, x, edges):
        r = edge_vectors(pos, edges)
        lengths = None if cutoff is None else r.norm(dim=-1)[:, None]
        on_edges = spatial(spatial_invariants(r[:, None], directions), lengths)
        return conv(x, edges, on_edges, fiber((directions @ directions.mT)[..., None]))

    assert n in (2, 3)
    return spatial, fiber, conv, apply


def test_against_a_loop():
    grid = sphere_grid(6, "platonic", dtype=F64)
    spatial, fiber, conv, apply = parts(grid)
    pos, x = torch.randn(4, 3, generator=seeded(4), dtype=F64), torch.randn(4, 6, 4, generator=seeded(5), dtype=F64)
    edges = complete_edges(1, 4)
    middle = torch.zeros_like(x)
    for j, i in edges.T.tolist():
        for o in range(6):
            kernel = conv.spatial @ spatial(spatial_invariants(pos[i] - pos[j], grid[o]))
            middle[i, o] += kernel * x[j, o]
    expected = conv.bias.expand_as(x).clone()
    for o in range(6):
        for p in range(6):
            expected[:, o] += conv.fiber @ fiber((grid[o] @ grid[p])[None]) * middle[:, p] / 6
    torch.testing.assert_close(apply(pos, x, edges), expected)


@pytest.mark.parametrize(("n", "rotations"), [(6, Octahedral), (12, Icosahedral), (20, Icosahedral)])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (F64, 1e-12)])
def test_exact_for_all_rotations_that_permute_the_grid(n, rotations, dtype, tol):
    grid = sphere_grid(n, "platonic", dtype=dtype)
    *_, apply = parts(grid)
    pos = torch.randn(5, 3, generator=seeded(4), dtype=dtype)
    s, v = torch.randn(5, 2, generator=seeded(5), dtype=dtype), torch.randn(5, 2, 3, generator=seeded(6), dtype=dtype)
    edges = complete_edges(1, 5)
    group = rotations()
    R = group.linear(group.elements(), dtype=dtype)
    features = apply(pos, lift_to_directions(grid, s, v), edges)
    out = vectors_of_directions(features, grid)
    for turn in R:
        turned = apply(pos @ turn.mT + 3, lift_to_directions(grid, s, v @ turn.mT), edges)
        # Vectors are what is left of features after a mean, so rounding is judged by the features.
        assert (
            float((vectors_of_directions(turned, grid) - out @ turn.mT).detach().norm() / features.detach().norm())
            < tol
        )


def test_error_of_other_rotations_falls_with_the_grid():
    """Rotations that do not permute the directions: exact only in the limit of many directions."""
    R = SO(3).sample(8, generator=seeded(7), dtype=F64)
    pos, v = torch.randn(5, 3, generator=seeded(4), dtype=F64), torch.randn(5, 4, 3, generator=seeded(6), dtype=F64)
    edges = complete_edges(1, 5)
    errors = []
    for n in (6, 64):
        grid = sphere_grid(n, "repulsion", dtype=F64)
        *_, apply = parts(grid)

        def net(p, w, grid=grid, apply=apply):
            return vectors_of_directions(apply(p, lift_to_directions(grid, None, w), edges), grid)

        with torch.no_grad():
            out = net(pos, v)
            errors.append(sum(float((net(pos @ g.mT, v @ g.mT) - out @ g.mT).norm() / out.norm()) for g in R) / len(R))
    assert errors[0] > 1e-3
    assert errors[1] < 0.25 * errors[0]


def test_icosahedron_is_a_group_convolution():
    """Lifted to the group by its orbit map, the two sums are the convolution on R^3 x A5 / C5 with the same kernels."""
    grid = sphere_grid(12, "platonic", dtype=F64)
    _, fiber, conv, apply = parts(grid)
    group = Icosahedral()
    R = group.linear(group.elements(), dtype=F64)
    pole = grid[0]
    orbit = R @ pole
    index = torch.cdist(orbit, grid).argmin(-1)
    x = torch.randn(1, 12, 4, generator=seeded(5), dtype=F64)
    # One node with an edge to itself: the spatial kernel is constant, and what is left is the convolution over A5.
    edges = torch.zeros(2, 1, dtype=torch.int64)
    constant = conv.spatial @ parts(grid)[0](torch.zeros(1, 2, dtype=F64))[0]
    f = x[0, index] * constant  # a function on the group that C5 leaves alone
    kernel = (conv.fiber @ fiber(torch.einsum("n,gn->g", pole, orbit)[:, None]).mT).mT  # of g^-1 h
    relative = torch.einsum("gji,hjk->ghik", R, R)  # g^-1 h
    which = torch.cdist(relative.flatten(0, 1).flatten(1), R.flatten(1)).argmin(-1).view(60, 60)
    summed = (kernel[which] * f[None]).mean(1)
    out = apply(torch.zeros(1, 3, dtype=F64), x, edges)
    torch.testing.assert_close(out[0, index], summed + conv.bias)


def test_constant_fiber_kernel_and_radial_kernel_are_convolution_on_space():
    """With kernels of distance alone, and a constant over directions, features do not depend on directions."""
    grid = sphere_grid(12, "platonic", dtype=F64)
    radial = KernelBasis(1, 6, generator=seeded(1)).double()
    conv = FiberConv(4, 6, generator=seeded(3)).double()
    pos, s = torch.randn(5, 3, generator=seeded(4), dtype=F64), torch.randn(5, 4, generator=seeded(5), dtype=F64)
    edges = complete_edges(1, 5)
    values = radial(PairInvariants("R^n")(pos[edges[0]], pos[edges[1]]))
    ones = torch.ones(12, 12, 6, dtype=F64)
    out = conv(lift_to_directions(grid, s), edges, values[:, None].expand(-1, 12, -1), ones)
    plain = torch.zeros(5, 4, dtype=F64).index_add(0, edges[1], s[edges[0]] * (values @ conv.spatial.mT))
    expected = plain * conv.fiber.sum(1) + conv.bias
    torch.testing.assert_close(out, expected[:, None].expand_as(out))


@pytest.mark.parametrize("n", [4, 6, 8, 12, 20])
def test_vectors_come_back_from_platonic_directions(n):
    v = torch.randn(5, 3, 3, generator=seeded(), dtype=F64)
    grid = sphere_grid(n, "platonic", dtype=F64)
    lifted = lift_to_directions(grid, None, v)
    torch.testing.assert_close(vectors_of_directions(lifted, grid), v)
    torch.testing.assert_close((lifted.mT @ grid) / n, v / 3)


def test_vectors_come_back_from_the_circle():
    grid = circle_grid(5, dtype=F64)
    v = torch.randn(5, 3, 2, generator=seeded(), dtype=F64)
    torch.testing.assert_close(vectors_of_directions(lift_to_directions(grid, None, v), grid), v)


def test_basis_vanishes_smoothly_at_the_cutoff():
    basis = KernelBasis(1, 5, cutoff=2.0, generator=seeded()).double()
    r = torch.tensor([[1.999999], [2.0], [3.0]], dtype=F64)
    values = basis(r, r[:, 0])
    assert bool((values[1:] == 0).all())
    assert float(values[0].detach().abs().max()) < 1e-12
    u = torch.tensor(1.0, dtype=F64, requires_grad=True)
    value = smooth_cutoff(u - 1e-9, 1.0)
    (first,) = torch.autograd.grad(value, u, create_graph=True)
    (second,) = torch.autograd.grad(first, u)
    assert max(abs(x.detach().item()) for x in (value, first, second)) < 1e-6


def test_products_are_all_monomials():
    basis = KernelBasis(2, 3, degree=3)
    assert len(basis.products) == 9
    assert basis.net[0].in_features == 9


def test_calibration_keeps_the_spread():
    grid = sphere_grid(6, "platonic")
    spatial, fiber, conv, apply = parts(grid)
    pos, x = torch.randn(6, 3, generator=seeded(4)), 3 * torch.randn(6, 6, 4, generator=seeded(5))
    edges = complete_edges(1, 6)
    on_edges = spatial(spatial_invariants(edge_vectors(pos, edges)[:, None], grid))
    conv.calibrate_(x, edges, on_edges, fiber((grid @ grid.mT)[..., None]))
    torch.testing.assert_close(apply(pos, x, edges).std(), x.std())
    with pytest.raises(ErlangenError, match="features that vary"):
        conv.calibrate_(torch.zeros_like(x), edges, on_edges, fiber((grid @ grid.mT)[..., None]))


def test_edges_from_a_node_to_itself_have_finite_gradients():
    grid = sphere_grid(6, "platonic", dtype=F64)
    *_, apply = parts(grid)
    pos = torch.randn(3, 3, generator=seeded(4), dtype=F64).requires_grad_()
    x = torch.randn(3, 6, 4, generator=seeded(5), dtype=F64).requires_grad_()
    edges = torch.cat([complete_edges(1, 3), torch.arange(3).expand(2, 3)], 1)
    apply(pos, x, edges).square().sum().backward()
    assert bool(torch.isfinite(pos.grad).all() and torch.isfinite(x.grad).all())
    assert torch.autograd.gradcheck(lambda v: apply(pos.detach(), v, edges), x)


BAD = {
    "invariants": (lambda: KernelBasis(0, 3), ErlangenError, "invariants = 0"),
    "cutoff": (lambda: KernelBasis(1, 3, cutoff=-1.0), ErlangenError, "cutoff = -1.0"),
    "lengths": (lambda: KernelBasis(1, 3, cutoff=1.0)(torch.zeros(2, 1)), ShapeError, "lengths, for the cutoff"),
    "count": (lambda: KernelBasis(1, 3)(torch.zeros(2, 2)), ShapeError, r"pass \[\.\.\., 1\]"),
    "features": (
        lambda: FiberConv(4, 3)(
            torch.zeros(2, 6, 5), torch.zeros(2, 1).long(), torch.zeros(1, 6, 3), torch.zeros(6, 6, 3)
        ),
        ShapeError,
        r"pass \[N, O, 4\]",
    ),
    "nothing": (lambda: lift_to_directions(torch.eye(3)), ShapeError, "both missing"),
    "scalars": (lambda: lift_to_directions(torch.eye(3), torch.zeros(3)), ShapeError, r"pass \[N, S\]"),
    "vectors": (lambda: lift_to_directions(torch.eye(3), None, torch.zeros(3, 2, 2)), ShapeError, r"\[N, V, 3\]"),
    "directions": (lambda: vectors_of_directions(torch.zeros(2, 4, 1), torch.eye(3)), ShapeError, r"\[N, 3, C\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_center_stands_for_edges_from_nodes_to_themselves():
    grid = sphere_grid(6, "platonic", dtype=F64)
    spatial, fiber, conv, apply = parts(grid)
    pos, x = torch.randn(4, 3, generator=seeded(4), dtype=F64), torch.randn(4, 6, 4, generator=seeded(5), dtype=F64)
    edges, loops = complete_edges(1, 4), torch.arange(4).expand(2, -1)
    without = edges[:, edges[0] != edges[1]]
    on_edges = spatial(spatial_invariants(edge_vectors(pos, without)[:, None], grid))
    around = fiber((grid @ grid.mT)[..., None])
    out = conv(x, without, on_edges, around, spatial(torch.zeros(2, dtype=F64)))
    torch.testing.assert_close(out, apply(pos, x, torch.cat([without, loops], 1)))
    with pytest.raises(ShapeError, match="center"):
        conv(x, without, on_edges, around, torch.zeros(5, dtype=F64))


def test_blocks_have_the_values_and_both_derivatives_of_the_plain_formula(monkeypatch):
    """With blocks of one edge; gradients that are not wanted are left out."""
    monkeypatch.setattr(_gathering, "BLOCK_BYTES", 1)
    edges = torch.tensor([[0, 1, 2, 2, 0], [1, 1, 0, 3, 2]])
    shapes = ((4, 2, 3), (5, 2, 2), (3, 2))
    inputs = [torch.randn(shape, generator=seeded(k), dtype=F64, requires_grad=True) for k, shape in enumerate(shapes)]

    def summed(x, spatial, weight):
        return _gathering.gathered(x, edges, spatial, weight)

    plain = torch.zeros(4, 2, 3, dtype=F64)
    for e, (j, i) in enumerate(edges.T.tolist()):
        plain[i] += (inputs[0][j] * (inputs[1][e] @ inputs[2].T)).detach()
    torch.testing.assert_close(summed(*inputs), plain)
    assert torch.autograd.gradcheck(summed, inputs)
    assert torch.autograd.gradgradcheck(summed, inputs)
    for k in range(3):
        some = [x if n == k else x.detach() for n, x in enumerate(inputs)]
        torch.testing.assert_close(
            torch.autograd.grad(summed(*some).square().sum(), inputs[k]),
            torch.autograd.grad(summed(*inputs).square().sum(), inputs[k]),
        )
    y, kernel = (torch.randn(s, generator=seeded(9), dtype=F64, requires_grad=True) for s in ((4, 2, 3), (5, 2, 3)))
    torch.testing.assert_close(_gathering.turned(y, kernel), torch.einsum("noc,poc->npc", y, kernel))
    assert torch.autograd.gradcheck(_gathering.turned, (y, kernel))
    assert torch.autograd.gradgradcheck(_gathering.turned, (y, kernel))

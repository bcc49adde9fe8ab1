"""Manifolds against closed forms, finite differences and independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import Generator, Tensor

import erlangen as er
from erlangen.errors import DataError, ErlangenError, MatrixFunctionError, NotConvergedWarning
from erlangen.geometry.manifolds import (
    AffineInvariant,
    BuresWasserstein,
    Deformed,
    LogCholesky,
    LogEuclidean,
    Manifold,
    SPDManifold,
    Sphere,
    Stiefel,
    Wasserstein1D,
    ridge,
    spd_manifold,
)
from erlangen.numerics import lyapunov, sym_log


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def spd(count: int, n: int = 4, *, condition: float = 100.0, seed: int = 0) -> Tensor:
    """Matrices of this condition number with random eigenvectors, float64."""
    g = rng(seed)
    Q = torch.linalg.qr(torch.randn(count, n, n, generator=g, dtype=torch.float64)).Q
    logs = torch.rand(count, n, generator=g, dtype=torch.float64)
    logs = (logs - logs.amin(-1, keepdim=True)) / (logs.amax(-1, keepdim=True) - logs.amin(-1, keepdim=True))
    return Q @ torch.diag_embed(condition ** (logs - 0.5)) @ Q.mT


def symmetric(count: int, n: int = 4, *, seed: int = 1) -> Tensor:
    A = torch.randn(count, n, n, generator=rng(seed), dtype=torch.float64)
    return (A + A.mT) / 2


def everything() -> dict[str, SPDManifold]:
    M = spd(1, condition=5, seed=9)[0]
    return {
        "affine-invariant": AffineInvariant(),
        "log-euclidean": LogEuclidean(),
        "log-cholesky": LogCholesky(),
        "bures-wasserstein": BuresWasserstein(),
        "generalised": Deformed(BuresWasserstein(), matrix=M),
        "power": Deformed(BuresWasserstein(), power=0.5),
        "both": Deformed(BuresWasserstein(), matrix=M, power=0.7),
        "affine power": Deformed(AffineInvariant(), power=-0.5),
    }


METRICS = everything()


@pytest.mark.parametrize("name", METRICS)
def test_exp_of_log_is_the_point(name: str) -> None:
    metric, P, Q = METRICS[name], spd(20), spd(20, seed=3)
    torch.testing.assert_close(metric.exp(P, metric.log(P, Q)), Q, rtol=1e-9, atol=1e-9)
    single = metric.exp(P.float(), metric.log(P.float(), Q.float()))
    torch.testing.assert_close(single, Q.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", METRICS)
def test_distance_is_the_length_of_the_logarithm(name: str) -> None:
    metric, P, Q = METRICS[name], spd(20), spd(20, seed=3)
    v = metric.log(P, Q)
    torch.testing.assert_close(metric.inner(P, v, v), metric.dist(P, Q) ** 2, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(metric.dist(P, Q), metric.dist(Q, P), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(metric.dist(P, P), torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_geodesics_have_constant_speed(name: str) -> None:
    metric, P, Q = METRICS[name], spd(5), spd(5, seed=3)
    whole = metric.dist(P, Q)
    for t in (0.25, 0.5, 0.8):
        middle = metric.geodesic(P, Q, t)
        torch.testing.assert_close(metric.dist(P, middle), t * whole, rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(metric.dist(middle, Q), (1 - t) * whole, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", METRICS)
def test_transport_keeps_inner_products_and_carries_velocities(name: str) -> None:
    metric, P, Q = METRICS[name], spd(5, condition=10), spd(5, condition=10, seed=3)
    u, v = symmetric(5), symmetric(5, seed=2)
    there, also = metric.transport(u, P, Q), metric.transport(v, P, Q)
    torch.testing.assert_close(metric.inner(Q, there, also), metric.inner(P, u, v), rtol=1e-7, atol=1e-7)
    velocity = metric.transport(metric.log(P, Q), P, Q)
    torch.testing.assert_close(velocity, -metric.log(Q, P), rtol=1e-7, atol=1e-7)
    back = metric.transport(there, Q, P)
    torch.testing.assert_close(back, u, rtol=1e-6, atol=1e-6)


def test_bures_transport_of_matrices_that_commute_has_its_closed_form() -> None:
    """The general equation against U [sqrt((q_i + q_j) / (p_i + p_j)) v_ij] U^T, which the library takes where they commute."""
    metric, B, v = BuresWasserstein(), spd(4, condition=20), symmetric(4)
    eye = torch.eye(4, dtype=torch.float64).expand(4, 4, 4)
    closed = metric.transport(v, B, eye)
    p, U = torch.linalg.eigh(B)
    factor = (2 / (p[:, :, None] + p[:, None, :])).sqrt()
    torch.testing.assert_close(closed, U @ (factor * (U.mT @ v @ U)) @ U.mT, rtol=1e-10, atol=1e-10)
    general = metric.transport(v, B.clone().requires_grad_(), eye)
    torch.testing.assert_close(general.detach(), closed, rtol=1e-7, atol=1e-7)


def test_formulas_of_others() -> None:
    """Distances by scipy's generalised eigenvalues, matrix logarithms, square roots and Cholesky factors."""
    P, Q = spd(6), spd(6, seed=3)
    for A, B, k in zip(P.numpy(), Q.numpy(), range(6), strict=True):
        affine = np.sqrt((np.log(scipy.linalg.eigvalsh(A, B)) ** 2).sum())
        assert AffineInvariant().dist(P[k], Q[k]).item() == pytest.approx(affine, rel=1e-10)
        logs = np.linalg.norm(np.asarray(scipy.linalg.logm(A)) - np.asarray(scipy.linalg.logm(B)))
        assert LogEuclidean().dist(P[k], Q[k]).item() == pytest.approx(logs, rel=1e-9)
        root = scipy.linalg.sqrtm(A)
        bures = np.trace(A + B - 2 * scipy.linalg.sqrtm(root @ B @ root)).real
        assert BuresWasserstein().dist(P[k], Q[k]).item() == pytest.approx(np.sqrt(bures), rel=1e-8)
        L, K = np.linalg.cholesky(A), np.linalg.cholesky(B)
        lower = np.linalg.norm(np.tril(L - K, -1)) ** 2 + (np.log(np.diag(L) / np.diag(K)) ** 2).sum()
        assert LogCholesky().dist(P[k], Q[k]).item() == pytest.approx(np.sqrt(lower), rel=1e-10)


def test_pyriemann_and_geoopt_agree() -> None:
    pyriemann = pytest.importorskip("pyriemann.geometry.mean")
    distances = pytest.importorskip("pyriemann.geometry.distance")
    geoopt = pytest.importorskip("geoopt")
    P, Q = spd(8), spd(8, seed=3)
    theirs = geoopt.SymmetricPositiveDefinite()
    metric = AffineInvariant()
    torch.testing.assert_close(metric.dist(P, Q), theirs.dist(P, Q))
    torch.testing.assert_close(metric.log(P, Q), theirs.logmap(P, Q), rtol=1e-7, atol=1e-7)
    v = symmetric(8)
    torch.testing.assert_close(metric.transport(v, P, Q), theirs.transp(P, Q, v), rtol=1e-7, atol=1e-7)
    for name, key in (
        ("affine-invariant", "riemann"),
        ("log-euclidean", "logeuclid"),
        ("bures-wasserstein", "wasserstein"),
    ):
        distance = getattr(distances, f"distance_{key}")(P.numpy(), Q.numpy())
        np.testing.assert_allclose(METRICS[name].dist(P, Q).numpy(), distance, rtol=1e-7)
        mean = getattr(pyriemann, f"mean_{key}")(P.numpy())
        np.testing.assert_allclose(METRICS[name].mean(P, steps=200).point.numpy(), mean, rtol=1e-5)


def test_bures_distance_is_that_of_gaussians() -> None:
    """Of matrices that commute it is the distance of the square roots of eigenvalues, singular matrices included."""
    p, q = torch.tensor([1.0, 4, 0]).double(), torch.tensor([9.0, 1, 4]).double()
    Q = torch.linalg.qr(torch.randn(3, 3, generator=rng(), dtype=torch.float64)).Q
    found = BuresWasserstein().dist(Q @ p.diag() @ Q.mT, Q @ q.diag() @ Q.mT)
    assert found.item() == pytest.approx(((p.sqrt() - q.sqrt()) ** 2).sum().sqrt().item(), rel=1e-7)


def test_power_goes_to_half_the_log_euclidean_distance() -> None:
    P, Q = spd(5), spd(5, seed=3)
    limit = (sym_log(P) - sym_log(Q)).norm(dim=(-2, -1)) / 2
    errors = [(Deformed(BuresWasserstein(), power=t).dist(P, Q) / limit - 1).abs().max().item() for t in (1e-2, 1e-3)]
    assert errors[1] < 2e-2
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.2)


def test_generalised_bures_moves_with_its_matrix() -> None:
    """d_{G M G^T}(G A G^T, G B G^T) = d_M(A, B) for all invertible G."""
    A, B, M = spd(1)[0], spd(1, seed=3)[0], spd(1, seed=5, condition=4)[0]
    G = torch.randn(4, 4, generator=rng(7), dtype=torch.float64)
    moved = Deformed(BuresWasserstein(), matrix=G @ M @ G.mT).dist(G @ A @ G.mT, G @ B @ G.mT)
    assert moved.item() == pytest.approx(Deformed(BuresWasserstein(), matrix=M).dist(A, B).item(), rel=1e-8)


@pytest.mark.parametrize("name", ["affine-invariant", "log-euclidean", "bures-wasserstein", "power"])
def test_congruences_leave_distances_alone(name: str) -> None:
    metric = METRICS[name]
    pairs = torch.stack([spd(8, 3), spd(8, 3, seed=3)], 1)
    group = metric.congruences(3)
    symmetry = er.Symmetry(group, input="spd", output="invariant")

    def model(x: Tensor) -> Tensor:
        return metric.dist(x[:, 0], x[:, 1])[:, None]

    assert er.audit(model, symmetry, pairs, elements=16, progress=False).worst_error < 1e-8
    if name != "affine-invariant":
        wider = er.Symmetry("GLPlus(3)", input="spd", output="invariant")
        assert er.audit(model, wider, pairs, elements=16, progress=False).worst_error > 1e-2


@pytest.mark.parametrize("name", METRICS)
def test_mean_is_where_the_logarithms_cancel(name: str) -> None:
    metric, points = METRICS[name], spd(60).reshape(3, 20, 4, 4)
    weights = torch.rand(20, generator=rng(), dtype=torch.float64)
    mean = metric.mean(points, weights, steps=200)
    assert bool(mean.converged.all())
    share = (weights / weights.sum())[:, None, None]
    pull = (share * metric.log(mean.point[:, None], points)).sum(1)
    assert metric.norm(mean.point, pull).max() < 1e-8

    # No point nearby has a smaller sum of squared distances.
    def spread(m: Tensor) -> Tensor:
        return (share[:, 0, 0] * metric.dist(m[:, None], points) ** 2).sum(1)

    for seed in range(3):
        off = metric.exp(mean.point, 1e-3 * symmetric(3, seed=seed))
        assert bool((spread(off) > spread(mean.point)).all())


def test_means_in_closed_form() -> None:
    """One number: the geometric mean, and for Bures-Wasserstein the square of the mean root."""
    x = torch.tensor([1.0, 4, 9, 2]).double()[:, None, None]
    for metric in (AffineInvariant(), LogEuclidean(), LogCholesky()):
        assert metric.mean(x).point.item() == pytest.approx(scipy.stats.gmean([1, 4, 9, 2]), rel=1e-10)
    assert BuresWasserstein().mean(x).point.item() == pytest.approx(((1 + 2 + 3 + 2**0.5) / 4) ** 2, rel=1e-10)


def test_one_step_of_the_bures_mean_is_the_fixed_point_iteration() -> None:
    """G^-1/2 (mean of (G^1/2 X G^1/2)^1/2)^2 G^-1/2 from the arithmetic mean."""
    X = spd(12)
    G = X.mean(0).numpy()
    R = scipy.linalg.sqrtm(G)
    inner = np.stack([np.asarray(scipy.linalg.sqrtm(R @ A @ R)) for A in X.numpy()]).mean(0)
    W = np.linalg.inv(R)
    found = BuresWasserstein().mean(X, steps=1)
    np.testing.assert_allclose(found.point.numpy(), W @ inner @ inner @ W, rtol=1e-9)
    assert found.steps == 1


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.filterwarnings("ignore::erlangen.errors.NotConvergedWarning")
def test_gradients_are_those_of_differences(name: str) -> None:
    metric = METRICS[name]
    P = spd(2, 3, condition=5)[:1]
    Q = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64))[None]  # equal eigenvalues

    def quantities(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        a, b = (a + a.mT) / 2, (b + b.mT) / 2
        if name in {"generalised", "both"}:
            matrix = spd(1, 3, condition=5, seed=9)[0]
            used = Deformed(BuresWasserstein(), matrix=matrix, power=1.0 if name == "generalised" else 0.7)
        else:
            used = metric
        mean = used.mean(torch.cat([a, b]), steps=2, check=False).point if used.invariant_under else used.exp(a, b / 4)
        return used.dist(a, b), used.log(a, b), used.geodesic(a, b, 0.3), mean

    assert torch.autograd.gradcheck(quantities, (P.requires_grad_(), Q.requires_grad_()), atol=1e-6)


def test_lyapunov() -> None:
    P, C = spd(3, condition=1e4), symmetric(3)
    X = lyapunov(P, C)
    torch.testing.assert_close(P @ X + X @ P, C, rtol=1e-9, atol=1e-9)
    reference = np.stack(
        [scipy.linalg.solve_continuous_lyapunov(a, c) for a, c in zip(P.numpy(), C.numpy(), strict=True)]
    )
    np.testing.assert_allclose(X.numpy(), reference, rtol=1e-8, atol=1e-8)
    eye = 2 * torch.eye(3, dtype=torch.float64)[None]
    inputs = (eye.requires_grad_(), symmetric(1, 3).requires_grad_())
    lower = lambda p, c: lyapunov((p + p.mT) / 2, c)  # noqa: E731
    assert torch.autograd.gradcheck(lower, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lower, inputs)


def test_domain_of_the_bures_exponential() -> None:
    metric, eye = BuresWasserstein(), torch.eye(2, dtype=torch.float64)
    v = torch.diag(torch.tensor([-3.0, 1.0], dtype=torch.float64))
    assert not metric.in_domain(eye, v)
    assert metric.in_domain(eye, v / 2)
    # Beyond it the formula folds back: exp_I(V) = (I + V/2)^2.
    torch.testing.assert_close(metric.exp(eye, v), (eye + v / 2) @ (eye + v / 2))


def test_singular_matrices_are_refused_and_a_ridge_helps() -> None:
    x = torch.randn(5, 3, generator=rng(), dtype=torch.float64)
    rank_three = (x @ x.mT)[None].repeat(2, 1, 1)
    rank_three[0] += torch.eye(5)
    for metric in METRICS.values():
        with pytest.raises(MatrixFunctionError, match=r"\[1\].*ridge"):
            metric.mean(rank_three)
        if not isinstance(metric, Deformed):
            assert bool(torch.isfinite(metric.mean(ridge(rank_three, 1e-3), steps=200).point).all())
    with pytest.raises(MatrixFunctionError, match="not symmetric"):
        AffineInvariant().mean(torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]))
    with pytest.raises(ErlangenError, match="not negative"):
        ridge(rank_three, -1.0)
    with pytest.raises(ErlangenError, match="power = 0"):
        Deformed(BuresWasserstein(), power=0)
    with pytest.raises(ErlangenError, match="affine-invariant, log-euclidean"):
        spd_manifold("riemann")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ErlangenError, match="no group of congruences"):
        LogCholesky().congruences(3)


def test_mean_says_what_is_wrong() -> None:
    points = spd(4)
    with pytest.raises(DataError, match=r"weights\[1\] = -1"):
        AffineInvariant().mean(points, torch.tensor([1.0, -1, 1, 1]))
    with pytest.raises(DataError, match="at least one point"):
        AffineInvariant().mean(points[:0])
    with pytest.warns(NotConvergedWarning, match="take more steps"):
        AffineInvariant().mean(spd(6, condition=1e4), steps=2)


# --- other spaces ----------------------------------------------------------------------------------------------------
def orthonormal(count: int, n: int, p: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(torch.randn(count, n, p, generator=rng(seed), dtype=torch.float64)).Q


@pytest.mark.parametrize(
    ("manifold", "points", "size"),
    [
        (Sphere(), orthonormal(6, 4, 1)[..., 0], 1.0),
        (Stiefel(), orthonormal(6, 5, 2), 0.5),
        (Stiefel(), orthonormal(6, 3, 3), 0.5),
    ],
    ids=["sphere", "stiefel", "rotations"],
)
def test_spheres_and_stiefel(manifold: Manifold, points: Tensor, size: float) -> None:
    v = manifold.project(points, torch.randn(points.shape, generator=rng(1), dtype=torch.float64))
    v = size * v / manifold.norm(points, v)[(..., *(None,) * manifold.point_ndim)]
    there = manifold.exp(points, v)
    manifold.check(there)
    torch.testing.assert_close(manifold.log(points, there), v, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(manifold.dist(points, there), torch.full((6,), size, dtype=torch.float64))
    torch.testing.assert_close(
        manifold.dist(points, manifold.geodesic(points, there, 0.3)), torch.full((6,), 0.3 * size).double()
    )
    # A geodesic has no acceleration within the manifold: its second difference points out of it.
    h = 1e-4
    bend = (manifold.exp(points, h * v) + manifold.exp(points, -h * v) - 2 * points) / h**2
    if isinstance(manifold, Sphere):
        assert manifold.project(points, bend).abs().max() < 1e-6


def test_sphere() -> None:
    sphere, x = Sphere(), orthonormal(4, 3, 1)[..., 0]
    y = orthonormal(4, 3, 1, seed=1)[..., 0]
    v = sphere.project(x, torch.randn(4, 3, generator=rng(2), dtype=torch.float64))
    there = sphere.transport(v, x, y)
    torch.testing.assert_close(sphere.inner(y, there, there), sphere.inner(x, v, v))
    torch.testing.assert_close((there * y).sum(-1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(sphere.transport(sphere.log(x, y), x, y), -sphere.log(y, x))
    with pytest.raises(ErlangenError, match="opposite"):
        sphere.log(x, -x)
    with pytest.raises(DataError, match=r"points\[0\] has length 2"):
        sphere.check(2 * x)
    near = sphere.exp(x[0], 0.3 * torch.randn(40, 3, generator=rng(3), dtype=torch.float64))
    found = sphere.mean(near / near.norm(dim=-1, keepdim=True))
    assert found.converged
    assert torch.autograd.gradcheck(
        lambda a, b: sphere.log(a / a.norm(), b / b.norm()), (x[0].requires_grad_(), y[0].requires_grad_())
    )


def test_stiefel_of_full_width_is_the_rotations() -> None:
    """For n = p the canonical distance is |log(X^T Y)|_F / sqrt 2."""
    X = orthonormal(1, 3, 3)[0]
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.4, 0.2], [0.4, 0, -0.1], [-0.2, 0.1, 0]], dtype=torch.float64))
    expected = np.linalg.norm(scipy.linalg.logm(turn.numpy())) / np.sqrt(2)
    assert Stiefel().dist(X, X @ turn).item() == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ErlangenError, match="no parallel transport"):
        Stiefel().transport(X, X, X)
    v = Stiefel().project(X, torch.randn(3, 3, generator=rng(5), dtype=torch.float64))
    gaps = [(Stiefel().retract(X, h * v) - Stiefel().exp(X, h * v)).norm().item() for h in (1e-1, 1e-2)]
    assert gaps[0] / gaps[1] == pytest.approx(1000, rel=0.1)
    with pytest.raises(DataError, match="not orthonormal"):
        Stiefel().check(2 * X)


def test_distributions_on_a_line() -> None:
    line = Wasserstein1D()
    a, b = (
        torch.randn(200, generator=rng(), dtype=torch.float64),
        torch.rand(200, generator=rng(1), dtype=torch.float64),
    )
    x, y = line.from_samples(a, 200), line.from_samples(b, 200)
    torch.testing.assert_close(x, a.sort().values)
    assert line.dist(x, y).item() == pytest.approx(np.sqrt(np.mean((np.sort(a.numpy()) - np.sort(b.numpy())) ** 2)))
    mean = line.mean(torch.stack([x, y]))
    torch.testing.assert_close(mean.point, (x + y) / 2)
    torch.testing.assert_close(line.exp(x, line.log(x, y)), y)
    torch.testing.assert_close(line.pairwise(torch.stack([x, y]))[0, 1], line.dist(x, y))
    with pytest.raises(DataError, match="decreases"):
        line.exp(x, -2 * line.log(x - x, x))

"""Alignment: scipy's and roma's answers, closed forms, derivatives by differences, and where nothing is determined."""

import math

import numpy as np
import pytest
import roma
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

import erlangen as er
from erlangen.errors import (
    DataError,
    DegenerateFrameError,
    DegenerateFrameWarning,
    DtypeError,
    GroupError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.geometry import align, chordal_mean, gram_schmidt, point_frames, procrustes, rotation_distance
from erlangen.geometry._nearest import FEW, nearest_rotation
from erlangen.geometry.manifolds import Rotations
from erlangen.groups import axis_angle_to_matrix

DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def rotations(*shape: int, seed: int = 0) -> Tensor:
    return er.SO(3).sample(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def shares(*shape: int, seed: int = 5) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def close(a: Tensor, b: Tensor, tol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# --- the nearest rotation --------------------------------------------------------------------------------------------
SPECTRA = [
    (1, 1e-3, 1e-6),
    (1, 1 - 1e-9, 1e-5),
    (1, 1, 1),
    (1, 1e-8, 1e-8),
    (1, 0.5, 0),
    (1, 1 + 1e-13, 0.3),
    (1e150, 1e140, 1),
]


@pytest.mark.parametrize("proper", [True, False])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_many_small_matrices(spectrum: tuple[float, ...], proper: bool) -> None:
    """The fast road against the conditions that define a polar factor: orthogonal, R^T M symmetric with the largest trace."""
    count = 4 * FEW
    M = rotations(count) @ torch.diag(torch.tensor(spectrum, dtype=DOUBLE)) @ rotations(count, seed=1)
    M[::2] = -M[::2]
    R, values, vectors = nearest_rotation(M, proper=proper)
    eye, size = torch.eye(3, dtype=DOUBLE).expand(count, 3, 3), max(spectrum)
    close(R.mT @ R, eye)
    close(vectors.mT @ vectors, eye)
    if proper:
        close(torch.linalg.det(R), torch.ones(count, dtype=DOUBLE))
    P = R.mT @ M / size
    close(P, (vectors * values[:, None] / size) @ vectors.mT)
    want = torch.tensor(spectrum, dtype=DOUBLE).sort(descending=True).values.repeat(count, 1)
    if proper:
        want[::2, 2] *= -1
    close(values / size, want / size)


def test_few_and_many_agree() -> None:
    M = normal(FEW + 5, 3, 3)
    for proper in (True, False):
        R, values, _ = nearest_rotation(M, proper=proper)
        for i in range(len(M)):
            one, few, _ = nearest_rotation(M[i], proper=proper)
            close(R[i], one, 1e-10)
            close(values[i], few)


@pytest.mark.parametrize("d", [2, 3, 4])
@pytest.mark.parametrize("proper", [True, False])
def test_derivatives(d: int, proper: bool) -> None:
    M = normal(3, d, d, seed=d).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: nearest_rotation(m, proper=proper)[0], M, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda m: nearest_rotation(m, proper=proper)[0], M)


def test_derivative_of_the_fast_road_is_that_of_the_slow_one() -> None:
    M, H = normal(FEW + 1, 3, 3), normal(FEW + 1, 3, 3, seed=1)
    many = M.clone().requires_grad_()
    (nearest_rotation(many, proper=True)[0] * H).sum().backward()
    for i in range(len(M)):
        one = M[i].clone().requires_grad_()
        (nearest_rotation(one, proper=True)[0] * H[i]).sum().backward()
        close(many.grad[i], one.grad, 1e-8)


def test_derivative_is_finite_where_nothing_is_determined() -> None:
    for M in (
        torch.zeros(3, 3),
        torch.diag(torch.tensor([1.0, 0, 0])),
        torch.eye(3),
        torch.diag(torch.tensor([1.0, 1, -1])),
    ):
        M = M.double().requires_grad_()
        nearest_rotation(M, proper=True)[0][0, 1].backward()
        assert bool(torch.isfinite(M.grad).all())
    assert M.grad.abs().max() < 1


def test_transforms() -> None:
    M = normal(5, 3, 3)
    close(torch.func.vmap(lambda m: nearest_rotation(m, proper=True)[0])(M), nearest_rotation(M, proper=True)[0])


# --- alignment -------------------------------------------------------------------------------------------------------
def test_weighted_kabsch_is_scipys() -> None:
    X, Y, w = normal(20, 7, 3), normal(20, 7, 3, seed=1), shares(20, 7)
    fit = align(X, Y, w, translation=False)
    for b in range(20):
        want, distance = Rotation.align_vectors(Y[b].numpy(), X[b].numpy(), weights=w[b].numpy())
        np.testing.assert_allclose(fit.rotation[b], want.as_matrix(), atol=1e-9)
        assert float(fit.residual[b] * w[b].sum().sqrt()) == pytest.approx(distance, rel=1e-10)
    assert fit.rank.tolist() == [3] * 20


@pytest.mark.parametrize("scale", [True, False])
def test_umeyama_is_romas(scale: bool) -> None:
    X, Y = normal(100, 7, 3), normal(100, 7, 3, seed=1)
    fit = align(X, Y, scale=scale)
    want = roma.rigid_points_registration(X, Y, compute_scaling=scale)
    close(fit.rotation, want[0], 1e-8)
    close(fit.translation, want[1], 1e-8)
    close(fit.scale, want[2] if scale else torch.ones(100, dtype=DOUBLE), 1e-8)
    close(fit.apply(X), X @ (fit.scale[:, None, None] * fit.rotation).mT + fit.translation[:, None])
    close(er.actions.Points().on(er.Similarity(3)).act(fit.matrix, X), fit.apply(X))


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (DOUBLE, 1e-12)])
@pytest.mark.parametrize("d", [2, 3, 5])
def test_known_motions_come_back(d: int, dtype: torch.dtype, tol: float) -> None:
    R = er.SO(d).sample(4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    X = normal(4, 20, d)
    fit = align(X.to(dtype), (3 * X @ R.mT + 2).to(dtype), scale=True)
    close(fit.rotation.double(), R, tol)
    close(fit.scale.double(), torch.full((4,), 3.0, dtype=DOUBLE), tol)
    close(fit.translation.double(), torch.full((4, d), 2.0, dtype=DOUBLE), 10 * tol)
    assert float(fit.residual.max()) < 10 * tol
    assert fit.rotation.dtype == dtype


def test_weights() -> None:
    """Whole weights are copies, weights of zero and masks leave rows out, and all may be scaled."""
    X, Y, counts = normal(6, 3), normal(6, 3, seed=1), torch.tensor([1, 2, 0, 3, 1, 1])
    fit = align(X, Y, 7 * counts.double(), scale=True)
    copies = align(X.repeat_interleave(counts, 0), Y.repeat_interleave(counts, 0), scale=True)
    for ours, theirs in zip(fit, copies, strict=True):
        close(ours, theirs)
    kept = align(X, Y, counts > 0)
    close(kept.rotation, align(X[counts > 0], Y[counts > 0]).rotation)


def test_best_of_all_rotations() -> None:
    """No rotation of a fine grid does better, and none of a small neighbourhood; with reflections the mirror image fits."""
    X, Y = normal(8, 3), normal(8, 3, seed=1)
    best = align(X, Y, translation=False)
    assert float(best.residual) == pytest.approx(float((X @ best.rotation.mT - Y).square().sum(-1).mean().sqrt()))
    others = (X @ er.SO(3).grid(4608, dtype=DOUBLE).mT - Y).square().sum(-1).mean(-1).sqrt()
    assert float(others.min()) > float(best.residual)
    near = best.rotation @ er.SO(3).exp(1e-3 * normal(100, 3, seed=2))
    assert float((X @ near.mT - Y).square().sum(-1).mean(-1).sqrt().min()) > float(best.residual)
    mirrored = X * torch.tensor([-1.0, 1, 1], dtype=DOUBLE)
    assert float(align(X, mirrored).residual) > 0.1
    free = align(X, mirrored, reflections=True)
    assert float(free.residual) < 1e-12
    close(free.rotation, torch.diag(torch.tensor([-1.0, 1, 1], dtype=DOUBLE)))


def test_equivariance() -> None:
    """align(g X, h Y) = h align(X, Y) g^-1."""
    X, Y, w = normal(10, 7, 3), normal(10, 7, 3, seed=1), shares(10, 7)
    group = er.SE(3)
    g, h = (group.sample(10, generator=torch.Generator().manual_seed(s), dtype=DOUBLE) for s in (1, 2))
    act = er.actions.Points().on(group).act
    moved = align(act(g, X), act(h, Y), w).matrix
    close(moved, h @ align(X, Y, w).matrix @ group.inverse(g), 1e-8)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    close(align(X[:, order], Y[:, order], w[:, order]).matrix, align(X, Y, w).matrix, 1e-8)


def test_rank_and_gap() -> None:
    X = normal(30, 3)
    X[:, 2] = 0
    R = rotations()
    planar = align(X, X @ R.mT)
    assert (planar.rank.item(), float(planar.residual) < 1e-12) == (2, True)
    close(planar.rotation, R)
    close(torch.linalg.det(planar.rotation), torch.tensor(1.0, dtype=DOUBLE))
    X[:, 1] = 0
    with pytest.warns(DegenerateFrameWarning, match="rank 1"):
        line = align(X, X @ R.mT)
    assert (line.rank.item(), line.gap.item(), float(line.residual) < 1e-12) == (1, 0.0, True)
    with pytest.raises(DegenerateFrameError, match="several rotations"):
        align(X, X @ R.mT, on_degenerate="error")
    assert align(X + 5, X @ R.mT - 7, on_degenerate="allow").rank.item() == 1
    # Of the mirror image of a cube's corners many rotations are equally close; of a box's only those of one axis.
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=DOUBLE)] * 3)
    assert align(corners, -corners, on_degenerate="allow").gap.item() == 0
    box = corners * torch.tensor([3.0, 2, 1], dtype=DOUBLE)
    assert align(box, -box).gap.item() == pytest.approx(3 / 9)  # squares 9, 4, 1: (4 - 1) / 9


def test_gap_bounds_how_far_errors_turn() -> None:
    X = normal(50, 3) * torch.tensor([1.0, 0.1, 0.01], dtype=DOUBLE)
    fit = align(X, X)
    noise = 1e-6 * normal(200, 50, 3, seed=1)
    turned = er.groups.rotation_angle(align(X.expand_as(noise), X + noise).rotation)
    assert 1e-8 < float(turned.mean()) < 1e-6 / float(fit.gap)


def test_gradients_of_alignment() -> None:
    X, Y, w = (t.requires_grad_() for t in (normal(2, 5, 3), normal(2, 5, 3, seed=1), shares(2, 5)))
    assert torch.autograd.gradcheck(lambda *a: align(*a, scale=True)[:4], (X, Y, w))


def test_procrustes_has_a_gradient_at_equal_singular_values() -> None:
    X = torch.eye(3, dtype=DOUBLE).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: procrustes(x, torch.eye(3, dtype=DOUBLE), proper=True), X)


# --- frames ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [2, 3, 4])
def test_gram_schmidt_is_qr(n: int) -> None:
    steps = normal(2, 6, n - 1, n)
    R, lengths = gram_schmidt(steps)
    Q, upper = torch.linalg.qr(steps.mT)
    signs = upper.diagonal(dim1=-2, dim2=-1).sign()
    close(R[..., : n - 1], Q * signs[..., None, :])
    close(lengths, upper.diagonal(dim1=-2, dim2=-1).abs())
    close(torch.linalg.det(R), torch.ones(2, 6, dtype=DOUBLE))


def test_frames_move_with_their_points() -> None:
    points = normal(9, 3, 3)
    group = er.E(3)
    g = group.sample(9, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    moved = point_frames(er.actions.Points().on(group).act(g, points))
    close(point_frames(points)[:, :3, 3], points[:, 0])
    frames, det = point_frames(points), torch.linalg.det(g[:, :3, :3])
    last = torch.stack([torch.ones_like(det), torch.ones_like(det), det, torch.ones_like(det)], -1)
    close(moved, g @ frames * last[:, None])
    step = points[:, 1] - points[:, 0]
    close(frames[:, :3, 0], step / step.norm(dim=-1, keepdim=True))
    inverse = er.SE(3).inverse(frames)
    inside = er.actions.Points().on(er.SE(3)).act(inverse, points)
    close(inside[:, 0], torch.zeros(9, 3, dtype=DOUBLE))
    assert inside[:, 1:, 2].abs().max() < 1e-12
    assert bool((inside[:, 2, 1] > 0).all())


def test_points_without_a_frame() -> None:
    line = torch.tensor([[0.0, 0, 0], [1, 2, 3], [2, 4, 6]])
    with pytest.warns(DegenerateFrameWarning, match="determine no frame"):
        frame = point_frames(line)
    assert bool(er.SE(3).contains(frame))
    with pytest.raises(DegenerateFrameError):
        point_frames(torch.stack([normal(3, 3).float(), line]), on_degenerate="error")


# --- means -----------------------------------------------------------------------------------------------------------
def test_chordal_mean_is_scipys() -> None:
    R, w = rotations(10, 6), shares(10, 6)
    mean = chordal_mean(R, w)
    for b in range(10):
        want = Rotation.from_matrix(R[b].numpy()).mean(weights=w[b].numpy())
        np.testing.assert_allclose(mean.rotation[b], want.as_matrix(), atol=1e-9)


def test_means_of_two_lie_half_way() -> None:
    R, turn = rotations(20), 0.9 * normal(20, 3) / normal(20, 3).norm(dim=-1, keepdim=True)
    pair = torch.stack([R, R @ axis_angle_to_matrix(turn)], 1)
    half = R @ axis_angle_to_matrix(turn / 2)
    close(chordal_mean(pair).rotation, half)
    close(Rotations().mean(pair).point, half, 1e-10)
    third = Rotations().mean(pair, torch.tensor([2.0, 1.0], dtype=DOUBLE))
    close(third.point, R @ axis_angle_to_matrix(turn / 3), 1e-10)


def test_karcher_mean_of_turns_about_an_axis_is_the_mean_angle() -> None:
    angles, w = shares(8, 5, seed=1) - 0.5, shares(8, 5)
    turns = axis_angle_to_matrix(angles[..., None] * torch.tensor([0.0, 0.6, 0.8], dtype=DOUBLE))
    mean = Rotations().mean(turns, w)
    assert bool(mean.converged.all())
    want = (w * angles).sum(-1) / w.sum(-1)
    close(mean.point, axis_angle_to_matrix(want[:, None] * torch.tensor([0.0, 0.6, 0.8], dtype=DOUBLE)), 1e-10)
    # The chordal mean is that of the unit vectors in the plane.
    planar = torch.atan2((w * angles.sin()).sum(-1), (w * angles.cos()).sum(-1))
    close(
        chordal_mean(turns, w).rotation,
        axis_angle_to_matrix(planar[:, None] * torch.tensor([0.0, 0.6, 0.8], dtype=DOUBLE)),
    )


def test_karcher_mean_moves_with_both_sides() -> None:
    R = rotations(5, 1) @ axis_angle_to_matrix(0.5 * normal(5, 7, 3))
    g, h = rotations(5, 1, seed=3), rotations(5, 1, seed=4)
    w = shares(7)
    close(Rotations().mean(g @ R @ h, w).point, (g @ Rotations().mean(R, w).point[:, None] @ h)[:, 0], 1e-8)
    close(chordal_mean(g @ R @ h, w).rotation, (g @ chordal_mean(R, w).rotation[:, None] @ h)[:, 0], 1e-10)


def test_manifold_of_rotations() -> None:
    space, R, S = Rotations(), rotations(30), rotations(30, seed=1)
    K = space.project(R, normal(30, 3, 3, seed=2))
    close(space.exp(R, space.log(R, S)), S, 1e-10)
    angles = torch.from_numpy((Rotation.from_matrix(R.numpy()).inv() * Rotation.from_matrix(S.numpy())).magnitude())
    close(space.dist(R, S), angles, 1e-10)
    close(space.norm(R, space.log(R, S)), angles, 1e-10)
    close(space.norm(S, space.transport(K, R, S)), space.norm(R, K))
    close(space.transport(space.log(R, S), R, S), -space.log(S, R), 1e-9)  # a geodesic goes on straight
    with pytest.raises(er.errors.DataError, match="no rotation"):
        space.check(-R)
    with pytest.raises(ShapeError, match="give rotations"):
        space.check(normal(3, 2, 2))


def test_opposite_rotations_have_no_mean() -> None:
    flip = torch.stack([torch.eye(2), -torch.eye(2)])
    with pytest.warns(DegenerateFrameWarning, match="several rotations are nearest"):
        assert chordal_mean(flip).gap.item() == 0
    with pytest.raises(DegenerateFrameError):
        chordal_mean(flip, on_degenerate="error")
    assert chordal_mean(torch.eye(3).expand(4, 3, 3)).gap.item() == pytest.approx(1)


# --- quotients -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "group", [er.Octahedral(), er.Icosahedral(), er.Octahedral(inversion=True)], ids=lambda g: g.name
)
def test_distance_modulo_a_finite_group(group: er.Group, side) -> None:
    """The least of all angles, by scipy; its symmetries; and zero between poses that look the same."""
    R, S = rotations(6), rotations(6, seed=1)
    H = group.linear(group.elements(), dtype=DOUBLE)
    H = H[torch.linalg.det(H) > 0]
    turned = R[:, None] @ H if side == "right" else H @ R[:, None]
    there = [Rotation.from_matrix(S[b].numpy()) for b in range(6)]
    want = [min((Rotation.from_matrix(h.numpy()).inv() * there[b]).magnitude() for h in turned[b]) for b in range(6)]
    ours = rotation_distance(R, S, group, side=side)
    np.testing.assert_allclose(ours, want, atol=1e-9)
    close(rotation_distance(S, R, H, side=side), ours, 1e-10)
    g = rotations(seed=9)
    moved = (g @ R, g @ S) if side == "right" else (R @ g, S @ g)
    close(rotation_distance(*moved, group, side=side), ours, 1e-10)
    same = turned[:, 3]
    assert float(rotation_distance(R, same, group, side=side).max()) < 1e-7
    assert float(rotation_distance(R, same).min()) > 0.5


def test_distance_modulo_turns_about_an_axis() -> None:
    axis = torch.tensor([1.0, 2.0, 2.0], dtype=DOUBLE) / 3
    R, S = rotations(20), rotations(20, seed=1)
    for group in (er.Stabilizer(er.SO(3), axis), er.Stabilizer(er.O(3), axis)):
        ours = rotation_distance(R, S, group)
        many = axis_angle_to_matrix(torch.linspace(0, 2 * math.pi, 20001, dtype=DOUBLE)[:, None] * axis)
        np.testing.assert_allclose(ours, rotation_distance(R, S, many), atol=1e-6)
        turn = axis_angle_to_matrix(1.234 * axis)
        close(rotation_distance(R @ turn, S, group), ours, 1e-10)
        close(rotation_distance(turn @ R, S, group, side="left"), rotation_distance(R, S, group, side="left"), 1e-10)
    assert float(rotation_distance(R, S, group).max()) < math.pi


def test_distance_has_a_gradient() -> None:
    w = normal(4, 3).requires_grad_()
    R = rotations(4)
    for modulo in (None, er.Octahedral(), er.Stabilizer(er.SO(3), [0.0, 0, 1])):
        assert torch.autograd.gradcheck(
            lambda w, modulo=modulo: rotation_distance(axis_angle_to_matrix(w), R, modulo), w
        )


# --- what is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: align(torch.zeros(3), torch.zeros(3)), ShapeError, "points as rows"),
        (lambda: align(torch.zeros(4, 3), torch.zeros(5, 3)), ShapeError, "rows correspond"),
        (lambda: align(torch.zeros(4, 3).long(), torch.zeros(4, 3)), DtypeError, "X has dtype"),
        (lambda: align(torch.full((4, 3), torch.nan), torch.zeros(4, 3)), NotFiniteError, "X has"),
        (lambda: align(torch.ones(4, 3), torch.ones(4, 3), torch.ones(3)), ShapeError, "one for each row"),
        (lambda: align(torch.ones(4, 3), torch.ones(4, 3), -torch.ones(4)), DataError, "must not be negative"),
        (lambda: align(torch.ones(4, 3), torch.ones(4, 3), torch.zeros(4)), DataError, "all zero"),
        (lambda: align(torch.ones(4, 3), torch.ones(4, 3), scale=True), DataError, "no extent"),
        (lambda: align(torch.ones(4, 3), torch.ones(4, 3), on_degenerate="no"), UnknownNameError, "choose 'warn'"),
        (lambda: gram_schmidt(torch.ones(3, 3)), ShapeError, "n - 1 vectors"),
        (lambda: point_frames(torch.ones(2, 3)), ShapeError, "needs n points"),
        (lambda: chordal_mean(torch.eye(3)), ShapeError, "N at least 1"),
        (lambda: rotation_distance(torch.eye(3), torch.eye(2)), ShapeError, "S has shape"),
        (lambda: rotation_distance(torch.eye(3), torch.eye(3), er.SO(3)), GroupError, "no finite group"),
        (lambda: rotation_distance(torch.eye(3), torch.eye(3), er.Cyclic(4)), GroupError, "no finite group of space"),
        (lambda: rotation_distance(torch.eye(3), torch.eye(3), torch.eye(3)), ShapeError, "K, 3, 3"),
        (lambda: rotation_distance(torch.eye(3), torch.eye(3), side="both"), GroupError, "choose 'right'"),
        (lambda: rotation_distance(torch.eye(3), -torch.eye(3)), er.errors.GroupElementError, "rotation"),
    ],
)
def test_bad_input(call, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()

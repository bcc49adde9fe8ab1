"""Quaternions, rotation vectors and grids against scipy's Rotation, roma and closed forms."""

import math

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from erlangen.errors import GroupError, ShapeError
from erlangen.groups import Icosahedral, Octahedral, Tetrahedral
from erlangen.groups import rotations as rot
from erlangen.groups.grids import circle_grid, so3_grid, sphere_grid

DTYPES = [torch.float32, torch.float64]
TOL = {torch.float32: 1e-5, torch.float64: 1e-12}
# Half turns about axes and diagonals, and the identity: where one of the four components vanishes.
SPECIAL = torch.tensor(
    [
        [1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, -1], [0, 1, 0, 1],
        [1, 1, 1, 1], [1, -1, 0, 0], [1e-9, 1, 2, 3], [1, 1e-9, 0, 0],
    ],
    dtype=torch.float64,
)  # fmt: skip


def quaternions(count: int = 200, seed: int = 0) -> torch.Tensor:
    random = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q = torch.cat([random, SPECIAL])
    return q / q.norm(dim=-1, keepdim=True)


# --- conversions --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES)
def test_quaternions_to_matrices(dtype: torch.dtype) -> None:
    q = quaternions().to(dtype)
    R = rot.quaternion_to_matrix(3 * q)  # of any length
    xyzw = rot.quaternion_to_xyzw(q)
    assert R.dtype == dtype
    assert np.allclose(R, Rotation.from_quat(xyzw.double().numpy()).as_matrix(), atol=TOL[dtype])
    assert torch.allclose(R, roma.unitquat_to_rotmat(xyzw), atol=TOL[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_to_quaternions(dtype: torch.dtype) -> None:
    R = torch.tensor(Rotation.from_quat(rot.quaternion_to_xyzw(quaternions()).numpy()).as_matrix()).to(dtype)
    q = rot.matrix_to_quaternion(R)
    expected = rot.quaternion_from_xyzw(torch.tensor(Rotation.from_matrix(R.double().numpy()).as_quat())).to(dtype)
    dot = (q * expected).sum(-1).abs()
    assert (q[..., 0] >= 0).all()
    assert torch.allclose(q.norm(dim=-1), torch.ones_like(dot), atol=TOL[dtype])
    assert torch.allclose(dot, torch.ones_like(dot), atol=TOL[dtype])
    assert torch.allclose(rot.quaternion_to_matrix(q), R, atol=TOL[dtype])


def test_quaternion_orders() -> None:
    q = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert rot.quaternion_to_xyzw(q).tolist() == [2, 3, 4, 1]
    assert torch.equal(rot.quaternion_from_xyzw(rot.quaternion_to_xyzw(q)), q)


@given(theta=st.floats(0, math.pi), seed=st.integers(0, 1000), dtype=st.sampled_from(DTYPES))
@settings(deadline=None, max_examples=50)
def test_rotation_vectors(theta: float, seed: int, dtype: torch.dtype) -> None:
    axis = np.random.default_rng(seed).normal(size=3)
    vector = theta * axis / np.linalg.norm(axis)
    R = rot.axis_angle_to_matrix(torch.tensor(vector, dtype=dtype))
    assert np.allclose(R, Rotation.from_rotvec(vector).as_matrix(), atol=TOL[dtype])
    assert torch.allclose(R, roma.rotvec_to_rotmat(torch.tensor(vector, dtype=dtype)), atol=TOL[dtype])
    back = rot.matrix_to_axis_angle(R)
    assert torch.allclose(rot.axis_angle_to_matrix(back), R, atol=TOL[dtype])
    assert back.norm().item() == pytest.approx(theta, rel=TOL[dtype], abs=1e-6 if dtype == torch.float32 else 1e-14)
    assert rot.rotation_angle(R).item() == pytest.approx(theta, rel=1e-6, abs=1e-6 if dtype == torch.float32 else 1e-14)


def test_angles_of_planar_rotations() -> None:
    theta = torch.linspace(-3, 3, 13, dtype=torch.float64)
    R = rot.planar_rotation(theta)
    expected = Rotation.from_euler("z", theta.numpy()[:, None]).as_matrix()[:, :2, :2]
    assert np.allclose(R, expected, atol=1e-15)
    assert torch.allclose(rot.rotation_angle(R), theta.abs(), atol=1e-14)


def test_gradients() -> None:
    q = quaternions(5)
    R = rot.quaternion_to_matrix(q).requires_grad_()
    # Off the rotations the formula depends on which component is largest, so only where one clearly is.
    generic = R[:5].detach().requires_grad_()
    assert torch.autograd.gradcheck(rot.matrix_to_quaternion, (generic,))
    assert torch.autograd.gradcheck(rot.quaternion_to_matrix, (q.clone().requires_grad_(),))
    vectors = torch.tensor([[0.0, 0, 0], [1e-4, 0, 0], [0.5, -1, 2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rot.axis_angle_to_matrix, (vectors,))
    assert torch.autograd.gradcheck(lambda v: rot.matrix_to_axis_angle(rot.axis_angle_to_matrix(v)), (vectors,))
    for function in (rot.matrix_to_quaternion, rot.matrix_to_axis_angle, rot.rotation_angle):
        (gradient,) = torch.autograd.grad(function(R).sum(), R)
        assert gradient.isfinite().all()


def test_conversions_under_vmap() -> None:
    q = quaternions(6)
    R = torch.func.vmap(rot.quaternion_to_matrix)(q)
    assert torch.equal(R, rot.quaternion_to_matrix(q))
    assert torch.allclose(torch.func.vmap(rot.matrix_to_axis_angle)(R), rot.matrix_to_axis_angle(R))


def test_random_rotations_cover_every_dimension() -> None:
    for n in (1, 2, 3, 6):
        R = rot.random_rotations(n, (3, 2), torch.Generator().manual_seed(0))
        assert R.shape == (3, 2, n, n)
        assert torch.allclose(R.mT @ R, torch.eye(n, dtype=torch.float64).expand_as(R), atol=1e-14)
        assert torch.allclose(torch.linalg.det(R), torch.ones(3, 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (rot.quaternion_to_matrix, (3,)),
        (rot.quaternion_to_xyzw, (2, 3)),
        (rot.quaternion_from_xyzw, ()),
        (rot.matrix_to_quaternion, (4, 4)),
        (rot.matrix_to_axis_angle, (3,)),
        (rot.axis_angle_to_matrix, (4,)),
        (rot.rotation_angle, (4, 4)),
    ],
)
def test_bad_shapes(function, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="is needed"):
        function(torch.ones(shape))


# --- grids --------------------------------------------------------------------------------------------------
def test_circle_grid_integrates_exactly() -> None:
    x, y = circle_grid(7, dtype=torch.float64).unbind(-1)
    assert (x[0], y[0]) == (1, 0)
    for k in range(1, 7):
        wave = torch.complex(x, y) ** k
        assert abs(wave.mean().item()) < 1e-14
    assert abs((torch.complex(x, y) ** 7).mean().item() - 1) < 1e-14  # the first degree that it misses


def test_sphere_grid_integrates_moments() -> None:
    previous = math.inf
    for n in (50, 200, 800, 3200):
        x = sphere_grid(n, dtype=torch.float64)
        assert torch.allclose(x.norm(dim=-1), torch.ones(n, dtype=torch.float64))
        second = (x.mT @ x / n - torch.eye(3, dtype=torch.float64) / 3).abs().max().item()
        fourth = abs(x[:, 0].pow(4).mean().item() - 1 / 5)
        error = max(x.mean(0).abs().max().item(), second, fourth)
        assert error < previous / 2
        assert error < 1 / n  # random points: about 0.6 / sqrt(n)
        previous = error


def moment_error(R: torch.Tensor) -> float:
    """Error of the means of R_ij (0), and of R_ij R_kl (delta_ik delta_jl / 3): all of Wigner's l = 1 and part of l = 2."""
    flat = R.flatten(1)
    second = flat.mT @ flat / len(flat) - torch.eye(9, dtype=R.dtype) / 3
    return max(flat.mean(0).abs().max().item(), second.abs().max().item())


def test_so3_grid_integrates_moments_better_than_random() -> None:
    previous = math.inf
    for n in (30, 300, 3000):
        error = moment_error(rot.quaternion_to_matrix(so3_grid(n, dtype=torch.float64)))
        random = [moment_error(torch.tensor(Rotation.random(n, random_state=s).as_matrix())) for s in range(5)]
        assert error < previous / 3  # random: previous / 3.2, from far above
        assert error < min(random) * (0.6 if n == 30 else 0.3)
        previous = error


def test_so3_grid_has_a_uniform_angle_distribution() -> None:
    angle = rot.rotation_angle(rot.quaternion_to_matrix(so3_grid(4000, dtype=torch.float64))).sort().values
    steps = (torch.arange(4000) + 0.5) / 4000
    assert ((angle - angle.sin()) / math.pi - steps).abs().max() < 0.005  # random: about 0.014


def covering(q: np.ndarray, probes: np.ndarray) -> float:
    """Largest angle from a probe to its nearest rotation (quaternions, sign ignored)."""
    return 2 * math.acos(min(1.0, np.abs(probes @ q.T).max(1).min()))


def test_so3_grid_covers_better_than_random() -> None:
    probes = Rotation.random(4000, random_state=9).as_quat()
    for n in (100, 1000):
        ours = covering(rot.quaternion_to_xyzw(so3_grid(n, dtype=torch.float64)).numpy(), probes)
        random = [covering(Rotation.random(n, random_state=s).as_quat(), probes) for s in range(5)]
        assert ours < 0.85 * min(random)


@pytest.mark.parametrize("grid", [circle_grid, sphere_grid, so3_grid])
def test_grids_follow_dtype_and_refuse_nonsense(grid) -> None:
    assert grid(5).dtype == torch.get_default_dtype()
    assert torch.equal(grid(5, dtype=torch.float64).float(), grid(5, dtype=torch.float32))
    for n in (0, -1, 2.5, True):
        with pytest.raises(GroupError, match="positive integer"):
            grid(n)


@pytest.mark.parametrize(("n", "energy"), [(4, 3.674234614), (5, 6.474691495), (8, 19.675287861), (12, 49.165253058)])
def test_repelled_points_are_the_known_minima_of_thomson(n: int, energy: float) -> None:
    """Energies of the problem of Thomson, as tabulated (Erber and Hockney 1991)."""
    x = sphere_grid(n, "repulsion", dtype=torch.float64)
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(n, dtype=torch.float64))
    assert float((1 / torch.pdist(x)).sum()) == pytest.approx(energy, abs=1e-8)


@pytest.mark.parametrize("n", [1, 2, 3, 16, 64])
def test_repelled_points_are_far_from_each_other(n: int) -> None:
    x = sphere_grid(n, "repulsion", dtype=torch.float64)
    assert x.shape == (n, 3)
    if n > 2:
        assert torch.pdist(x).min() >= torch.pdist(sphere_grid(n, dtype=torch.float64)).min() - 1e-9
    assert torch.equal(x, sphere_grid(n, "repulsion", dtype=torch.float64))


@pytest.mark.parametrize(
    ("n", "rotations"),
    [(4, Tetrahedral()), (6, Octahedral()), (8, Octahedral()), (12, Icosahedral()), (20, Icosahedral())],
    ids=str,
)
def test_platonic_points_are_permuted_by_their_rotations(n: int, rotations: Tetrahedral) -> None:
    x = sphere_grid(n, "platonic", dtype=torch.float64)
    torch.testing.assert_close(x.T @ x, n / 3 * torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)
    R = rotations.linear(rotations.elements(), dtype=torch.float64)
    moved = x @ R.mT
    apart = torch.cdist(moved, x.expand(len(R), n, 3))
    assert apart.min(-1).values.max() < 1e-7
    assert torch.equal(apart.argmin(-1).sort(-1).values, torch.arange(n).expand(len(R), n))


def test_sphere_grid_refuses_what_is_not_there() -> None:
    with pytest.raises(GroupError, match="n = 7: regular solids"):
        sphere_grid(7, "platonic")
    with pytest.raises(GroupError, match="choose 'fibonacci'"):
        sphere_grid(7, "random")


# --- HEALPix ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("side", [1, 2, 3, 4, 8])
def test_healpix_rings_and_symmetry(side: int) -> None:
    """Rings of 4, 8, ... places, heights from Gorski et al. (2005); quarter turns, and the mirror of z, permute the points."""
    x = sphere_grid(12 * side**2, "healpix", dtype=torch.float64)
    assert x.norm(dim=-1).sub(1).abs().max() < 1e-14
    heights, counts = x[:, 2].mul(1e12).round().unique(return_counts=True)
    assert len(heights) == 4 * side - 1
    expected = [4 * min(i, side, 4 * side - i) for i in range(1, 4 * side)]
    assert counts.flip(0).tolist() == expected
    assert float(x[0, 2]) == pytest.approx(1 - 1 / (3 * side**2))
    assert float(x[:, 2].max()) == float(x[0, 2])
    for moved in (
        x @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]], dtype=torch.float64),
        x * torch.tensor([1, 1, -1]),
    ):
        assert torch.cdist(moved, x).amin(1).max() < 1e-7
    apart = torch.cdist(x, x).fill_diagonal_(9).amin(1)
    assert float(apart.min()) > 0.5 * math.sqrt(4 * math.pi / len(x))


def test_healpix_numbers_of_the_paper() -> None:
    """Middles for k = 2, from equations 4 to 9: z = 11/12 at 45 degrees, then 2/3 and 1/3 with 0 or 22.5 degrees first."""
    x = sphere_grid(48, "healpix", dtype=torch.float64)
    phi = torch.atan2(x[:, 1], x[:, 0]).rad2deg()
    assert (float(x[0, 2]), float(phi[0])) == (pytest.approx(11 / 12), pytest.approx(45))
    assert (float(x[4, 2]), float(phi[4])) == (pytest.approx(2 / 3), pytest.approx(22.5))
    assert (float(x[12, 2]), float(phi[12])) == (pytest.approx(1 / 3), pytest.approx(0))
    assert (float(x[20, 2]), float(phi[20])) == (pytest.approx(0, abs=1e-12), pytest.approx(22.5))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_healpix_rotations_are_even_and_keep_quarter_turns(level: int) -> None:
    """Means of Wigner matrices vanish as they do for Haar measure, better at finer levels; a turn about y permutes the grid."""
    n = 72 * 8**level
    R = rot.quaternion_to_matrix(so3_grid(n, "healpix", dtype=torch.float64))
    assert R.shape == (n, 3, 3)
    assert (R @ R.mT - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-14
    assert float(R.mean(0).abs().max()) < 1e-12
    assert float((R[..., :, :, None, None] * R[..., None, None, :, :]).mean(0)[0, 0, 0, 0]) == pytest.approx(
        1 / 3, abs=0.02 / 4**level
    )
    turn = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=torch.float64)
    apart = torch.cdist((turn @ R).flatten(1), R.flatten(1)).amin(1)
    assert float(apart.max()) < 1e-6
    near = torch.cdist(R.flatten(1), R.flatten(1)).fill_diagonal_(9).amin(1)
    degrees = (2 * torch.asin(near / (2 * math.sqrt(2)))).rad2deg()
    assert float(degrees.max()) < 61 / 2**level
    assert float(degrees.min()) > 15 / 2**level


def test_sizes_that_are_no_level() -> None:
    with pytest.raises(GroupError, match="12 k\\^2 cells, such as 12 or 48"):
        sphere_grid(20, "healpix")
    with pytest.raises(GroupError, match="such as 576 or 4608"):
        so3_grid(1000, "healpix")
    with pytest.raises(GroupError, match="such as 72 or 576"):
        so3_grid(10, "healpix")
    with pytest.raises(GroupError, match="'super-fibonacci' or 'healpix'"):
        so3_grid(72, "hopf")


@pytest.mark.parametrize("dtype", DTYPES)
def test_euler_angles_are_those_of_scipy(dtype: torch.dtype) -> None:
    angles = 4 * torch.rand(20, 3, dtype=dtype, generator=torch.Generator().manual_seed(0)) - 2
    expected = torch.from_numpy(Rotation.from_euler("xyz", angles.double().numpy()).as_matrix())
    torch.testing.assert_close(rot.euler_to_matrix(angles).double(), expected, atol=TOL[dtype], rtol=0)
    with pytest.raises(ShapeError, match="angles has shape"):
        rot.euler_to_matrix(angles[:, :2])

"""Wigner matrices: the action on harmonics, group laws, e3nn, derivatives at the identity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from erlangen.errors import DtypeError, GroupElementError, IrrepsError, ShapeError
from erlangen.irreps import spherical_harmonics, wigner_D, wigner_D_all


def rotations(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(n, random_state=seed).as_matrix())


@settings(max_examples=25)
@given(st.integers(0, 2**31))
def test_moves_harmonics(seed: int) -> None:
    R = rotations(4, seed)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    Y = spherical_harmonics(12, x)
    moved = spherical_harmonics(12, (R @ x[..., None])[..., 0])
    for l, D in enumerate(wigner_D_all(12, R)):
        block = slice(l * l, (l + 1) ** 2)
        torch.testing.assert_close((D @ Y[:, block, None])[..., 0], moved[:, block], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_orthogonal_homomorphism(dtype: torch.dtype, tol: float) -> None:
    R, S = rotations(50, 1).to(dtype), rotations(50, 2).to(dtype)
    for D, E, F in zip(wigner_D_all(12, R), wigner_D_all(12, S), wigner_D_all(12, R @ S), strict=True):
        assert D.dtype == dtype
        assert (D @ E - F).abs().max() < tol
        assert (D @ D.mT - torch.eye(D.shape[-1], dtype=dtype)).abs().max() < tol


def test_equals_e3nn() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # e3nn's generators follow the default dtype
    try:
        R = rotations(20)
        for l in range(11):
            expected = o3.Irrep(l, 1).D_from_matrix(R)
            torch.testing.assert_close(wigner_D(l, R), expected, rtol=0, atol=1e-11)
    finally:
        torch.set_default_dtype(default)


def test_character_is_that_of_the_angle() -> None:
    angle = torch.linspace(0.1, 3.0, 7, dtype=torch.float64)
    R = torch.from_numpy(Rotation.from_rotvec(angle[:, None].numpy() * [[0.6, 0.0, 0.8]]).as_matrix())
    for l, D in enumerate(wigner_D_all(12, R)):
        character = torch.sin((l + 0.5) * angle) / torch.sin(angle / 2)
        torch.testing.assert_close(D.diagonal(dim1=-2, dim2=-1).sum(-1), character, rtol=0, atol=1e-12)


def test_inversion_has_the_parity_of_harmonics() -> None:
    for l, D in enumerate(wigner_D_all(12, -torch.eye(3, dtype=torch.float64))):
        assert torch.equal(D.round(decimals=12), (-1.0) ** l * torch.eye(2 * l + 1, dtype=torch.float64))


def test_half_turns_and_identity_are_exact_limits() -> None:
    for R in (torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.diag(torch.tensor([-1.0, 1.0, -1.0]))):
        for D in wigner_D_all(12, R.double()):
            torch.testing.assert_close(D.abs(), torch.eye(D.shape[-1], dtype=torch.float64), rtol=0, atol=1e-13)


@pytest.mark.parametrize("l", [1, 2, 3, 5])
def test_derivative_at_the_identity_is_the_algebra(l: int) -> None:
    """d/dt D(exp(t L_a)) at 0 gives generators with [J_x, J_y] = J_z and Casimir -l (l + 1)."""
    K = torch.zeros(3, 3, 3, dtype=torch.float64)
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        K[a, c, b], K[a, b, c] = 1.0, -1.0
    eye = torch.eye(3, dtype=torch.float64)

    def D(t: torch.Tensor) -> torch.Tensor:
        return wigner_D(l, torch.linalg.matrix_exp(torch.einsum("a,aij->ij", t, K)), check=False)

    J = torch.autograd.functional.jacobian(D, torch.zeros(3, dtype=torch.float64)).movedim(-1, 0)
    torch.testing.assert_close(J[0] @ J[1] - J[1] @ J[0], J[2], rtol=0, atol=1e-12)
    casimir = (J @ J).sum(0)
    torch.testing.assert_close(casimir, -l * (l + 1) * torch.eye(2 * l + 1, dtype=torch.float64), rtol=0, atol=1e-12)
    R = eye.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda R: wigner_D(l, R, check=False), R)


def test_gradgradcheck_and_transforms() -> None:
    R = rotations(2).requires_grad_()

    def function(R: torch.Tensor) -> torch.Tensor:
        return wigner_D(3, R, check=False)

    assert torch.autograd.gradgradcheck(function, R)
    torch.testing.assert_close(torch.func.vmap(function)(R), function(R))
    torch.testing.assert_close(torch.compile(function, fullgraph=True, backend="eager")(R), function(R))


def test_batches() -> None:
    assert wigner_D(2, rotations(6).view(2, 3, 3, 3)).shape == (2, 3, 5, 5)
    assert wigner_D(4, rotations(1)[:0]).shape == (0, 9, 9)
    assert [D.shape[-1] for D in wigner_D_all(0, torch.eye(3))] == [1]


def test_bad_input() -> None:
    with pytest.raises(IrrepsError, match="13"):
        wigner_D(13, torch.eye(3))
    with pytest.raises(ShapeError, match=r"\(3, 2\)"):
        wigner_D(1, torch.zeros(3, 2))
    with pytest.raises(DtypeError, match="float16"):
        wigner_D(1, torch.eye(3).half())
    R = rotations(3)
    R[1] *= 1.1
    with pytest.raises(GroupElementError, match=r"R\[1\]"):
        wigner_D(2, R)
    R[1] = float("nan")
    with pytest.raises(GroupElementError, match=r"R\[1\]"):
        wigner_D(2, R)

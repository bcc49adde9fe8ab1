"""Logarithms and converters: right for every element at every scale, and an error for what is no element."""

import math

import numpy as np
import pytest
import roma
import torch
from scipy.spatial.transform import Rotation

import erlangen as er
from erlangen.errors import ErlangenError, GroupElementError
from erlangen.groups import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    quaternion_to_xyzw,
    rotation_angle,
)

DTYPES = (torch.float32, torch.float64)
nan = float("nan")


def homogeneous(linear, last=(0.0, 0.0, 0.0, 1.0)):
    g = torch.eye(4)
    g[:3, :3] = torch.as_tensor(linear)
    g[3] = torch.tensor(last)
    return g


def about_z(g):
    return torch.nn.functional.pad(g, (0, 1, 0, 1)) + torch.diag(torch.tensor([0.0, 0.0, 1.0])).to(g)


MIRROR, INVERSION = torch.diag(torch.tensor([-1.0, 1.0, 1.0])), -torch.eye(3)
SHEAR = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
NO_ROTATIONS = {
    "mirror": MIRROR,
    "inversion": INVERSION,
    "shear": SHEAR,
    "twice": 2 * torch.eye(3),
    "zero": torch.zeros(3, 3),
    "NaN": torch.full((3, 3), nan),
    "one percent": torch.diag(torch.tensor([1.01, 1.0, 1.0])),
}
REFUSED = [
    *((er.SO(3), m, name) for name, m in NO_ROTATIONS.items()),
    *((er.SE(3), homogeneous(m), name) for name, m in NO_ROTATIONS.items()),
    (er.SE(3), homogeneous(torch.eye(3), (0.0, 0.0, 0.5, 1.0)), "last row"),
    (er.SE(3), homogeneous(torch.eye(3), (0.0, 0.0, 0.0, 2.0)), "last row"),
    (er.SO(2), torch.diag(torch.tensor([-1.0, 1.0])), "mirror"),
    (er.SO(2), 3 * torch.eye(2), "scaled"),
    (er.SO(2), torch.zeros(2, 2), "zero"),
    (er.SO(4), torch.diag(torch.tensor([2.0, 0.5, 1.0, 1.0])), "stretched"),
    (er.O(3), MIRROR, "a reflection has no logarithm"),
    (er.O(3), SHEAR, "shear"),
    (er.E(3), homogeneous(SHEAR), "shear"),
    (er.Scaling(3), INVERSION, "-I"),
    (er.Scaling(3), torch.zeros(3, 3), "zero"),
    (er.Scaling(3), torch.diag(torch.tensor([1.0, 2.0, 2.0])), "unequal"),
    (er.group("CSO(3)"), INVERSION, "-I"),
    (er.group("CSO(3)"), torch.zeros(3, 3), "zero"),
    (er.Similarity(3), homogeneous(MIRROR), "mirror"),
    (er.SL(3), 2 * torch.eye(3), "determinant 8"),
    (er.SL(2), torch.diag(torch.tensor([-1.0, 1.0])), "determinant -1"),
    (er.GLPlus(3), MIRROR, "determinant -1"),
    (er.Affine(3), homogeneous(MIRROR), "determinant -1"),
    (er.Translation(3), homogeneous(axis_angle_to_matrix(torch.tensor([0.1, 0.0, 0.0]))), "turned"),
    (er.Lorentz(1, 3), -torch.eye(4), "-I"),
    (er.Lorentz(1, 3), torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0])), "time turned around"),
    (er.Lorentz(1, 3), torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0])), "mirror"),
    (er.Lorentz(1, 3), 2 * torch.eye(4), "scaled"),
    (er.Stabilizer(er.SO(3), [0.0, 0.0, 1.0]), axis_angle_to_matrix(torch.tensor([0.5, 0.0, 0.0])), "moves the vector"),
    (er.Flow(er.SO(3), [[0.0, 0.0, 1.0]]), torch.tensor([nan]), "NaN"),
    (er.Generated(er.SO(3)), SHEAR, "shear"),
    (er.Generated(er.SO(3)), torch.full((3, 3), nan), "NaN"),
    (er.groups.Sp(1), torch.diag(torch.tensor([2.0, 2.0])), "scaled"),
    (er.Subgroup(er.O(3), er.O(2), about_z), torch.zeros(2, 2), "zero"),
    (er.DirectProduct(er.SO(2), er.SO(2)), torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0])), "one factor"),
]


@pytest.mark.parametrize(("group", "g", "what"), REFUSED, ids=lambda v: getattr(v, "name", str(v)[:12]))
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_in_the_group_has_no_logarithm(group, g, what, dtype):
    """Alone and hidden in a batch of elements; the message names the place."""
    g = group.join(g[:2, :2], g[2:, 2:]) if isinstance(group, er.DirectProduct) else g
    g = g.to(dtype)
    with pytest.raises(ErlangenError):
        group.log(g)
    good = group.identity(dtype=dtype)
    with pytest.raises(ErlangenError, match=r"\[1\]|index"):
        group.log(torch.stack([good, g, good]))
    group.log(good)


@pytest.mark.parametrize("fn", [matrix_to_quaternion, matrix_to_axis_angle, rotation_angle])
@pytest.mark.parametrize("name", NO_ROTATIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, *DTYPES])
def test_converters_refuse_what_is_no_rotation(fn, name, dtype):
    """scipy raises for determinants that are not positive; matrices that are not orthogonal are not repaired either."""
    bad = NO_ROTATIONS[name].to(dtype)
    if name in ("mirror", "inversion", "zero"):
        with pytest.raises(ValueError, match="determinant"):
            Rotation.from_matrix(bad.double().numpy())
    if name == "one percent" and dtype == torch.bfloat16:
        return  # two units of rounding of bfloat16
    with pytest.raises(GroupElementError, match=r"R\[2\] is not a rotation of R\^3"):
        fn(torch.stack([torch.eye(3).to(dtype)] * 2 + [bad]))
    assert torch.equal(fn(torch.eye(3).to(dtype)), fn(torch.eye(3)).to(dtype))


def test_planar_angles_refuse_reflections():
    with pytest.raises(GroupElementError, match=r"R is not a rotation of R\^2"):
        rotation_angle(torch.diag(torch.tensor([1.0, -1.0])))


def test_rounded_rotations_are_read():
    """Four printed digits, or a thousand products in float32: the rotation is still clear."""
    R = torch.from_numpy(Rotation.random(50, random_state=0).as_matrix())
    rough = (R * 1e4).round() / 1e4
    expected = Rotation.from_matrix(rough.numpy()).as_rotvec()
    for g in (rough, rough.float()):
        assert np.abs(matrix_to_axis_angle(g).double().numpy() - expected).max() < 1e-3
    drifted = R[0].float()
    for _ in range(1000):
        drifted = drifted @ R[1].float()
    assert er.SO(3).log(drifted).shape == (3,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_quaternions_of_any_length(dtype):
    """Only ratios matter: the same matrix as roma's of the normalised quaternion, with its gradient over the length."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    expected = roma.unitquat_to_rotmat(quaternion_to_xyzw(q / q.norm(dim=-1, keepdim=True)))
    tol = 4 * torch.finfo(dtype).eps
    sizes = (1.0, 5e-26, 1e-37, 1e25, 1e37) if dtype == torch.float32 else (1.0, 5e-26, 1e-200, 1e-305, 1e200, 1e307)
    for size in sizes:
        scaled = (q * size).to(dtype).requires_grad_()
        found = quaternion_to_matrix(scaled)
        assert float((found.detach().double() - expected).abs().max()) < 4 * tol, size
        (slope,) = torch.autograd.grad(found[..., 0, 1].sum(), scaled)
        unit = q.clone().requires_grad_()
        (right,) = torch.autograd.grad(quaternion_to_matrix(unit)[..., 0, 1].sum(), unit)
        if 1e-30 < size < 1e30:
            assert float((slope.double() * size - right).abs().max()) < 1e-5 * float(right.abs().max())
    third = quaternion_to_matrix(torch.full((4,), 5e-26, dtype=dtype))
    turn = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=dtype)  # 120 degrees about the diagonal
    assert float((third - turn).abs().max()) < tol
    tiny = torch.tensor([torch.finfo(dtype).tiny / 8, 0.0, 0.0, 0.0], dtype=dtype)  # a denormal
    assert torch.equal(quaternion_to_matrix(tiny), torch.eye(3, dtype=dtype))
    assert torch.autograd.gradcheck(quaternion_to_matrix, q[:3].requires_grad_())


@pytest.mark.parametrize("bad", [[0.0] * 4, [nan, 0.0, 0.0, 1.0], [math.inf, 0.0, 0.0, 0.0]])
def test_what_is_no_quaternion_of_a_rotation(bad):
    with pytest.raises(GroupElementError, match=r"q\[1\] is not a quaternion"):
        quaternion_to_matrix(torch.tensor([[1.0, 0.0, 0.0, 0.0], bad]))


def test_transforms_still_follow_the_converters():
    R = torch.from_numpy(Rotation.random(5, random_state=1).as_matrix())
    for fn in (matrix_to_quaternion, matrix_to_axis_angle, rotation_angle):
        assert torch.allclose(torch.func.vmap(fn)(R), fn(R), atol=1e-15)
    q = matrix_to_quaternion(R)
    assert torch.allclose(torch.func.vmap(quaternion_to_matrix)(q), R, atol=1e-14)
    assert torch.allclose(torch.func.vmap(er.SO(3).log)(R), er.SO(3).log(R), atol=1e-15)


# --- boosts ----------------------------------------------------------------------------------------------------------
def boost(rapidity, direction):
    """The boost by cosh and sinh, float64."""
    n = torch.as_tensor(direction, dtype=torch.float64)
    n = n / n.norm()
    g = torch.eye(1 + len(n), dtype=torch.float64)
    g[0, 0] = math.cosh(rapidity)
    g[0, 1:] = g[1:, 0] = math.sinh(rapidity) * n
    g[1:, 1:] += (math.cosh(rapidity) - 1) * torch.outer(n, n)
    return g


@pytest.mark.parametrize("q", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rapidity", [0.0, 1e-6, 0.3, 2.0, 5.0, 9.0, 12.0, 20.0, 30.0])
def test_logarithms_of_boosts_to_the_last_digit(q, dtype, rapidity):
    if dtype == torch.float32 and rapidity > 12:
        with pytest.raises(GroupElementError):  # its transverse block is below the rounding of float32
            er.Lorentz(1, 3).log(boost(20.0, [3.0, -4.0, 12.0]).float())
        return
    direction = [3.0, -4.0, 12.0, 84.0][:q]
    group, g = er.Lorentz(1, q), boost(rapidity, direction).to(dtype)
    expected = rapidity * torch.tensor(direction, dtype=torch.float64) / torch.tensor(direction).norm()
    log = group.log(g)
    assert log.dtype == dtype
    assert float((log[:q].double() - expected).abs().max()) <= 4 * torch.finfo(dtype).eps * rapidity
    assert float(log[q:].abs().sum()) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_of_boosts_and_turns_about_one_axis(dtype):
    """A boost along an axis and a turn about it commute, so the logarithm is the sum."""
    group = er.Lorentz(1, 3)
    for rapidity in (0.1, 3.0, 7.0):
        a = torch.tensor([0.0, 0.0, rapidity, 0.0, 0.0, 1.2], dtype=torch.float64)
        turn = torch.eye(4, dtype=torch.float64)
        turn[1:, 1:] = torch.from_numpy(Rotation.from_rotvec([0, 0, 1.2]).as_matrix())
        log = group.log((boost(rapidity, [0, 0, 1.0]) @ turn).to(dtype))
        # What rounding of g hides, and what the matrix logarithm loses to e^r and e^-r in one float64 matrix.
        bound = torch.finfo(dtype).eps * math.cosh(rapidity) + torch.finfo(torch.float64).eps * math.cosh(rapidity) ** 2
        assert float((log.double() - a).abs().max()) < 8 * bound


def test_gradient_of_the_lorentz_logarithm():
    """At pure boosts, where the closed form gives the value, and elsewhere."""
    group = er.Lorentz(1, 3)
    a = torch.tensor([[0.2, -0.4, 0.3, 0.0, 0.0, 0.0], [0.5, 0.1, 0.0, 0.3, -0.2, 0.1], [0.0] * 6], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: group.log(group.exp(a)), a.requires_grad_())
    (jacobian,) = torch.autograd.functional.jacobian(lambda a: group.log(group.exp(a)), (a[0].detach(),))
    assert torch.allclose(jacobian, torch.eye(6, dtype=torch.float64), atol=1e-9)


def test_scalings_are_inverted_without_logarithms():
    g = torch.tensor([0.5, 4.0])[:, None, None] * torch.eye(3)
    assert torch.equal(er.Scaling(3).inverse(g), torch.tensor([2.0, 0.25])[:, None, None] * torch.eye(3))

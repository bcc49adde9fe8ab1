"""Harmonics computed by sphericart are those of our own recursion, to rounding, and can be switched off."""

import os
import subprocess
import sys

import pytest
import torch

from erlangen.irreps import MAX_DEGREE, _sphericart, spherical_harmonics, use_sphericart

pytest.importorskip("sphericart.torch")


def points(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def without():
    """A function called without sphericart."""

    def call(fn, *args):
        before = use_sphericart(False)
        try:
            return fn(*args)
        finally:
            use_sphericart(before)

    return call


# The bounds that the docstring of `spherical_harmonics` states, which both ways keep.
BOUNDS = [(torch.float64, MAX_DEGREE, 2e-13), (torch.float32, 6, 3e-6), (torch.float32, MAX_DEGREE, 2e-5)]


@pytest.mark.parametrize(("dtype", "lmax", "bound"), BOUNDS, ids=str)
@pytest.mark.parametrize("normalization", ["integral", "component", "norm"])
@pytest.mark.parametrize("normalize", [True, False])
def test_values_are_ours(dtype, lmax, bound, normalization, normalize, without):
    x = points(3000, dtype=dtype)
    x = x if normalize else x / x.norm(dim=-1, keepdim=True)
    args = (lmax, x, normalize, normalization)
    expected = without(spherical_harmonics, *args)
    found = spherical_harmonics(*args)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < 2 * bound


def test_shapes_of_a_batch_and_lists_of_degrees(without):
    for shape in ((), (0,), (4,), (2, 3), (2, 0, 5)):
        x = points(*shape)
        for degrees in (0, 3, [2], [3, 1]):
            found, expected = spherical_harmonics(degrees, x), without(spherical_harmonics, degrees, x)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("dtype", "tiny"), [(torch.float32, 1e-30), (torch.float64, 1e-200)])
def test_zero_vectors_and_extreme_lengths(dtype, tiny, without):
    x = points(8, dtype=dtype)
    unit = spherical_harmonics(4, x)
    for scale in (tiny, 1 / tiny):
        torch.testing.assert_close(spherical_harmonics(4, scale * x), unit, rtol=0, atol=50 * torch.finfo(dtype).eps)
    zero = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    values = spherical_harmonics(4, zero)
    assert bool((values[:, 1:] == 0).all())
    torch.testing.assert_close(values, without(spherical_harmonics, 4, zero), rtol=0, atol=torch.finfo(dtype).eps)
    assert torch.equal(torch.autograd.grad(values.sum(), zero)[0], torch.zeros_like(zero))


def test_gradients_of_first_and_second_order():
    x = points(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: spherical_harmonics(4, p), x)
    assert torch.autograd.gradgradcheck(lambda p: spherical_harmonics(4, p), x)


def test_forward_derivatives_and_vmap(without):
    x, t = points(6), points(6, seed=1)
    for fn in (
        lambda: torch.func.jvp(lambda p: spherical_harmonics(3, p), (x,), (t,))[1],
        lambda: torch.func.vmap(lambda p: spherical_harmonics(3, p))(x),
        lambda: torch.func.jacrev(lambda p: spherical_harmonics(3, p).sum(0))(x),
    ):
        torch.testing.assert_close(fn(), without(fn), rtol=0, atol=1e-12)


def test_it_is_used_unless_it_is_switched_off(without, monkeypatch):
    used = []
    evaluate = _sphericart.evaluate
    monkeypatch.setattr(_sphericart, "evaluate", lambda *args: used.append(True) or evaluate(*args))
    spherical_harmonics(2, points(3))
    assert used == [True]
    without(spherical_harmonics, 2, points(3))
    assert used == [True]


def test_the_environment_switches_it_off():
    code = (
        "import sys, torch; from erlangen.irreps import spherical_harmonics; spherical_harmonics(2, torch.ones(3)); "
        "print('sphericart' in sys.modules)"
    )
    for value, loaded in (("0", "False"), ("1", "True")):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "ERLANGEN_SPHERICART": value},
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.strip() == loaded

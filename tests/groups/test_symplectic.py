"""Sp(n): the form is kept, the algebra is that of quadratic Hamiltonians, Sp(1) is SL(2)."""

import pytest
import torch
from scipy.linalg import expm

from erlangen.errors import GroupError
from erlangen.groups import SL, Sp, group


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_laws(n: int, dtype: torch.dtype, generator: torch.Generator) -> None:
    G = group(f"Sp({n})")
    assert Sp(n) == G
    assert G.dim == n * (2 * n + 1)
    g = G.sample(20, generator=generator, dtype=dtype)
    assert bool(G.contains(g).all())
    assert not bool(G.contains(2 * g).any())
    eye = torch.eye(2 * n, dtype=dtype)
    atol = 1e-12 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(
        G.compose(g, G.inverse(g)), eye.expand_as(g), rtol=0, atol=atol * float(g.abs().max()) ** 2
    )
    if n == 1:
        assert bool(SL(2).contains(g).all())


def test_exp_is_the_hamiltonian_flow(generator: torch.Generator) -> None:
    """The oscillator H = (q^2 + p^2) / 2 turns the plane; scipy agrees on a random Hamiltonian."""
    G = Sp(1)
    quarter = G.exp(torch.tensor([torch.pi / 2, torch.pi / 2, 0.0], dtype=torch.float64))
    torch.testing.assert_close(quarter, torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64))
    a = torch.randn(10, generator=generator, dtype=torch.float64) / 2
    expected = expm(Sp(2).hat(a).numpy())
    torch.testing.assert_close(Sp(2).exp(a), torch.from_numpy(expected))
    torch.testing.assert_close(Sp(2).log(Sp(2).exp(a / 4)), a / 4)


def test_no_haar_density() -> None:
    with pytest.raises(GroupError, match="no tractable Haar density"):
        Sp(1).log_haar_weight(torch.eye(2))
    with pytest.raises(GroupError, match="integer dimension of at least 1"):
        Sp(0)

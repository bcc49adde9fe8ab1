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


def test_weight_of_sp1_is_that_of_sl2(generator: torch.Generator) -> None:
    """Both sample exp(X) R with the same law for X and R, so the weights agree up to a constant."""
    g = Sp(1).sample(50, generator=generator, dtype=torch.float64)
    difference = Sp(1).log_haar_weight(g) - SL(2).log_haar_weight(g)
    torch.testing.assert_close(difference, difference[:1].expand(50), rtol=0, atol=1e-9)


def test_weighted_averages_do_not_change_under_left_translation(generator: torch.Generator) -> None:
    """Integrals of a Gaussian in g over Haar measure, before and after g -> h g, agree within sampling error."""
    G = Sp(2, scale=0.6)
    g = G.sample(200_000, generator=generator, dtype=torch.float64)
    weight = G.log_haar_weight(g).exp()
    h = Sp(2, scale=0.2).sample(generator=generator, dtype=torch.float64)[0]
    values = [(-2 * x.square().sum((-2, -1))).exp() * weight for x in (g, h @ g)]
    means = torch.stack([v.mean() for v in values])
    errors = torch.stack([v.std() for v in values]) / 200_000**0.5
    assert bool((errors < 0.03 * means).all())
    assert float((means[0] - means[1]).abs()) < 4 * float(errors.norm())


def test_bad_input() -> None:
    with pytest.raises(GroupError, match="integer dimension of at least 1"):
        Sp(0)

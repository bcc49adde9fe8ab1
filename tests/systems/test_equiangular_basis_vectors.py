"""Equiangular basis vectors: bases, the generation of the paper, the head, and bad input."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from erlangen.errors import (
    CollapseWarning,
    DataError,
    DtypeError,
    ErlangenError,
    NotConvergedWarning,
    NotFiniteError,
    ShapeError,
)
from erlangen.geometry import coherence, orthogonal_frame, paley_etf, simplex_etf, spread_vectors, welch_bound
from erlangen.systems.learning.equiangular_basis_vectors import (
    EquiangularHead,
    coherence_loss,
    equiangular_basis,
    extend_basis,
    generate_basis,
)
from erlangen.systems.learning.equiangular_basis_vectors.experiment import BUDGETS, heads
from erlangen.systems.learning.equiangular_basis_vectors.rivals import CosineHead


def layer() -> tuple[nn.Module, Tensor, dict[str, Any]]:
    return (
        EquiangularHead(simplex_etf(4, 5, dtype=torch.float32)),
        torch.randn(6, 5, generator=Generator().manual_seed(0)),
        {},
    )


LAYERS = {"EquiangularHead": layer}


# --- bases -----------------------------------------------------------------------------------------------------------
def test_the_exact_construction_is_taken_where_there_is_one() -> None:
    G = equiangular_basis(6, 6, generator=Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(G @ G.mT, torch.eye(6, dtype=torch.float64))
    assert torch.equal(equiangular_basis(6, 5, dtype=torch.float64), simplex_etf(6))
    assert torch.equal(equiangular_basis(10, 5, dtype=torch.float64), paley_etf(5))
    assert equiangular_basis(1, 3).shape == (1, 3)
    assert equiangular_basis(3, 3, dtype=torch.float16).dtype == torch.float16


def test_signed_keeps_directions_apart() -> None:
    W = equiangular_basis(4, 6, signed=True, dtype=torch.float64)
    off = (W @ W.mT)[~torch.eye(4, dtype=torch.bool)]
    torch.testing.assert_close(off, torch.full_like(off, -1 / 3))
    both = equiangular_basis(6, 3, signed=True, dtype=torch.float64, steps=800, generator=Generator().manual_seed(0))
    assert float(coherence(both, signed=True)) == pytest.approx(
        0, abs=0.02
    )  # the octahedron; its lines coincide in pairs


def test_alpha_is_kept_or_refused() -> None:
    W = equiangular_basis(30, 16, alpha=0.22, generator=Generator().manual_seed(0), dtype=torch.float64)
    assert welch_bound(30, 16) <= float(coherence(W)) <= 0.22 + 1e-6
    with pytest.raises(ErlangenError, match="the vectors found have"):
        equiangular_basis(30, 16, alpha=0.18, steps=1)
    with pytest.raises(ErlangenError, match=r"at least 0.1737 \(Welch bound\); alpha takes dim = 24 at least"):
        equiangular_basis(30, 16, alpha=0.1)
    assert welch_bound(30, 24) <= 0.1 < welch_bound(30, 23)


def test_the_papers_generation_descends_and_projects() -> None:
    """Each ordered pair beyond the threshold pulls by the other vector."""
    W, steps = generate_basis(30, 16, 0.25, generator=Generator().manual_seed(42), steps=3000)
    assert 0 < steps < 3000
    assert float(coherence(W.double())) <= 0.25 + 1e-4 + 1e-6
    torch.testing.assert_close(W.norm(dim=-1), torch.ones(30))
    lines = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(coherence_loss(lines, 0.5), lines)
    torch.testing.assert_close(slope, 2 * lines.detach().flip(0))
    assert float(coherence_loss(lines.detach(), 0.5)) == pytest.approx(0.6)


def test_half_precision_is_generated_in_double() -> None:
    half, steps = generate_basis(30, 16, 0.25, generator=Generator().manual_seed(0), steps=3000, dtype=torch.float16)
    double, same = generate_basis(30, 16, 0.25, generator=Generator().manual_seed(0), steps=3000, dtype=torch.float64)
    assert steps == same < 3000
    assert torch.equal(half, double.half())


def test_it_says_when_its_steps_are_spent() -> None:
    with pytest.warns(NotConvergedWarning, match="after 2 steps"):
        _, steps = generate_basis(30, 16, 0.18, steps=2, generator=Generator().manual_seed(0))
    assert steps == 2
    orthonormal, none = generate_basis(1, 4, 0.0)
    assert none == 0
    assert orthonormal.shape == (1, 4)


def test_gradients_of_the_coherence_loss() -> None:
    W = torch.nn.functional.normalize(
        torch.randn(6, 3, generator=Generator().manual_seed(1), dtype=torch.float64), dim=-1
    )
    assert torch.autograd.gradcheck(lambda W: coherence_loss(W, 0.31), (W.requires_grad_(),))
    assert float(coherence_loss(W, 0.31).detach()) > 0
    assert float(coherence_loss(torch.eye(3), 0.0)) == 0


def test_classes_are_added_without_touching_old_ones() -> None:
    generator = Generator().manual_seed(0)
    old = equiangular_basis(20, 8, steps=100, generator=generator)
    new = extend_basis(old, 5, steps=100, generator=generator)
    assert new.shape == (25, 8)
    assert torch.equal(new[:20], old)
    x = torch.randn(50, 8, generator=generator)
    torch.testing.assert_close(EquiangularHead(new)(x)[:, :20], EquiangularHead(old)(x))


# --- the head --------------------------------------------------------------------------------------------------------
def test_answers_are_angles() -> None:
    head = EquiangularHead(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.6, -0.8]]), 0.5)
    x = torch.tensor([[2.0, 2.0], [-3.0, 0.0]])
    expected = torch.tensor([[0.5**0.5, 0.5**0.5, -1.4 * 0.5**0.5], [-1.0, 0.0, 0.6]])
    torch.testing.assert_close(head.cosines(x), expected)
    torch.testing.assert_close(head(x), 2 * expected)
    assert head.predict(x[1:]).tolist() == [2]  # a signed cosine: -w is not w


def test_the_least_cross_entropy_of_the_paper_temperature() -> None:
    head = EquiangularHead(torch.eye(10, dtype=torch.float64))
    y = torch.arange(10)
    assert float(cross_entropy(head(torch.eye(10).double()), y)) == pytest.approx(
        math.log1p(9 * math.exp(-1 / 0.07)), rel=1e-9
    )
    x = torch.eye(10, dtype=torch.float64).requires_grad_()
    for _ in range(2000):
        (slope,) = torch.autograd.grad(head.loss(x, y, label_smoothing=0.0) * 1e5, x)
        x = (x - slope / (1 + slope.norm())).detach().requires_grad_()
    reached = float(head.loss(x, y, label_smoothing=0.0).detach())
    least = math.log1p(9 * math.exp(-math.sqrt(10 / 9) / 0.07))
    assert least * (1 - 1e-9) <= reached < least * 1.01


def test_half_precision_is_raised_to_single() -> None:
    head = EquiangularHead(equiangular_basis(8, 4, dtype=torch.float16, steps=20, generator=Generator().manual_seed(0)))
    x = torch.randn(3, 4)
    assert head(x.half()).dtype == torch.float32
    torch.testing.assert_close(head(x), head.cosines(x) / 0.07)


def test_targets_of_mixed_pictures_have_a_share_for_every_class() -> None:
    head, x = EquiangularHead(simplex_etf(5, 7, dtype=torch.float32)), torch.randn(4, 7)
    y = torch.tensor([0, 1, 4, 2])
    shares = one_hot(y, 5).float()
    torch.testing.assert_close(head.loss(x, shares), head.loss(x, y))
    torch.testing.assert_close(
        head.loss(x, 0.3 * shares + 0.7 * shares.flip(0)), 0.3 * head.loss(x, y) + 0.7 * head.loss(x, y.flip(0))
    )


def test_nothing_of_the_head_is_trained_and_the_state_is_kept() -> None:
    W = spread_vectors(9, 4, steps=5, dtype=torch.float32)
    head, other = EquiangularHead(W), EquiangularHead(spread_vectors(9, 4, steps=0, dtype=torch.float32))
    assert not list(head.parameters())
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.basis, W)
    assert EquiangularHead(3 * W, normalise=True).basis.norm(dim=-1).allclose(torch.ones(9))


def test_a_zero_feature_is_undecided_and_says_so() -> None:
    head, x = EquiangularHead(torch.eye(3)), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    with pytest.warns(CollapseWarning, match=r"features\[1\] is zero"):
        logits = head(x)
    assert logits[1].tolist() == [0, 0, 0]
    (slope,) = torch.autograd.grad(logits.sum(), x)
    assert bool(slope.isfinite().all())


# --- rivals ----------------------------------------------------------------------------------------------------------
def test_heads_of_one_width_have_the_same_network() -> None:
    made = heads(12, (4, 6), 4)
    sizes = {name: sum(p.numel() for p in make().parameters()) for name, make in made.items()}
    assert sizes["EBV, d = K"] == sizes["FC"] == sizes["one-hot, d = K"]
    assert (
        sizes["EBV, d = 6"]
        == sizes["random, d = 6"]
        == sizes["cosine, d = 6"] - 12 * 6 - 1
        == sizes["FC, d = 6"] - 12 * 7
    )
    assert all(make().eval()(torch.randn(2, 1, 24, 24)).shape == (2, 12) for make in made.values())
    torch.manual_seed(3)
    first = made["random, d = 4"]().head.basis
    torch.manual_seed(4)
    assert not torch.equal(made["random, d = 4"]().head.basis, first)


def test_a_cosine_head_with_a_fixed_basis_is_an_equiangular_one() -> None:
    W = simplex_etf(6, 5, dtype=torch.float32)
    cosine = CosineHead(6, 5)
    with torch.no_grad():
        cosine.weight.copy_(2 * W)
    x = torch.randn(7, 5)
    torch.testing.assert_close(cosine(x), EquiangularHead(W)(x))


def test_the_task_has_many_classes() -> None:
    full = BUDGETS["full"]
    assert full.classes >= 500
    assert full.pictures.train % full.classes == full.pictures.test % full.classes == 0


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: equiangular_basis(0, 3), ErlangenError, "n_classes = 0"),
        (lambda: equiangular_basis(3, 0), ErlangenError, "dim = 0"),
        (lambda: generate_basis(30, 16, 0.1), ErlangenError, "threshold = 0.1: 30 lines in 16 dimensions"),
        (lambda: equiangular_basis(3, 1, alpha=0.5), ErlangenError, "takes dim = "),
        (lambda: extend_basis(torch.eye(3), 0), ErlangenError, "more = 0"),
        (lambda: EquiangularHead(torch.ones(2, 3)), ErlangenError, r"basis\[0\] has length 1.73205, not 1; pass normalise=True"),
        (lambda: EquiangularHead(torch.zeros(2, 3), normalise=True), ErlangenError, r"basis\[0\] has length 0 and no direction"),
        (lambda: EquiangularHead(torch.full((2, 3), math.nan)), NotFiniteError, "basis"),
        (lambda: EquiangularHead(torch.eye(3).long()), DtypeError, "basis has dtype"),
        (lambda: equiangular_basis(3, 4, alpha=math.nan), ErlangenError, "alpha = nan: give the largest"),
        (lambda: equiangular_basis(3, 4, alpha=-0.1), ErlangenError, r"alpha = -0.1: give the largest \|cosine\|, from 0 to 1"),
        (lambda: equiangular_basis(3, 4, alpha=math.nan, signed=True), ErlangenError, "from -1 to 1"),
        (lambda: equiangular_basis(3, 4, alpha=-0.6, signed=True), ErlangenError, "cosine of at least -0.5000"),
        (lambda: equiangular_basis(6, 3, alpha=-0.1, signed=True), ErlangenError, "cosine of at least 0.0000"),
        (lambda: generate_basis(4, 3, math.inf), ErlangenError, "threshold = inf"),
        (lambda: generate_basis(4, 3, 0.9, lr=math.nan), ErlangenError, "lr = nan"),
        (lambda: coherence_loss(torch.ones(3), 0.1), ShapeError, "W has shape"),
        (lambda: coherence_loss(torch.eye(3), 0.1, slice_rows=0), ErlangenError, "slice_rows = 0"),
        (lambda: extend_basis(torch.ones(3), 1), ShapeError, "basis has shape"),
        (lambda: EquiangularHead(torch.eye(2)).loss(torch.ones(1, 2), torch.tensor([[1.5, -0.5]])), DataError, "or are negative"),
        (lambda: EquiangularHead(torch.eye(2)).loss(torch.ones(1, 2), torch.full((1, 2), math.nan)), DataError, "do not sum"),
        (lambda: EquiangularHead(torch.eye(3)[0]), ShapeError, "basis has shape"),
        (lambda: EquiangularHead(torch.eye(3), 0.0), ErlangenError, "temperature = 0.0"),
        (lambda: EquiangularHead(torch.eye(3), math.nan), ErlangenError, "temperature = nan"),
        (lambda: EquiangularHead(torch.eye(3))(torch.ones(2, 4)), ShapeError, "features has shape"),
        (lambda: EquiangularHead(torch.eye(3)).loss(torch.ones(2, 3), torch.tensor([0, 3])), DataError, r"target\[1\] = 3"),
        (lambda: EquiangularHead(torch.eye(3)).loss(torch.ones(2, 3), torch.tensor([-1, 0])), DataError, r"target\[0\] = -1"),
        (lambda: EquiangularHead(torch.eye(3)).loss(torch.ones(1, 3), torch.full((1, 3), 0.5)), DataError, "do not sum to 1"),
        (
            lambda: EquiangularHead(orthogonal_frame(2, 3)).loss(torch.ones(1, 3), torch.full((1, 3), 1 / 3)),
            DataError,
            "shares are of 2 classes",
        ),
    ],
)  # fmt: skip
def test_bad_input(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call()

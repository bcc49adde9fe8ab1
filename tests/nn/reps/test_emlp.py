"""EMLP: the layer contract for groups of every kind, the allocation rule, and learning from few samples."""

import pytest
import torch
from torch import Tensor, nn

from erlangen.errors import RepresentationError, ShapeError
from erlangen.groups import SL, SO, Dihedral, DirectProduct, Group, Lorentz, O, Scaling, Shifts, Sp, Symmetric
from erlangen.nn.reps.emlp import EMLP, hidden_rep
from erlangen.reps import Irreps, PermutationTensor, Regular, Rep, Scalar, T, V
from erlangen.testing import check_layer


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLANGEN_CACHE", "off")


S, R = Symmetric(3), O(3)
SR = DirectProduct(S, R)
NODES, ARROWS = V(S).inflate(SR, 0), V(R).inflate(SR, 1)
POINTS = NODES @ ARROWS

COMPACT: list[tuple[Rep, Rep, int | Rep]] = [
    (2 * V(O(5)), Scalar(O(5)), 90),
    (2 * V(R) + Scalar(R), T(2)(R) + V(R), 50),
    (Irreps("2x1o+0e")(SO(3)), Irreps("1o+2e")(SO(3)), Irreps("6x0e+3x1o+2x2e")(SO(3))),
    (V(Dihedral(4)) + Scalar(Dihedral(4)), Regular(Dihedral(4)), 30),
    (T(2)(Symmetric(4)), V(Symmetric(4)), 60),
    (Regular(Shifts(2, 3)), Scalar(Shifts(2, 3)), 2 * Regular(Shifts(2, 3))),
    (POINTS, ARROWS + Scalar(SR), 6 * Scalar(SR) + 2 * POINTS + 2 * ARROWS + 2 * NODES),
]


@pytest.mark.parametrize(("rep_in", "rep_out", "hidden"), COMPACT, ids=repr)
def test_layer_contract(rep_in: Rep, rep_out: Rep, hidden: int | Rep, generator: torch.Generator) -> None:
    model = EMLP(rep_in, rep_out, hidden=hidden, layers=2, generator=generator)
    x = torch.randn(3, rep_in.size, generator=generator)
    check_layer(model, x, skip=["compile"])  # below, as tracing takes seconds
    check_layer(model.double(), x.double(), skip=["dtype", "compile"])


def test_compiles(generator: torch.Generator) -> None:
    torch._dynamo.reset()
    rep = V(R) + Scalar(R)
    model = EMLP(rep, rep, hidden=4 * Scalar(R) + 2 * V(R), layers=1, generator=generator)
    assert check_layer(model, torch.randn(3, 4, generator=generator))


@pytest.mark.parametrize("group", [Lorentz(1, 3), SL(2), Sp(2), Scaling(2)], ids=repr)
def test_layer_contract_of_groups_that_are_not_compact(group: Group, generator: torch.Generator) -> None:
    """Two blocks with products: degree four in matrices of norm up to about ten."""
    model = EMLP(3 * V(group) + Scalar(group), V(group) + Scalar(group), hidden=40, layers=2, generator=generator)
    x = torch.randn(3, model.rep_in.size, generator=generator, dtype=torch.float64)
    check_layer(model.double(), x, tol=1e-8, skip=["compile"])


def test_representations_may_be_named_and_bound_to_a_group(generator: torch.Generator) -> None:
    model = EMLP(T(1), Irreps("2e"), SO(3), hidden=Irreps("4x0e+2x1o+2e"), layers=1, generator=generator)
    assert (model.rep_in, model.rep_out) == (V(SO(3)), Irreps("2e")(SO(3)))
    assert repr(model.symmetry) == "Symmetry(SO(3): V -> l=2)"
    graph = EMLP(PermutationTensor(2), PermutationTensor(1), Symmetric(5), hidden=40)
    assert graph(torch.ones(2, 25)).shape == (2, 5)


def test_one_seed_one_network() -> None:
    first, second = (EMLP(V(R), V(R), hidden=20, layers=1, generator=torch.Generator().manual_seed(5)) for _ in "ab")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_products_are_left_out_where_coordinates_are_permuted() -> None:
    model = EMLP(V(Symmetric(4)), V(Symmetric(4)), hidden=30)
    assert all(block.product is None for block in model.blocks)
    forced = EMLP(V(Symmetric(4)), V(Symmetric(4)), hidden=30, bilinear=True)
    assert all(block.product is not None for block in forced.blocks)
    assert all(block.product is not None for block in EMLP(V(R), V(R), hidden=30).blocks)


# --- the allocation rule ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("group", "width", "text"),
    [
        (O(3), 60, "24*Scalar + 6*V + 2*V@V of O(3)"),
        (O(5), 60, "30*Scalar + 6*V of O(5)"),  # 25 do not fit into 20
        (O(5), 9, "9*Scalar of O(5)"),
        (Lorentz(1, 3), 240, "80*Scalar + 10*V + 10*V.dual + 2*V@V.dual + 2*V@V + V.dual@V.dual of Lorentz(1,3)"),
        (Symmetric(4), 60, "24*Scalar + 5*V + V@V of Symmetric(4)"),
    ],
)
def test_ranks_share_the_width(group: Group, width: int, text: str) -> None:
    rep = hidden_rep(group, width)
    assert repr(rep) == text
    assert rep.size == width


def test_finite_groups_without_vectors_get_their_regular_representation() -> None:
    class Bare(Shifts):
        """Shifts that are not said to act on anything."""

        def __init__(self) -> None:
            super().__init__(2, 3)
            self.space_dim = 0

    assert repr(hidden_rep(Bare(), 20)) == f"2*Scalar + 3*Regular of {Bare().name}"
    assert repr(hidden_rep(Bare(), 2)) == f"Regular of {Bare().name}"


# --- learning --------------------------------------------------------------------------------------------------------
def invariant_target(x: Tensor) -> Tensor:
    """``sin|a| - |b|^3 / 2 + a.b / (|a| |b|)`` of two vectors in R^5 (Finzi, Welling and Wilson 2021, section 8.1)."""
    a, b = x[:, :5], x[:, 5:]
    p, q = a.norm(dim=-1), b.norm(dim=-1)
    return p.sin() - q**3 / 2 + (a * b).sum(-1) / (p * q)


def error_after_training(model: nn.Module, x: Tensor, y: Tensor, samples: int) -> float:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 250)
    for _ in range(250):
        optimizer.zero_grad()
        (model(x[:samples])[:, 0] - y[:samples]).square().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float((model(x[samples:])[:, 0] - y[samples:]).square().mean())


def test_few_samples_of_an_invariant_function() -> None:
    """100 samples, equal steps, and no fewer parameters for the plain network."""
    x = torch.randn(1100, 10, generator=torch.Generator().manual_seed(0))
    y = invariant_target(x)
    y = (y - y[:100].mean()) / y[:100].std()
    exact = EMLP(2 * T(1)(O(5)), Scalar, O(5), hidden=40, layers=2)
    plain = nn.Sequential(nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    parameters = [sum(p.numel() for p in model.parameters()) for model in (exact, plain)]
    assert parameters[0] < parameters[1]
    errors = [error_after_training(model, x, y, 100) for model in (exact, plain)]
    assert errors[0] < 0.02  # of the variance of the target
    assert errors[0] < errors[1] / 8
    turned = O(5).sample(1, generator=torch.Generator().manual_seed(1))
    moved = exact.rep_in.apply(turned.expand(1100, 5, 5), x)
    torch.testing.assert_close(exact(moved), exact(x), rtol=1e-4, atol=1e-4)


# --- errors ----------------------------------------------------------------------------------------------------------
def test_bad_input() -> None:
    with pytest.raises(RepresentationError, match=r"rep_in is T\(p=1, q=0\); give a representation"):
        EMLP(T(1), T(0))
    with pytest.raises(RepresentationError, match=r"rep_out is Scalar of SO\(3\), but the network is for O\(3\)"):
        EMLP(V(R), Scalar(SO(3)))
    with pytest.raises(RepresentationError, match=r"rep_in is V of O\(3\), but the network is for SO\(3\)"):
        EMLP(V(R), Scalar(R), SO(3))
    with pytest.raises(RepresentationError, match="hidden is 'wide'"):
        EMLP(V(R), Scalar(R), hidden="wide")  # pyright: ignore[reportArgumentType]
    for hidden in (0, -3, True):
        with pytest.raises(RepresentationError, match=f"hidden = {hidden}"):
            EMLP(V(R), Scalar(R), hidden=hidden)
    for layers in (0, 1.5):
        with pytest.raises(RepresentationError, match=f"layers = {layers}"):
            EMLP(V(R), Scalar(R), layers=layers)  # pyright: ignore[reportArgumentType]
    with pytest.raises(RepresentationError, match="no linear map but zero goes from"):
        EMLP(V(R), Irreps("0o")(R), hidden=20)
    with pytest.raises(RepresentationError, match=r"entries, more than 10,000; leave it out with max_factors=3"):
        EMLP(V(O(11)), Scalar(O(11)), hidden=400)
    with pytest.raises(ShapeError, match=r"x has shape \(2, 4\), but V has vectors"):
        EMLP(V(R), Scalar(R), hidden=20, layers=1)(torch.ones(2, 4))

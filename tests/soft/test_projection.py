"""The projection form of er.relax: projections, strengths, limits; and er.discover on data."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import erlangen as er
from erlangen.errors import DataError, ErlangenError, ModelError, RepresentationError, SymmetryError, UnknownNameError
from erlangen.nn import BilinearLayer, Gate, gated
from erlangen.reps import Regular, Scalar, T, V, equivariant_projector, hom_basis
from erlangen.soft import _distances
from erlangen.soft.projection import adjusted

G = er.O(3)
ABOUT = [er.Stabilizer(G, torch.eye(3)[axis]) for axis in range(3)]
VECTORS = er.Symmetry(G, input="vectors", output="vectors")


def candidates(*groups, output="vectors"):
    return [er.Symmetry(group, input="vectors", output=output) for group in groups]


def relaxed(model, groups, reps, **options):
    return er.relax(model, candidates(*groups), method="projection", representations=reps, **options)


def network(dtype=torch.float64):
    """V -> 2 S + 2 V -> V: dense maps, products and gates of O(3) between them."""
    torch.manual_seed(0)
    hidden = 2 * Scalar(G) + 2 * V(G)
    inner = gated(hidden)
    parts = nn.Linear(3, inner.size), BilinearLayer(inner, inner), Gate(hidden), nn.Linear(hidden.size, 3)
    return nn.Sequential(*parts).to(dtype), [T(1), hidden, T(1)]


# --- projections -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("group", "rank"), [(er.SO(3), 1), (ABOUT[2], 2), (er.Stabilizer(er.SO(3), [0.0, 0, 1]), 3)])
def test_projector_has_the_rank_of_the_character_formula(group, rank):
    P = equivariant_projector(V(group) >> V(group))
    torch.testing.assert_close(P @ P, P, rtol=0, atol=1e-12)
    torch.testing.assert_close(P, P.mT, rtol=0, atol=1e-12)
    assert round(float(P.trace())) == rank


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("copies", [1, 20])
def test_projection_is_the_average_over_a_finite_group(dtype, copies, generator):
    """Reynolds; with 20 copies the weight is too large for a dense projector and goes block by block."""
    group, n = er.Octahedral(), 3 * copies
    layer = nn.Linear(n, n, bias=False, dtype=dtype)
    W = torch.randn(n, n, generator=generator, dtype=dtype)
    layer.weight.data = W.clone()
    moves = er.actions.Custom((copies * V(group)).apply)
    symmetry = er.Symmetry(group, input=moves, output=moves)
    penalty = er.relax(layer, [symmetry], method="projection", representations=[lambda g: copies * V(g)] * 2)
    penalty.project()
    rho = (copies * V(group)).rho(group.elements(), dtype=torch.float64)
    average = (rho.mT @ W.double() @ rho).mean(0)
    tol = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(layer.weight.detach().double(), average, rtol=0, atol=tol)
    assert float(penalty().detach()) < tol


def test_gradient_is_what_is_not_equivariant(generator):
    layer = nn.Linear(3, 3, dtype=torch.float64)
    W = layer.weight.detach().clone()
    relaxed(layer, [er.SO(3)], [T(1), T(1)], strengths=2.0)().backward()
    torch.testing.assert_close(layer.weight.grad, 2 * (W - W.trace() / 3 * torch.eye(3)))
    torch.testing.assert_close(layer.bias.grad, 2 * layer.bias.detach())  # no vector is invariant


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_penalty_is_the_sum_over_layers_and_symmetries(dtype, tol):
    """Against projections by dense matrices, one layer and one symmetry after the other, and their gradients."""
    model, reps = network(dtype)
    strengths = [0.5, 0.0, 3.0]
    penalty = relaxed(model, [G, *ABOUT[:2]], reps, strengths=strengths)
    hidden = gated(reps[1])
    total = torch.zeros((), dtype=torch.float64)
    weights = [(layer, layer.weight.detach().double(), layer.bias.detach().double()) for layer in (model[0], model[3])]
    gradients = {id(layer): torch.zeros_like(W) for layer, W, _ in weights}
    for c, group in zip(strengths, [G, *ABOUT[:2]], strict=True):
        for (layer, W, b), a, z in zip(weights, (V(G), reps[1]), (hidden, V(G)), strict=True):
            a, z = a.restrict(group), z.restrict(group)
            far = W.flatten() - equivariant_projector(a >> z) @ W.flatten()
            shift = b - equivariant_projector(Scalar(group) >> z) @ b
            total = total + 0.5 * c * (far.square().sum() + shift.square().sum())
            gradients[id(layer)] += c * far.view_as(W)
    value = penalty()
    value.backward()
    torch.testing.assert_close(value.detach().double(), total, rtol=tol, atol=tol)
    for layer, _, _ in weights:
        torch.testing.assert_close(layer.weight.grad.double(), gradients[id(layer)], rtol=tol, atol=tol)
    penalty.strengths.copy_(torch.tensor([0.0, 1.0, 0.0]))  # the next call looks at the new ones
    torch.testing.assert_close(penalty().detach(), penalty.violations()[1].detach())


def test_large_pairs_of_summands_go_without_a_root(generator):
    """`Regular` of the rotations of a cube, 24 x 24: the pair has 576 entries; with the limit below, bases are used."""
    group = er.Octahedral()
    rep = Regular(group)
    W = torch.randn(rep.size, rep.size, generator=generator, dtype=torch.float64, requires_grad=True)
    space = hom_basis(rep >> rep)
    values = []
    for large in (10, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_distances, "LARGE", large)
            value = _distances.Distances([[space], [space]], [1.0, 2.0], W)([W])
        values.append((value.detach(), *torch.autograd.grad(value, W)))
    far = W.detach() - space.project(W.detach())
    for value, gradient in values:
        torch.testing.assert_close(value, 1.5 * far.square().sum())
        torch.testing.assert_close(gradient, 3 * far)


def test_violations_nest():
    model, reps = network()
    penalty = relaxed(model, [G, *ABOUT], reps)
    r = penalty.violations()
    assert bool((r[1:] < r[0]).all())
    penalty.project(0)
    assert float(penalty.violations().detach().max()) < 1e-24


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_zero_violation_is_an_exact_symmetry(dtype, tol, generator):
    model, reps = network(dtype)
    x = torch.randn(20, 3, generator=generator, dtype=dtype)
    symmetry = candidates(ABOUT[2])[0]
    assert float(er.equivariance_error(model, symmetry, x, reduce="max")) > 0.1
    relaxed(model, [G, ABOUT[2]], reps).project(1)
    assert float(er.equivariance_error(model, symmetry, x, elements=100, reduce="max")) < tol
    assert float(er.equivariance_error(model, VECTORS, x, reduce="max")) > 1e-3  # and not of all of O(3)


# --- strengths -------------------------------------------------------------------------------------------------------
def test_adjustment_by_hand():
    c, r = torch.tensor([0.0, 100.0, 100.0, 10.0]), torch.tensor([1e-3, 0.2, 0.4, 1.0])
    torch.testing.assert_close(adjusted(c, r, 2.0)[1:], torch.tensor([100.0, 25.0, 0.4]))
    assert float(adjusted(c, r, 2.0)[0]) == 0
    torch.testing.assert_close(adjusted(torch.ones(2), torch.zeros(2), 5.0), torch.ones(2))  # 0 / 0 counts as equal


def trajectory(strengths):
    model, reps = network()
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = x + torch.tensor([0.0, 0.0, 1.0])
    penalty = None if strengths is None else relaxed(model, [G, ABOUT[2]], reps, strengths=strengths)
    if strengths == [1e6, 0.0]:
        penalty.project(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
    for _ in range(5):
        loss = F.mse_loss(model(x), y)
        if penalty is not None:
            loss = loss + (penalty() if strengths == [1e6, 0.0] else 0 * penalty())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, penalty


def test_limits_of_the_strength():
    """Without weight the network is the plain one, bit by bit; with a large one it stays exact although data break it."""
    plain, weightless = (trajectory(s)[0] for s in (None, [1.0, 1.0]))
    for a, b in zip(plain.parameters(), weightless.parameters(), strict=True):
        assert torch.equal(a, b)
    stiff, penalty = trajectory([1e6, 0.0])
    assert float(penalty.violations()[0].detach()) < 1e-12
    assert not torch.equal(stiff[3].weight, plain[3].weight)


def test_training_finds_the_axis_that_the_data_keep():
    """A stretch along z leaves O(2) about z; the schedule keeps its strength and lowers the others'."""
    x = torch.randn(256, 3, generator=torch.Generator().manual_seed(0))
    y = x * torch.tensor([1.0, 1.0, 1.5])
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    penalty = relaxed(model, ABOUT, [T(1), T(1)], strengths=0.1)

    def loss(answer, target):
        return F.mse_loss(answer, target) + penalty()

    schedule = penalty.schedule(60, 90)
    result = er.fit(model, x, y, loss=loss, epochs=90, batch_size=64, lr=1e-2, callbacks=[schedule], progress=False)
    about_x, about_y, about_z = penalty.strengths.tolist()
    assert about_z == pytest.approx(0.1)
    assert about_z > 10 * max(about_x, about_y)
    assert result.history[59]["strength_0"] < result.history[58]["strength_0"]
    assert "strengths" in penalty.state_dict()
    assert list(penalty.parameters()) == []


# --- data ------------------------------------------------------------------------------------------------------------
def test_discover_tells_which_symmetry_data_break():
    x = torch.randn(600, 3, generator=torch.Generator().manual_seed(0))
    groups = candidates(er.SO(3), er.Stabilizer(er.SO(3), [0.0, 0, 1]), output="invariant")
    symmetric = er.discover(data=(x, x.norm(dim=1, keepdim=True)), candidates=groups)
    assert [f.holds for f in symmetric] == [True, True]
    broken = er.discover(data=(x, x.norm(dim=1, keepdim=True) + 0.3 * x[:, 2:]), candidates=groups)
    assert [(f.symmetry.group.name, f.holds) for f in broken][1] == ("SO(3)", False)
    assert broken[0].holds
    assert broken[1].interval[0] > 0
    for f in (*symmetric, *broken):
        assert f.interval[0] <= f.cost <= f.interval[1]
        assert f.cost == pytest.approx(f.error - f.baseline)


def test_discover_rejects_what_holds_no_more_often_than_it_says():
    """Heavy-tailed errors of few samples: 30 data sets, one in forty of them by chance."""
    groups = candidates(er.SO(3), output="invariant")
    rejected, seen = 0, 0
    for seed in range(30):
        x = torch.randn(80, 3, generator=torch.Generator().manual_seed(seed))
        radius = x.norm(dim=1, keepdim=True)
        rejected += not er.discover(data=(x, radius.exp()), candidates=groups, seed=seed)[0].holds
        seen += not er.discover(data=(x, radius + x[:, 2:]), candidates=groups, seed=seed)[0].holds
    assert rejected <= 3  # more have a chance of 1 in 150
    assert seen >= 28


def test_discover_on_moved_targets_labels_and_trees():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    both = candidates(G, ABOUT[2])
    found = er.discover(data=(x, x * torch.tensor([1.0, 1.0, 2.0])), candidates=both)
    assert [(f.symmetry.group == G, f.holds) for f in found] == [(False, True), (True, False)]
    labels = [er.Symmetry(g, input={"a": "vectors"}, output="invariant") for g in (G, ABOUT[2])]
    found = er.discover(data=({"a": x}, (x[:, 2] > 0).long() + 3), candidates=labels)
    assert [(f.symmetry.group == G, f.holds) for f in found] == [(False, True), (True, False)]


# --- bad input -------------------------------------------------------------------------------------------------------
NET = nn.Linear(3, 3)
X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: er.relax(NET, [VECTORS], method="projected"), UnknownNameError, "known methods"),
        (lambda: er.relax(NET, [VECTORS], method="projection"), RepresentationError, "representations is missing"),
        (lambda: relaxed(NET, [G], [T(1)]), RepresentationError, "1 linear layers need 2"),
        (lambda: relaxed(NET, [G], [T(1), "V"]), RepresentationError, r"representations\[1\] is 'V'"),
        (
            lambda: relaxed(nn.Linear(3, 5), [G], [T(1), T(1)]),
            RepresentationError,
            "linear layer 0 maps 3 numbers to 5",
        ),
        (lambda: relaxed(NET, [G, er.O(2)], [T(1), T(1)]), SymmetryError, r"dimensions \[2, 3\]"),
        (lambda: relaxed(nn.Linear(3, 1), [G], [T(1), T(0)]), SymmetryError, "output action"),
        (lambda: relaxed(nn.Tanh(), [G], [T(1), T(1)]), ModelError, "no torch.nn.Linear"),
        (lambda: relaxed(NET, [G], [T(1), T(1)], strengths=-1.0), ErlangenError, "strengths = -1.0"),
        (lambda: relaxed(NET, [G], [T(1), T(1)], strengths=[0.0]), ErlangenError, "not all zero"),
        (lambda: relaxed(NET, [G], [T(1), T(1)], strengths=[1.0, 2.0]), ErlangenError, "each of the 1 symmetries"),
        (lambda: relaxed(NET, [G], [T(1), T(1)], power=-1.0), ErlangenError, "power = -1.0"),
        (lambda: relaxed(NET, [G], [T(1), T(1)]).schedule(9, 5), ErlangenError, "adjust_at = 9"),
        (lambda: er.discover(candidates=[VECTORS]), ErlangenError, "give a model with x"),
        (lambda: er.discover(NET, [VECTORS], X, data=(X, X)), ErlangenError, "together with a model"),
        (lambda: er.discover(data=(X[:9], X[:9]), candidates=[VECTORS]), DataError, "data has 9 samples"),
        (lambda: er.discover(data=(X, 0 * X), candidates=[VECTORS]), DataError, "y is constant"),
        (lambda: er.discover(data=(X, X), candidates=[VECTORS], elements=0), ErlangenError, "elements = 0"),
        (lambda: er.discover(data=(X, X), candidates=candidates(er.Scaling(3))), SymmetryError, "not compact"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()

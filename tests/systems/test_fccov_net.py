"""Frechet cumulative covariance: by hand, against gradients and populations, rivals, networks, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import erlangen as er
from erlangen.errors import CollapseWarning, DataError, ErlangenError, NotFiniteError, ShapeError
from erlangen.geometry.manifolds import LogCholesky
from erlangen.survey import Sizes, Split, Training
from erlangen.systems.manifolds.fccov_net import (
    ReductionNet,
    balls,
    fccov,
    fccov_kernel,
    method,
    objective,
    permutation_test,
    spectral_reduction,
    whitening,
)
from erlangen.systems.manifolds.fccov_net._fitting import (
    Features,
    Reduction,
    Statistic,
    WithPenalties,
    canonical_correlation,
    fit_bottleneck,
    fit_net,
    measure,
    picture_net,
    principal_components,
    solve,
)
from erlangen.systems.manifolds.fccov_net.data import LINE, MATRICES, SETTINGS, contaminated, turned_digits
from erlangen.systems.manifolds.fccov_net.method import centred, quadratic, top
from erlangen.systems.manifolds.fccov_net.rivals import (
    cume_kernel,
    distance_covariance,
    gmdd_kernel,
    gsir_kernel,
    scaling,
    sir_kernel,
)


def layer() -> tuple[torch.nn.Module, Tensor, dict[str, Any]]:
    # Inputs have no symmetry; samples, here four sets of six, do not see each other, and so have no order.
    order = er.Symmetry(er.Symmetric(6), input="permuted", output="permuted")
    return ReductionNet(5, 2, (8,)), torch.randn(4, 6, 5), {"symmetry": order}


LAYERS = {"ReductionNet": layer}


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def distances(y: Tensor) -> Tensor:
    return torch.cdist(y, y, compute_mode="donot_use_mm_for_euclid_dist")


# --- the statistic ---------------------------------------------------------------------------------------------------
def test_three_points_by_hand() -> None:
    """Y = 0, 1, 3 and f = 1, 0, -1. Around 0: balls {0}, {0, 1}, all; around 1: {1}, {0, 1}, all; around 3: {3}, {1, 3}, all."""
    D = distances(torch.tensor([[0.0], [1], [3]], dtype=torch.float64))
    f = torch.tensor([[1.0], [0], [-1]], dtype=torch.float64)
    due = sum(total**2 for total in (1, 1, 0, 0, 1, 0, -1, -1, 0)) / 9 / 9
    assert float(fccov(f, D)) == pytest.approx(due, rel=1e-14)
    N = torch.tensor([[3, 2, 1], [2, 3, 1], [1, 2, 3]])  # N_c(i), one row for each centre
    K = torch.minimum(N[:, :, None], N[:, None, :]).sum(0) / 9
    assert torch.allclose(fccov_kernel(D), K.double())


def test_balls_are_those_of_centres_and_not_of_members() -> None:
    """Radii are distances to the centre: with 1{D_ic <= D_il} in place of it another number comes out."""
    D = distances(normal(12, 2))
    f = normal(12, 1, seed=1)
    f = f - f.mean(0)
    swapped = sum(f[D[:, c] <= D[:, l]].sum(0).square().sum() for c in range(12) for l in range(12)) / 12**4
    assert abs(float(fccov(f, D) / swapped) - 1) > 1e-3


def test_gradients_are_derivatives() -> None:
    D = distances(torch.randint(3, (9, 2), generator=generator()).double())
    f = normal(9, 2).requires_grad_()
    inside, K = balls(D), fccov_kernel(D)
    assert torch.autograd.gradcheck(lambda x: fccov(x, inside), (f,))
    assert torch.autograd.gradcheck(lambda x: quadratic(x, K), (f,))
    assert torch.autograd.gradcheck(lambda x: objective(x, K, 2.0), (f,))


def test_what_is_large_in_a_population() -> None:
    """Y = x1^2: of unit variance, its own function is seen, another coordinate and x1 itself are not."""
    x = normal(2000, 2)
    inside = balls(distances(x[:, :1] ** 2))
    own, other, linear = (float(fccov(f[:, None], inside)) for f in ((x[:, 0] ** 2 - 1) / 2**0.5, x[:, 1], x[:, 0]))
    assert own == pytest.approx(0.04, rel=0.2)
    assert other < 1e-3
    assert linear < 1e-3


def test_only_means_are_seen() -> None:
    """X = e g(Y) with symmetric e: X does not depend on Y in the mean, its square does."""
    y, e = normal(1000, 1), normal(1000, 1, seed=1)
    x = e * (1 + y.abs())
    inside = balls(distances(y))
    squares = x.square()
    linear = float(fccov(x / x.std(), inside))
    assert linear < 1.5e-3
    assert float(fccov(squares / squares.std(), inside)) > 3 * linear
    assert permutation_test(squares[:200], distances(y[:200]), generator=generator()) <= 0.05


def test_outliers_move_rivals_without_bound() -> None:
    y = normal(60, 1)
    f = y - y.mean(0)
    far = y.clone()
    changes: list[list[float]] = []
    for step in (1e2, 1e4):
        far[7] = y[7] + step
        row = [fccov(f, distances(far)) / fccov(f, distances(y))]
        K, moved = gmdd_kernel(distances(y)), gmdd_kernel(distances(far))
        row += [quadratic(f, moved) / quadratic(f, K), distance_covariance(f, moved) / distance_covariance(f, K)]
        changes.append([abs(float(one) - 1) for one in row])
    assert changes[1][0] == pytest.approx(changes[0][0], abs=1e-12)
    assert changes[0][0] < 0.3
    assert changes[1][1] > max(1, 50 * changes[0][1])
    assert changes[1][2] > max(1, 50 * changes[0][2])


def test_the_best_function_of_a_line_turns_back() -> None:
    """Of Y = x1^2 + x2 + noise, the free f with the largest statistic is not monotone in Y, that of GMDD is."""
    y = SETTINGS["line"].draw(400, generator(5)).y.double()
    order, steps = y[:, 0].argsort(), {}
    for name, kernel in (("fccov", fccov_kernel), ("gmdd", gmdd_kernel)):
        f = torch.linalg.eigh(centred(kernel(distances(y)))).eigenvectors[order, -1]
        slope = f.diff() * torch.sign(f[-100:].mean() - f[:100].mean())
        steps[name] = float(slope.clamp(max=0).abs().sum() / slope.abs().sum())  # share of the way that leads back
    assert steps["gmdd"] < 1e-6
    assert steps["fccov"] > 0.2


def test_the_permutation_test_counts() -> None:
    y = normal(30, 1)
    assert permutation_test(y, distances(y), 99, generator=generator()) == 0.01
    assert permutation_test(torch.ones(30, 1), distances(y), 99, generator=generator()) == 1.0


# --- objective, whitening, closed forms ------------------------------------------------------------------------------
def test_the_largest_eigenvalue_is_divided_out() -> None:
    K = gmdd_kernel(distances(normal(20, 2)))
    f = torch.linalg.eigh(centred(K)).eigenvectors[:, -1:] * 20**0.5
    assert float(quadratic(f, K) / top(K)) == pytest.approx(1, rel=1e-10)
    with pytest.raises(DataError, match="zero or negative after centring"):
        top(-K)


def test_the_penalty_of_a_scaled_sample() -> None:
    f = whitening(normal(50, 2), fccov_kernel(distances(normal(50, 1))))(normal(50, 2))
    assert float(method.whitening_penalty(2 * f)) == pytest.approx(2 * 9)


def test_linear_reduction_is_linear_discriminants_for_classes() -> None:
    """With the matrix of slices and unequal classes, against scipy's generalised eigenproblem of means between classes."""
    from scipy.linalg import eigh

    label = torch.randint(3, (200,), generator=generator())
    Z = normal(200, 4, seed=1) + label[:, None] * torch.tensor([1.0, 0, 0.5, 0], dtype=torch.float64)
    found = spectral_reduction(Z, fccov_kernel((label[:, None] != label).double()), 2)
    C = Z - Z.mean(0)
    shares = [(label == k).double().mean() for k in range(3)]
    means = [C[label == k].mean(0) for k in range(3)]
    between = sum(share**4 * mean.outer(mean) for share, mean in zip(shares, means, strict=True))
    values, _ = eigh(between.numpy(), (C.T @ C / 200).numpy())
    assert torch.allclose(found.values, torch.from_numpy(values[::-1].copy()), atol=1e-12)
    f = C @ found.matrix
    assert torch.allclose(f.mT @ f / 200, torch.eye(2, dtype=torch.float64), atol=1e-10)
    assert float(found.values[2].abs()) < 1e-12  # three classes have two directions: the scree ends there


def test_coordinates_are_ordered() -> None:
    y = normal(100, 1)
    f = torch.cat([normal(100, 1, seed=1), y + 0.1 * normal(100, 1, seed=2)], 1)
    K = fccov_kernel(distances(y))
    white = whitening(f, K)(f)
    assert abs(float(torch.corrcoef(torch.stack([white[:, 0], y[:, 0]]))[0, 1])) > 0.98
    assert float(quadratic(white[:, :1], K)) > float(quadratic(white[:, 1:], K))


def test_rivals_by_hand() -> None:
    y = torch.tensor([[0.0], [3], [1], [7]], dtype=torch.float64)
    line = scaling(distances(y), 1)
    assert torch.allclose(distances(line), distances(y))
    same = sir_kernel(distances(y), 2) / 4
    assert torch.allclose(
        same[[0, 2, 1, 3]][:, [0, 2, 1, 3]], torch.block_diag(*2 * [torch.full((2, 2), 0.5)]).double()
    )
    f = normal(4, 2)
    order = [0, 2, 1, 3]
    cumulative = sum((f - f.mean(0))[order[: k + 1]].sum(0).square().sum() for k in range(4)) / 64
    reverse = sum((f - f.mean(0))[order[::-1][: k + 1]].sum(0).square().sum() for k in range(4)) / 64
    assert float(quadratic(f, cume_kernel(distances(y)))) == pytest.approx(
        float(cumulative if line[0] < line[3] else reverse)
    )
    apart = distances(f)
    centred_y = -gmdd_kernel(distances(y))
    assert float(distance_covariance(f, gmdd_kernel(distances(y)))) == pytest.approx(
        float((apart * centred_y).mean()), abs=1e-5
    )
    squared = float((apart.square() * centred_y).mean()) / 2
    assert float(quadratic(f, gmdd_kernel(distances(y)))) == pytest.approx(squared, rel=1e-10)
    smoother = torch.linalg.eigvalsh(gsir_kernel(distances(normal(20, 1)))) / 20
    assert float(smoother.min()) + 1e-10 >= 0
    assert float(smoother.max()) == pytest.approx(1 / 1.1, rel=1e-8)


# --- data and fits ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", list(SETTINGS))
def test_responses_are_points_and_follow_their_index(name: str) -> None:
    setting = SETTINGS[name]
    drawn = setting.draw(300, generator())
    assert drawn.truth.shape == (300, setting.outputs)
    D = setting.space.between(drawn.y, drawn.y).double()
    D = ((D + D.mT) / 2).fill_diagonal_(0)
    method.check_distances(D)
    assert permutation_test(drawn.truth.double(), D, 19, generator=generator()) == 0.05
    correlation = torch.corrcoef(drawn.x.T)
    assert float((correlation[0, 1] - 0.5).abs()) < 0.15


def test_spaces_are_those_of_the_kernel() -> None:
    drawn = SETTINGS["matrices"].draw(30, generator())
    due = LogCholesky().pairwise(drawn.y.double())
    assert torch.allclose(MATRICES.between(drawn.y.double(), drawn.y.double()), due, atol=1e-8)
    y = torch.zeros(1000, 1)
    moved = contaminated(y, generator())
    assert 20 < int((moved != 0).sum()) < 90
    assert float(moved.abs().max()) > 50


def test_digits_turn_counterclockwise() -> None:
    """Turned back by the angle in the response, a digit is upright again, as far as resampling goes."""
    drawn = turned_digits(40, generator())
    upright = torch.stack([_back(x, y) for x, y in zip(drawn.x, drawn.y, strict=True)])
    again = turned_digits(40, generator())
    assert torch.equal(drawn.x, again.x)
    from erlangen.systems.manifolds.fccov_net.data import _clear_digits

    known = _clear_digits().flatten(1)
    nearest = torch.cdist(upright.flatten(1), known).amin(1)
    turned = torch.cdist(drawn.x.flatten(1), known).amin(1)
    assert float((nearest < turned).double().mean()) > 0.8


def _back(x: Tensor, y: Tensor) -> Tensor:
    from torch.nn.functional import affine_grid, grid_sample

    turn = torch.stack([y[0], -y[1], torch.zeros(()), y[1], y[0], torch.zeros(())]).reshape(1, 2, 3)
    return grid_sample(x[None], affine_grid(turn, [1, 1, 28, 28], align_corners=False), align_corners=False)[0]


def split(n: int = 150, seed: int = 0) -> Split:
    drawn = SETTINGS["line"].draw(n + 200, generator(seed))
    return Split.of(drawn.x, {"y": drawn.y, "index": drawn.truth}, Sizes(n, 100, 100))


TRAINING = Training(torch.nn.functional.mse_loss, 120, 1000, (3e-3,), optimizer=torch.optim.Adam, schedule=None)


@pytest.mark.parametrize("way", ["fccov", "gmdd", "dcov", "bottleneck"])
def test_networks_learn_the_index(way: str) -> None:
    ways = {
        "fccov": fit_net(Statistic(fccov_kernel)),
        "gmdd": fit_net(Statistic(gmdd_kernel)),
        "dcov": fit_net(Statistic(gmdd_kernel, distance_covariance)),
        "bottleneck": fit_bottleneck,
    }
    data = split()
    model = ways[way](Reduction(ReductionNet(10, 1), LINE), data, 3e-3, TRAINING, generator(), 1.0)
    row = measure(model, *data.test, generator())
    assert row["distance correlation with the index"] > 0.6
    assert row["k-NN error"] < 0.8 * float(data.test[1]["y"].var())
    f = model(data.train[0]).detach()
    assert float(f.var(correction=0)) == pytest.approx(1, abs=1e-3)


def test_batches_have_their_own_distances() -> None:
    data = split()
    training = Training(torch.nn.functional.mse_loss, 40, 50, (3e-3,), optimizer=torch.optim.Adam, schedule=None)
    way = fit_net(Statistic(fccov_kernel))
    model = way(Reduction(ReductionNet(10, 1), LINE), data, 3e-3, training, generator(), 1.0)
    assert measure(model, *data.test, generator())["distance correlation with the index"] > 0.5


def test_a_rate_that_destroys_a_network_is_named() -> None:
    with pytest.raises(NotFiniteError, match=r"rate = 1e\+30|no inverse"):
        fit_net(Statistic(fccov_kernel))(
            Reduction(ReductionNet(10, 1), LINE), split(), 1e30, TRAINING, generator(), 1.0
        )


def test_penalties_are_chosen_on_validation_data() -> None:
    """The best of the first seed stays with its rate; those that destroy the network lose."""
    data, model = split(), Reduction(ReductionNet(10, 1), LINE)
    seen: list[float] = []

    def way(
        model: Reduction, split: Split, rate: float, training: Training, g: Generator, penalty: float, /
    ) -> Reduction:
        seen.append(penalty)
        if penalty == 1.0:
            raise NotFiniteError("nothing was learned")
        assert g.initial_seed() == 3
        model.embed = ReductionNet(10, 1)
        with torch.no_grad():  # 0.1 looks at the true index, 10 at another coordinate
            model.embed.net = torch.nn.Linear(10, 1, bias=False)
            model.embed.net.weight.copy_(torch.eye(10)[[1 if penalty == 0.1 else 9]])
        model.remember(split)
        return model

    tried = WithPenalties(way)
    assert tried(model, data, 1e-3, TRAINING, generator(3)).penalty == 0.1
    assert seen == [1.0, 0.1, 10.0]
    tried(model, data, 1e-3, TRAINING, generator(3))
    assert seen[3:] == [0.1]
    tried.chosen[3.0] = 1.0
    with pytest.raises(NotFiniteError, match="nothing was learned"):
        tried(model, data, 3.0, TRAINING, generator(3))


def test_closed_forms_learn_the_index() -> None:
    data = split(300)
    found = {}
    for name, prepare in {
        "kernel": solve(fccov_kernel, 1, gaussian=True),
        "gsir": solve(gsir_kernel, 1, gaussian=True),
        "sir": solve(sir_kernel, 1, gaussian=False),
        "pca": principal_components(1),
    }.items():
        model = Reduction(Features(), LINE)
        prepare(model, data)
        found[name] = measure(model, *data.test, generator())["distance correlation with the index"]
    assert min(found["kernel"], found["gsir"]) > 0.6
    assert found["pca"] < min(found["kernel"], found["gsir"])


def test_canonical_correlations() -> None:
    f = normal(200, 2)
    assert canonical_correlation(f, f @ normal(2, 2, seed=1) + 3) == pytest.approx(1)
    assert canonical_correlation(f, normal(200, 2, seed=5)) < 0.3
    assert canonical_correlation(f, f[:, :1]) == pytest.approx(1)


def test_the_network_for_pictures_has_one_answer_each() -> None:
    assert picture_net(2)(torch.zeros(3, 1, 28, 28)).shape == (3, 2)


# --- bad input -------------------------------------------------------------------------------------------------------
def test_distances_that_are_none() -> None:
    D = distances(normal(10, 1))
    f = normal(10, 2)
    for bad, message in (
        (-D, "negative entry"),
        (D.triu(), "D is not symmetric; give distances"),
        (D + torch.eye(10), "on its diagonal; the distance of a response from itself is 0"),
        (1 - torch.eye(10, dtype=torch.float64), "all distances in D are 1: they order nothing; use another metric"),
    ):
        for call in (lambda D=bad: fccov(f, D), lambda D=bad: fccov_kernel(D), lambda D=bad: balls(D)):
            with pytest.raises(DataError, match=message):
                call()
    with pytest.raises(NotFiniteError, match="D has"):
        fccov_kernel(D / 0)
    with pytest.raises(ShapeError, match=r"D has shape \(10, 9\); give the distances of all pairs"):
        fccov_kernel(D[:, :9])
    with pytest.raises(ShapeError, match=r"f has shape \(9, 2\); give \[n, q\] with a row for each of the 10"):
        fccov(f[:9], D)
    label = torch.arange(10) % 3
    assert float(fccov(f, (label[:, None] != label).double())) > 0  # classes that repeat are fine


def test_sizes_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    D = distances(normal(10, 1))
    K = fccov_kernel(D)
    with pytest.raises(ErlangenError, match="7 samples in a batch; give at least 8"):
        objective(normal(7, 1), K[:7, :7])
    with pytest.raises(ErlangenError, match="give at least 12, for 10 coordinates"):
        objective(normal(10, 10), K)
    with pytest.raises(ErlangenError, match="10 samples for 9 coordinates; give at least 11"):
        spectral_reduction(normal(10, 9), K, 9)
    with pytest.raises(ErlangenError, match="outputs = 3 of 2 features"):
        spectral_reduction(normal(10, 2), K, 3)
    with pytest.raises(ErlangenError, match="outputs = 4 for 3 inputs"):
        ReductionNet(3, 4)
    with pytest.raises(ErlangenError, match="covariance of features is singular; give a ridge"):
        spectral_reduction(torch.ones(10, 2, dtype=torch.float64), K, 1)
    with pytest.raises(ErlangenError, match="permutations = 0"):
        permutation_test(normal(10, 1), D, 0)
    monkeypatch.setattr(method, "MOST", 9)
    with pytest.raises(ErlangenError, match=r"10 samples, over 9: pass centres, torch.randperm\(10\)"):
        fccov(normal(10, 1), D)
    assert float(fccov(normal(10, 1), D, centres=torch.arange(5))) > 0


def test_collapse_is_told() -> None:
    K = fccov_kernel(distances(normal(20, 1)))
    f = normal(20, 2)
    with pytest.raises(ErlangenError, match="collapsed: its covariance is singular; train with a larger penalty"):
        whitening(f[:, :1].expand(-1, 2), K)
    with pytest.warns(CollapseWarning, match="nearly collapsed"):
        whitening(torch.cat([f[:, :1], f[:, :1] + 0.01 * f[:, 1:]], 1), K)
    assert math.isfinite(float(objective(torch.zeros(20, 2, dtype=torch.float64), K)))

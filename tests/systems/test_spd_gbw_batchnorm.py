"""GBWBN: derivatives, statistics and their storage, the optimiser, rivals against closed forms, and what is refused."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

import erlangen as er
from erlangen.errors import (
    DataError,
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    MatrixFunctionError,
    ShapeError,
    UnknownNameError,
)
from erlangen.geometry.manifolds import AffineInvariant, BuresWasserstein, LogCholesky, LogEuclidean, Stiefel
from erlangen.numerics import sym_sqrt
from erlangen.survey import Run, Sizes, Training
from erlangen.systems.manifolds.spd_gbw_batchnorm import GBWBatchNorm, RiemannianSGD, rivals
from erlangen.systems.manifolds.spd_gbw_batchnorm._properties import layer, spectra
from erlangen.systems.manifolds.spd_gbw_batchnorm._spdnet import BiMap, Convolutions, LogEig, ReEig, SPDNet
from erlangen.systems.manifolds.spd_gbw_batchnorm.data import recorded, simulated
from erlangen.systems.manifolds.spd_gbw_batchnorm.experiment import BUDGETS, recordings_part
from erlangen.systems.manifolds.spd_gbw_batchnorm.method import barycentre, from_identity, to_identity
from erlangen.systems.manifolds.spd_gbw_batchnorm.rivals import (
    Diverged,
    MetricBatchNorm,
    Residual,
    WithPowers,
    right_answers,
    trained,
)

BW = BuresWasserstein()
EYE = torch.eye(4, dtype=torch.float64)


def matrices(count: int = 20, n: int = 4, low: float = 0.5, high: float = 2.0, seed: int = 0) -> Tensor:
    return spectra(count, n, low, high, torch.Generator().manual_seed(seed))


def fresh() -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """With W = M = I and a running mean of I the layer is equivariant under O(n)."""
    symmetry = er.Symmetry("O(3)", input="spd", output="spd")
    # Dynamo does not trace functions with a forward-mode derivative of their own, as those of symmetric matrices have.
    return GBWBatchNorm(3), matrices(4, 3).float(), {"symmetry": symmetry, "skip": ("compile",)}


LAYERS = {"GBWBatchNorm": fresh}


# --- the layer -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("power", [1.0, 0.5, -0.7])
@pytest.mark.parametrize("spectrum", [[2.0, 2.0, 2.0], [2.0, 2.0, 0.5], [2.0, 1.0, 0.5]])
def test_gradients_where_eigenvalues_are_equal(power: float, spectrum: list[float]) -> None:
    norm = layer(3, torch.Generator().manual_seed(1), power=power)
    X = torch.stack([torch.diag(torch.tensor(spectrum, dtype=torch.float64)), *matrices(2, 3)]).requires_grad_()
    assert norm.matrix is not None

    def forward(X: Tensor, W: Tensor, M: Tensor, s: Tensor) -> Tensor:
        named = {"bias": (W + W.mT) / 2, "matrix": (M + M.mT) / 2, "scale": s}
        return torch.func.functional_call(norm, named, ((X + X.mT) / 2,))

    assert gradcheck(forward, (X, norm.bias, norm.matrix, norm.scale))


def test_without_gradients_through_statistics() -> None:
    """Values are the same, gradients are not."""
    X = matrices().requires_grad_()
    found = [torch.autograd.grad(layer(4, differentiate=d)(X).sum(), X)[0] for d in (True, False)]
    assert float((found[0] - found[1]).norm() / found[1].norm()) > 0.1
    assert torch.allclose(layer(4, differentiate=False)(X), layer(4)(X), atol=1e-12)


def test_channels_share_their_statistics() -> None:
    X = matrices()
    assert torch.equal(layer(4)(X.view(10, 2, 4, 4)).flatten(0, 1), layer(4)(X))


def test_the_variance_of_the_code_is_about_the_identity() -> None:
    X, norm = matrices(), layer(4, legacy_variance=True, momentum=1.0, power=0.5)
    norm(X)
    roots = torch.linalg.eigh(X)
    halves = (roots.eigenvectors * roots.eigenvalues.sqrt()[:, None]) @ roots.eigenvectors.mT
    assert float(norm.running_var) == pytest.approx(float(4 * BW.dist(halves, EYE).square().mean()))


def test_running_statistics_follow_the_geodesic_and_survive_a_new_matrix() -> None:
    """They are a matrix of the original space, which M does not move."""
    X, norm = matrices(low=0.1, high=5), layer(4, torch.Generator().manual_seed(2))
    metric = norm.metric
    due = metric.unchart(BW.geodesic(metric.chart(EYE), barycentre(metric.chart(X), 1), 0.1)).detach()
    norm(X)
    assert torch.allclose(norm.running_mean, due, atol=1e-12)
    before = norm.running_mean.clone()
    assert norm.matrix is not None
    with torch.no_grad():
        norm.matrix.mul_(3)
    assert torch.equal(norm.running_mean, before)


def test_a_saved_layer_gives_the_same_bits() -> None:
    norm = layer(4, torch.Generator().manual_seed(0), power=0.5)
    for seed in range(3):
        norm(matrices(seed=seed))
    buffer, other = io.BytesIO(), layer(4, power=0.5)
    torch.save(norm.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other.eval()(matrices(seed=9)), norm.eval()(matrices(seed=9)))


def test_means_and_transports_agree_with_the_kernel() -> None:
    X, V = matrices(low=0.1, high=10), matrices(5, seed=3) - EYE
    assert torch.allclose(barycentre(X, 40), BW.mean(X, tol=1e-13, steps=200).point, atol=1e-11)
    assert torch.allclose(to_identity(V, X[0]), BW.transport(V, X[0], EYE), atol=1e-12)
    assert torch.allclose(from_identity(V, X[0]), BW.transport(V, EYE, X[0]), atol=1e-12)
    assert torch.allclose(from_identity(to_identity(V, X[0]), X[0]), V, atol=1e-12)
    assert torch.allclose(to_identity(BW.log(X[0], X[1]), X[0]).square().sum() / 4, BW.dist(X[0], X[1]) ** 2)


def test_violations_are_counted() -> None:
    """Numbers 0.1 to 30: below one root less than the mean root the exponential at one folds back."""
    x = torch.linspace(0.1, 30, 50, dtype=torch.float64)
    norm = layer(1)
    norm(x[:, None, None])
    away = x.sqrt() - x.sqrt().mean()
    k = 1 / (away.square().mean() + 1e-5).sqrt()
    assert norm.violations.centring == pytest.approx(float((away < -1).double().mean()))
    assert norm.violations.scaling == pytest.approx(float((k * ((1 + away).abs() - 1) < -1).double().mean()))
    assert norm.violations.biasing == norm.violations.scaling  # W is the identity
    small = layer(1)
    small(x[:, None, None] / 100)
    assert small.violations.centring == 0


def test_outputs_are_positive_definite_without_violations() -> None:
    norm = layer(4)
    norm.scale.data.fill_(0.2)
    out = norm(matrices(50))
    assert tuple(norm.violations) == (0, 0, 0)
    assert float(torch.linalg.eigvalsh(out.detach()).min()) > 0


def test_a_decomposition_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    X, real, calls = matrices(), torch.linalg.eigh, [0]

    def failing(A: Tensor, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] in fail:
            raise torch.linalg.LinAlgError("no convergence")  # pyright: ignore
        return real(A, **options)

    due = layer(4)(X)
    monkeypatch.setattr(torch.linalg, "eigh", failing)
    fail: Any = {2}
    assert torch.allclose(layer(4)(X), due, atol=1e-12)
    fail = range(100_000)
    with pytest.raises(MatrixFunctionError, match="does not converge"):
        layer(4)(X)


# --- bad input -------------------------------------------------------------------------------------------------------
def _with(index: int, A: Tensor) -> Tensor:
    X = matrices()
    X[index] = A
    return X


@pytest.mark.parametrize(
    ("X", "error", "word"),
    [
        (matrices(n=3), ShapeError, r"give matrices \[B, C, 4, 4\]"),
        (EYE, ShapeError, "give matrices"),
        (matrices().half(), DtypeError, "float32 or float64"),
        (matrices().to(torch.complex128), DtypeError, "real matrices"),
        (_with(3, torch.nan * EYE), er.errors.NotFiniteError, "X has 16 values"),
        (
            _with(3, EYE + torch.triu(torch.full((4, 4), 1e-4, dtype=torch.float64), 1)),
            MatrixFunctionError,
            r"X\[3\] is not sym",
        ),
        (_with(2, torch.diag(torch.tensor([1.0, 1, 1, 0])).double()), MatrixFunctionError, r"X\[2\].*ReEig"),
        (_with(2, -EYE), MatrixFunctionError, r"X\[2\].*-1 .*ReEig"),
    ],
)
def test_bad_matrices(X: Tensor, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        layer(4)(X)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"power": 0.0}, "power = 0"),
        ({"momentum": 0.0}, "momentum = 0"),
        ({"eps": 0.0}, "eps = 0"),
        ({"mean_steps": 0}, "mean_steps = 0"),
    ],
)
def test_bad_options(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ErlangenError, match=word):
        GBWBatchNorm(4, **options)
    with pytest.raises(ErlangenError, match="n = 0"):
        GBWBatchNorm(0)


def test_warnings() -> None:
    with pytest.warns(ErlangenWarning, match="a batch of one matrix has the variance zero"):
        layer(4)(matrices(1))
    with pytest.warns(ErlangenWarning, match="divide the matrices by a number"):
        layer(4)(100 * matrices(low=0.01, high=10))


# --- the optimiser ---------------------------------------------------------------------------------------------------
def test_steps_stay_on_their_manifolds() -> None:
    net = SPDNet(5, 4, 3, GBWBatchNorm)
    start = copy.deepcopy(net)
    step = RiemannianSGD.of(net, lr=0.3, weight_decay=0.1)
    x, y = matrices(30, 5), torch.arange(30) % 3
    for _ in range(5):
        step.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        step.step()
    Stiefel().check(net.bimap.weight)
    assert isinstance(net.norm, GBWBatchNorm)
    assert isinstance(start.norm, GBWBatchNorm)
    assert net.norm.matrix is not None
    for p, old in ((net.norm.bias, start.norm.bias), (net.norm.matrix, start.norm.matrix)):
        BW.check(p)
        assert p is not None
        assert old is not None
        assert float((p - old).detach().abs().max()) > 1e-4


def test_plain_numbers_move_as_with_torch() -> None:
    nets = [nn.Linear(3, 2) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    steps = [
        RiemannianSGD.of(nets[0], lr=0.1, weight_decay=0.2),
        torch.optim.SGD(nets[1].parameters(), lr=0.1, momentum=0.9, weight_decay=0.2),
    ]
    x = torch.randn(5, 3)
    for _ in range(4):
        for net, step in zip(nets, steps, strict=True):
            step.zero_grad()
            net(x).square().sum().backward()
            step.step()
    assert torch.allclose(nets[0].weight, nets[1].weight, atol=1e-6)
    with pytest.raises(ErlangenError, match="lr = 0"):
        RiemannianSGD.of(nets[0], lr=0)


def test_the_step_of_an_spd_matrix() -> None:
    """Along -P sym(G) P by the exponential of Bures-Wasserstein, without momentum and decay."""
    norm = layer(4, torch.Generator().manual_seed(0))
    P, G = norm.bias.detach().clone(), torch.randn(4, 4, dtype=torch.float64)
    step = RiemannianSGD.of(norm, lr=0.01, weight_decay=0.5)
    norm.bias.grad = G
    step.step()
    assert torch.allclose(norm.bias, BW.exp(P, -0.01 * P @ (G + G.mT) / 2 @ P), atol=1e-14)


# --- network and rivals ----------------------------------------------------------------------------------------------
def test_layers_of_the_network() -> None:
    X = matrices(3, 5)
    W = BiMap(5, 3)
    Stiefel().check(W.weight)
    assert torch.allclose(W(X), W.weight.mT @ X @ W.weight)
    assert torch.equal(torch.linalg.eigvalsh(ReEig()(1e-9 * X)) > 0.99e-5, torch.ones(3, 5, dtype=torch.bool))
    assert torch.allclose(torch.linalg.matrix_exp(LogEig()(X)), X)
    S = Convolutions(8, 20, 6)(torch.randn(4, 8, 125))
    assert S.shape == (4, 6, 6)
    assert S.dtype == torch.float64
    BW.check(S)


@pytest.mark.parametrize("metric", ["AIM", "LEM", "LCM"])
def test_rivals_centre_and_scale(metric: Any) -> None:
    """With W = I their outputs have the mean I, and s = 1 gives the mean squared distance one."""
    manifold = {"AIM": AffineInvariant(), "LEM": LogEuclidean(), "LCM": LogCholesky()}[metric]
    X = matrices(40, low=0.8, high=1.25)
    out = MetricBatchNorm(4, metric).double()(X).detach()
    mean = manifold.mean(out).point
    assert float((mean - EYE).abs().max()) < 5e-3  # one Karcher step
    assert float(manifold.dist(out, EYE).square().mean()) == pytest.approx(1, rel=1e-2)
    plain = MetricBatchNorm(4, metric, scaling=False).double()
    assert plain.scale is None
    spread = float(manifold.dist(plain(X).detach(), EYE).square().mean())
    assert spread == pytest.approx(float(manifold.dist(X, manifold.mean(X).point).square().mean()), rel=1e-2)


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("metric", ["AIM", "LEM", "LCM"])
def test_rivals_remember(metric: Any, power: float) -> None:
    X, norm = matrices(), MetricBatchNorm(4, metric, momentum=1.0, power=power).double()
    with torch.no_grad():
        norm.bias.copy_(matrices(1, seed=5)[0])
    out = norm(X)
    assert torch.allclose(norm.eval()(X), out, atol=1e-10)


def test_powers_of_rivals() -> None:
    """They act on powers of matrices and come back; the log-Euclidean one does not change, as commuting matrices do not."""
    X, W = matrices(), matrices(1, seed=5)[0]

    def made(metric: Any, power: float) -> MetricBatchNorm:
        norm = MetricBatchNorm(4, metric, power=power, eps=1e-12).double()
        norm.bias.data.copy_(W)
        return norm

    assert torch.allclose(made("LEM", 0.5)(X), made("LEM", 1.0)(X), atol=1e-8)
    for metric in ("AIM", "LCM"):
        plain = made(metric, 1.0)
        plain.bias.data.copy_(sym_sqrt(W))
        assert plain.scale is not None
        plain.scale.data.div_(2)  # the variance is divided by the square of the power
        due = plain(sym_sqrt(X))
        assert torch.allclose(made(metric, 0.5)(X), due @ due, atol=1e-8)
        assert not torch.allclose(made(metric, 0.5)(X), made(metric, 1.0)(X), atol=1e-3)


def test_a_residual_block_goes_one_unit_far() -> None:
    X = matrices()
    out = Residual(4).double()(X)
    assert torch.allclose(AffineInvariant().dist(X, out), torch.ones(20, dtype=torch.float64), atol=1e-6)


def test_a_training_that_fails_is_a_result() -> None:
    split = simulated(0, 1e4, Sizes(60, 5, 5))
    net = SPDNet(8, 6, 5, GBWBatchNorm)
    how = Training(nn.functional.cross_entropy, 3, 30, (1e6,), schedule=None)
    lost = trained(net, split, 1e6, how, torch.Generator().manual_seed(0))
    assert isinstance(lost, Diverged)
    assert sum(p.numel() for p in lost.parameters()) == sum(p.numel() for p in net.parameters())
    assert lost(split.test[0]).argmax(-1).tolist() == [0] * 5


def test_powers_are_chosen_on_validation_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of the first seed stays with its rate, and all start with the same weights."""
    split, net = simulated(0, 1e4, Sizes(30, 30, 5)), SPDNet(8, 6, 5, GBWBatchNorm)
    how, seen = Training(nn.functional.cross_entropy, 1, 30, (1e-2,), schedule=None), []

    def training(model: Any, split: Any, *rest: Any) -> None:
        assert torch.equal(model.bimap.weight, net.bimap.weight)
        seen.append(model.norm.power)
        model.right = model.norm.power == 0.5

    def judged(model: Any, x: Tensor, y: Tensor) -> tuple[float, bool]:
        assert x is split.validation[0]
        return float(model.right), False

    monkeypatch.setattr(rivals, "trained", training)
    monkeypatch.setattr(rivals, "right_answers", judged)
    tried = WithPowers()
    for _ in range(2):
        found: Any = tried(net, split, 1e-2, how, torch.Generator().manual_seed(0))
        assert found.norm.power == 0.5
    assert seen == [1.0, 0.5, 0.25, 0.5]


def test_networks_that_fail_on_other_data_have_failed() -> None:
    net = SPDNet(8, 6, 5, GBWBatchNorm).eval()
    x, y = simulated(0, 1e4, Sizes(5, 5, 20)).test
    assert not right_answers(net, x, y)[1]
    assert right_answers(net, torch.zeros_like(x), y) == (20.0, True)
    assert right_answers(Diverged(5, 0), x, y) == (20.0, True)


# --- data ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("condition", [1e2, 1e8])
def test_simulated_sessions(condition: float) -> None:
    split = simulated(3, condition, Sizes(200, 50, 120))
    for (S, y), count in zip(split, (200, 50, 120), strict=True):
        assert S.shape == (count, 8, 8)
        BW.check(S)
        assert y.bincount().tolist() == [count // 5] * 5
    values = torch.linalg.eigvalsh(split.train[0])
    assert float((values[:, -1] / values[:, 0]).log10().mean()) == pytest.approx(np.log10(condition), abs=1)
    assert torch.equal(simulated(3, condition, Sizes(200, 50, 120)).test[0], split.test[0])


def test_weak_directions_of_noise() -> None:
    """Four eigenvalues are those of noise, and what they are does not depend on the class."""
    split = simulated(3, 1e6, Sizes(400, 5, 5), weak="noise")
    S, y = split.train
    values, vectors = torch.linalg.eigh(S)
    assert float(values[:, :4].log10().mean()) == pytest.approx(-6, abs=0.3)
    assert float(values[:, 4:].log10().mean()) == pytest.approx(0, abs=0.5)
    weak = values[:, :4].log()
    assert float(torch.stack([weak[y == k].mean(0) for k in range(5)]).std(0).max()) < 0.05
    # Sessions have other directions: the strong ones of the first leave much of the second's, seen from the noise.
    strong = vectors[0, :, 4:]
    left = S[150] - strong @ strong.mT @ S[150] @ strong @ strong.mT
    assert float(torch.linalg.eigvalsh(left)[-1]) > 1e3 * float(values[150, 0])
    with pytest.raises(UnknownNameError, match="sources, noise"):
        simulated(0, 1e4, Sizes(5, 5, 5), weak="nothing")  # pyright: ignore[reportArgumentType]


def test_recordings(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "eeg_mamem_ssvep"
    split = recorded(folder, 1, Sizes(300, 100, 100))
    assert [len(x) for x, _ in split] == [300, 100, 100]
    part = recordings_part(Run("smoke", budget=BUDGETS["smoke"]), str(folder), (1, 2))
    assert {claim.id for claim in part.claims} >= {"recorded-gbwbn-against-none", "recorded-power-against-none"}
    assert len(part.runs) == 2 * len(part.rows)
    np.savez(tmp_path / "subject01.npz", X=np.ones((9, 8, 125)), y=np.arange(9))
    with pytest.raises(DataError, match="five sessions"):
        recorded(tmp_path, 1, Sizes(300, 100, 100))

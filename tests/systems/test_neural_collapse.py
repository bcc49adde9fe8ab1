"""Neural collapse: published optima, stationarity of the closed forms, a code by hand, and bad input."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from erlangen.errors import CollapseWarning, DataError, ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.geometry import gram_distance, orthogonal_frame, simplex_etf
from erlangen.systems.learning.neural_collapse import (
    DeepLinearHead,
    Geometry,
    code_value,
    collapse_metrics,
    collapse_objective,
    general_orthogonal_frame,
    optimal_geometry,
    within_variability,
)
from erlangen.systems.learning.neural_collapse.method import stationary_root, threshold

EVEN, UNEVEN, LONG = (100,) * 4, (200, 100, 50, 50), (400, 100, 20, 8)


# --- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("counts", "layers", "loss"),
    [
        *((EVEN, M, loss) for M, loss in ((1, 0.0198000), (2, 0.01388154), (3, 0.01262905), (6, 0.01350741))),
        *((UNEVEN, M, loss) for M, loss in ((1, 0.01894214), (2, 0.01334661), (3, 0.01221840))),
        *((LONG, M, loss) for M, loss in ((1, 0.01838628), (2, 0.01246142), (3, 0.01138203))),
    ],
)
def test_values_without_bias(counts, layers, loss) -> None:
    """Found by L-BFGS over all weights and features, outside of this library."""
    assert general_orthogonal_frame(counts, layers).loss == pytest.approx(loss, abs=6e-9)


@pytest.mark.parametrize(
    ("counts", "layers", "loss"),
    [
        *((EVEN, M, loss) for M, loss in ((1, 0.01485000), (2, 0.01041116), (3, 0.00947179))),
        *((UNEVEN, M, loss) for M, loss in ((1, 0.01354058), (2, 0.00973791), (3, 0.00899087))),
        (LONG, 1, 0.01052844),
    ],
)
def test_values_with_bias(counts, layers, loss) -> None:
    assert optimal_geometry(counts, layers, bias=True).loss == pytest.approx(loss, abs=6e-9)


def test_values_of_the_cross_entropy() -> None:
    simplex = torch.eye(4, dtype=torch.float64) - 0.25
    assert code_value(simplex, 100, 1)[0] == pytest.approx(0.0943617, abs=6e-8)
    assert code_value(simplex, 100, 2)[0] == pytest.approx(0.0408023, abs=6e-8)
    ten = torch.eye(10, dtype=torch.float64) - 0.1
    assert code_value(ten, 100, 2)[0] == pytest.approx(0.1223657, abs=6e-8)
    assert code_value(ten, 100, 3)[0] == pytest.approx(0.0829014, abs=6e-8)


def test_a_square_beats_the_simplex() -> None:
    """Four classes, three layers: the value of cos(pi (j - k) / 2) by hand, and it classifies every class."""
    steps = torch.arange(4, dtype=torch.float64)
    code = torch.cos(math.pi * (steps[:, None] - steps) / 2)
    s = torch.linspace(1, 20, 200_001, dtype=torch.float64)
    by_hand = 2 * torch.log1p((-s).exp()) + 4 * 5e-4 * (2 * s * 10).pow(2 / 4)
    value, scale = code_value(code, 100, 3)
    assert value == pytest.approx(float(by_hand.min()), abs=1e-10)
    assert value == pytest.approx(0.0254820, abs=6e-8)
    assert scale == pytest.approx(float(s[by_hand.argmin()]), abs=1e-3)
    assert torch.equal(code.argmax(0), torch.arange(4))
    assert value < 0.93 * code_value(torch.eye(4, dtype=torch.float64) - 0.25, 100, 3)[0]


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_a_code_may_be_written_in_any_unit(unit: float) -> None:
    code = torch.eye(4, dtype=torch.float64) - 0.25
    value, scale = code_value(code, 100, 2)
    same, other = code_value(unit * code, 100, 2)
    assert same == pytest.approx(value, rel=1e-12)
    assert other * unit == pytest.approx(scale, rel=1e-5)


def test_no_code_is_worth_its_decay_when_decay_is_large() -> None:
    assert code_value(torch.eye(3, dtype=torch.float64), 10, 2, decay=10.0, feature_decay=10.0) == (math.log(3), 0.0)


# --- geometry --------------------------------------------------------------------------------------------------------
def built(
    frame: Geometry, counts: Any, decays: list[float], bias: bool, dim: int
) -> tuple[DeepLinearHead, Tensor, Tensor]:
    """A network of this geometry: every layer between two random frames."""
    generator = Generator().manual_seed(0)
    K = len(frame.counts)
    frames = [orthogonal_frame(K, dim, generator=generator) for _ in decays]
    head = DeepLinearHead(dim, K, len(decays), bias=bias).double()
    lefts = [*(part.mT for part in frames[1:]), frame.basis]
    means = frame.means() @ frames[0]
    with torch.no_grad():
        for matrix, left, right, sizes in zip(head.matrices, lefts, frames, frame.layers, strict=True):
            matrix.copy_((left * sizes) @ right)
        if bias:
            shares = frame.counts / frame.counts.sum()
            next(iter(reversed(list(head.linear())))).bias.copy_(shares - head.product() @ (shares @ means))
    labels = torch.arange(K).repeat_interleave(frame.counts.long())
    return head, means[labels].requires_grad_(), labels


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("counts", [(10, 10, 10), (12, 6, 3, 3), (40, 20, 3)])
def test_networks_of_the_predicted_geometry_are_stationary_and_have_its_value(counts, layers, bias) -> None:
    decays, feature_decay = [1e-3 * 1.5**m for m in range(layers)], 2e-3
    frame = optimal_geometry(counts, layers, decay=decays, feature_decay=feature_decay, bias=bias)
    head, features, labels = built(frame, counts, decays, bias, 6)
    value = collapse_objective(head, features, labels, decay=decays, feature_decay=feature_decay)
    slopes = torch.autograd.grad(value, [features, *head.parameters()])
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-12
    assert float(value.detach()) == pytest.approx(frame.loss, rel=1e-12)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_narrow_network_keeps_the_largest_classes(rank: int) -> None:
    frame = optimal_geometry((5, 20, 10), 2, decay=1e-3, feature_decay=1e-3, rank=rank)
    assert frame.collapsed.tolist() == [True, False, rank < 2]
    whole = optimal_geometry((5, 20, 10), 2, decay=1e-3, feature_decay=1e-3)
    kept = ~frame.collapsed
    torch.testing.assert_close(frame.layers[:, kept], whole.layers[:, kept])
    head, features, labels = built(frame, None, [1e-3, 1e-3], False, 6)
    value = collapse_objective(head, features, labels, decay=1e-3, feature_decay=1e-3)
    assert float(value.detach()) == pytest.approx(frame.loss, rel=1e-12)


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_a_class_vanishes_at_the_threshold(layers: int) -> None:
    """Around the decay at which b / n_k is the threshold, the value of the nonzero root crosses that of zero."""
    n, N = 8.0, 528.0
    edge = threshold(layers)
    for share, gone in ((0.999, False), (1.001, True)):
        x = stationary_root(share * edge, layers)
        lower = 1 / (1 + x**layers) + share * edge * x < 1  # the loss share of the class, over n / (2 N)
        assert lower is not gone
        decay = (share * edge * n / (layers * N)) ** layers / N
        frame = general_orthogonal_frame(
            LONG, layers, decay=decay ** (1 / (layers + 1)), feature_decay=decay ** (1 / (layers + 1))
        )
        assert frame.collapsed.tolist() == [False, False, False, gone]


def test_the_stationary_root_outlives_the_optimum() -> None:
    """For two layers it is there up to 9/8 / sqrt(3), but zero is lower from 1/2 on."""
    last = 9 / 8 / math.sqrt(3)
    assert threshold(2) == pytest.approx(0.5)
    assert stationary_root(last - 1e-6, 2) > 3**-0.5 > 0
    assert stationary_root(last + 1e-6, 2) == 0
    assert threshold(1) == 1
    assert stationary_root(1.0, 1) == 0


def test_even_classes_end_in_an_orthonormal_frame_or_a_simplex() -> None:
    plain, biased = optimal_geometry(EVEN, 2), optimal_geometry(EVEN, 2, bias=True)
    W, S = plain.weights(), biased.weights()
    torch.testing.assert_close(W @ W.mT, torch.eye(4).double() * (W @ W.mT)[0, 0])
    torch.testing.assert_close(S @ S.mT, (torch.eye(4).double() - 0.25) * (S @ S.mT)[0, 0] / 0.75)
    torch.testing.assert_close(biased.means().sum(0), torch.zeros(4).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("layers", "plain", "simplex"), [(1, 0.299, 0.588), (2, 0.389, 0.632), (3, 0.431, 0.655)])
def test_how_far_the_uneven_frame_is_from_the_even_ones(layers: int, plain: float, simplex: float) -> None:
    """Distances of W W^T to I and to the simplex, worked out outside of this library at the optima that L-BFGS finds."""
    W = general_orthogonal_frame(UNEVEN, layers).weights()
    assert float(gram_distance(W, torch.eye(4, dtype=torch.float64))) == pytest.approx(plain, abs=6e-4)
    assert float(gram_distance(W, simplex_etf(4))) == pytest.approx(simplex, abs=6e-4)


# --- metrics ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [False, True])
def test_metrics_vanish_at_the_predicted_geometry_alone(bias: bool) -> None:
    frame = optimal_geometry((12, 6, 3, 3), 3, decay=1e-3, feature_decay=1e-3, bias=bias)
    head, features, labels = built(frame, None, [1e-3] * 3, bias, 6)
    for cut in (1, 2, 3):
        row = collapse_metrics(head.entering(features.detach(), cut), labels, head.product(cut).detach(), frame, cut)
        assert max(row["NC1"], row["W to predicted"], row["H to predicted"], row["WH to predicted"]) < 1e-7
        assert row["nearest mean"] == 1
        assert min(row["W to orthogonal"], row["W to simplex"], row["H to orthogonal"]) > 0.05


def test_spread_within_classes_by_hand() -> None:
    """Classes at -1 and 1 with spread e: S_W = e^2, S_B = 1, K = 2."""
    e = 0.3
    features = torch.tensor([[-1 - e], [-1 + e], [1 - e], [1 + e]])
    labels = torch.tensor([0, 0, 1, 1])
    assert within_variability(features, labels, 2) == pytest.approx(e**2 / 2, rel=1e-6)
    turned = (
        torch.cat([features, torch.zeros(4, 5)], 1) @ orthogonal_frame(6, generator=Generator().manual_seed(0)).float()
    )
    assert within_variability(turned, labels, 2) == pytest.approx(e**2 / 2, rel=1e-5)


def test_nearest_means_can_disagree_with_the_layer() -> None:
    features = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.0, 1.0], [0.0, 1.1]])
    frame = general_orthogonal_frame((2, 2))
    row = collapse_metrics(features, torch.tensor([0, 0, 1, 1]), torch.tensor([[1.0, 2.0], [0.0, 1.0]]), frame)
    assert row["nearest mean"] == 0.5
    offset = torch.tensor([-5.0, 5.0])
    moved = collapse_metrics(features, torch.tensor([0, 0, 1, 1]), torch.eye(2), frame, bias=offset)
    assert moved["nearest mean"] == 0.5


# --- the objective ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_batches_estimate_the_whole_and_weights_stand_for_copies(loss: Any) -> None:
    torch.manual_seed(0)
    head, features = DeepLinearHead(5, 3, 2, bias=True).double(), torch.randn(12, 5, dtype=torch.float64)
    labels = torch.arange(12) % 3
    rates: dict[str, Any] = {"decay": [0.1, 0.2], "feature_decay": 0.3, "loss": loss}
    whole = collapse_objective(head, features, labels, **rates)
    parts = [
        collapse_objective(head, f, y, samples=12, **rates)
        for f, y in zip(features.split(4), labels.split(4), strict=True)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    copied = collapse_objective(head, features[:3].repeat_interleave(4, 0), labels[:3].repeat_interleave(4), **rates)
    weights = torch.full((3,), 4.0, dtype=torch.float64)
    torch.testing.assert_close(collapse_objective(head, features[:3], labels[:3], weights=weights, **rates), copied)


def test_the_objective_by_hand() -> None:
    head = DeepLinearHead(1, 2)
    with torch.no_grad():
        head.matrices[0].copy_(torch.tensor([[2.0], [0.0]]))
    value = collapse_objective(head, torch.tensor([[1.0]]), torch.tensor([1]), decay=0.5, feature_decay=0.1)
    assert float(value.detach()) == pytest.approx((2**2 + 1) / 2 + 0.25 * 4 + 0.05, rel=1e-6)


def test_a_head_is_its_product() -> None:
    torch.manual_seed(1)
    head, features = DeepLinearHead(6, 3, 3, width=4, bias=True), torch.randn(5, 6)
    last = list(head.linear())[-1]
    torch.testing.assert_close(head(features), features @ head.product().mT + last.bias)
    torch.testing.assert_close(head(features), head.entering(features, 3) @ head.product(3).mT + last.bias)
    assert [tuple(W.shape) for W in head.matrices] == [(4, 6), (4, 4), (3, 4)]
    assert [layer.bias is None for layer in head.linear()] == [True, True, False]
    assert isinstance(head, nn.Module)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: simplex_etf(5, 3), ErlangenError, "dim = 3"),
        (lambda: general_orthogonal_frame((3, 0)), ErlangenError, r"counts\[1\] = 0"),
        (lambda: general_orthogonal_frame((3,)), ShapeError, "counts has shape"),
        (lambda: general_orthogonal_frame((3, 3), decay=0.0), ErlangenError, r"decay\[0\] = 0.0; without decay"),
        (lambda: optimal_geometry((3, 3), feature_decay=-1.0), ErlangenError, "feature_decay = -1.0"),
        (lambda: optimal_geometry((3, 3), 2, decay=[1.0]), ErlangenError, "1 numbers for 2 layers"),
        (lambda: general_orthogonal_frame((3, 3), bias=True), ErlangenError, "use optimal_geometry"),
        (lambda: general_orthogonal_frame((3, 3), decay=math.nan), ErlangenError, r"decay\[0\] = nan"),
        (lambda: general_orthogonal_frame((3, math.nan)), NotFiniteError, "counts"),
        (lambda: optimal_geometry((3, 3), 0), ErlangenError, "layers = 0"),
        (lambda: optimal_geometry((3, 3), rank=0), ErlangenError, "rank = 0"),
        (lambda: general_orthogonal_frame((3, 3), 2).weights(3), ErlangenError, "cut = 3: there are 2 layers"),
        (lambda: general_orthogonal_frame((3, 3), 2).means(0), ErlangenError, "cut = 0"),
        (lambda: DeepLinearHead(4, 2, 2).product(0), ErlangenError, "cut = 0"),
        (lambda: DeepLinearHead(4, 2, 2).entering(torch.ones(1, 4), 3), ErlangenError, "cut = 3"),
        (lambda: code_value(torch.ones(2, 3), 5), ShapeError, "code has shape"),
        (lambda: code_value(torch.ones(0, 0), 5), ShapeError, "code has shape"),
        (lambda: code_value(torch.zeros(3, 3), 5), ErlangenError, "code is zero"),
        (lambda: code_value(torch.eye(3) * math.nan, 5), NotFiniteError, "code"),
        (lambda: DeepLinearHead(4, 2, 0), ErlangenError, "layers = 0"),
        (lambda: within_variability(torch.randn(3, 2), torch.tensor([0, 1, 5]), 3), DataError, r"labels\[2\] = 5"),
        (lambda: within_variability(torch.randn(3, 2), torch.tensor([0, 1, 1]), 3), ErlangenError, r"class 2 has no sample"),
    ],
)  # fmt: skip
def test_bad_input(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call()


def test_bad_objectives() -> None:
    head, features, labels = DeepLinearHead(2, 2), torch.randn(2, 2), torch.tensor([0, 1])
    with pytest.raises(UnknownNameError, match="loss = 'hinge'"):
        collapse_objective(head, features, labels, decay=0.1, feature_decay=0.1, loss="hinge")  # pyright: ignore
    with pytest.raises(ErlangenError, match=r"feature_decay = -0.1"):
        collapse_objective(head, features, labels, decay=0.1, feature_decay=-0.1)
    with pytest.raises(ErlangenError, match=r"decay\[0\] = -0.1"):
        collapse_objective(head, features, labels, decay=-0.1, feature_decay=0.1)
    collapse_objective(head, features, labels, decay=0.0, feature_decay=0.0)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"feature_decay": math.nan}, ErlangenError, "feature_decay = nan"),
        ({"decay": math.nan}, ErlangenError, r"decay\[0\] = nan"),
        ({"decay": math.inf}, ErlangenError, r"decay\[0\] = inf"),
        ({"labels": torch.tensor([0, 2])}, DataError, r"labels\[1\] = 2, but classes are 0 to 1"),
        ({"labels": torch.tensor([-100, 0]), "loss": "cross-entropy"}, DataError, r"labels\[0\] = -100"),
        ({"labels": torch.tensor([0])}, ShapeError, r"labels \(1,\)"),
        ({"features": torch.ones(0, 2), "labels": torch.zeros(0).long()}, ShapeError, "B >= 1"),
        ({"weights": torch.ones(3)}, ShapeError, "weights has shape"),
        ({"samples": 1}, ErlangenError, "samples = 1: the batch alone has 2 rows"),
    ],
)
def test_objectives_of_rows_that_are_none(changed: dict[str, Any], error, words: str) -> None:
    given: dict[str, Any] = {
        "features": torch.ones(2, 2),
        "labels": torch.tensor([0, 1]),
        "decay": 0.1,
        "feature_decay": 0.1,
    }
    with pytest.raises(error, match=words):
        collapse_objective(DeepLinearHead(2, 2), **(given | changed))


@pytest.mark.parametrize("shape", [(4, 3), (3, 2), (4,)])
def test_metrics_of_a_weight_that_reads_other_features(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"weight has shape .* K = 4 predicted classes"):
        collapse_metrics(
            torch.randn(8, 2), torch.arange(4).repeat(2), torch.ones(shape), general_orthogonal_frame((2,) * 4)
        )


def test_means_that_coincide_say_nothing() -> None:
    features = torch.tensor([[1.0, 0.0], [1.2, 0.0], [1.1, 0.0], [1.1, 0.0]])
    with pytest.warns(CollapseWarning, match="class means coincide"):
        assert math.isnan(within_variability(features, torch.tensor([0, 0, 1, 1]), 2))


def test_means_in_a_plane_have_no_inverse_either() -> None:
    """Four classes at the corners of a square differ, though along two directions of three."""
    corners = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 0], [0, -1.0, 0]], dtype=torch.float64)
    features = torch.cat([corners + 0.1, corners - 0.1])
    with pytest.warns(CollapseWarning, match="depend on one another .*along 2 directions"):
        assert math.isnan(within_variability(features, torch.arange(4).repeat(2), 4))


def test_single_samples_cannot_spread() -> None:
    with pytest.warns(CollapseWarning, match="every class has one sample"):
        assert within_variability(torch.eye(3), torch.arange(3), 3) == 0


def test_a_silent_network_has_no_shape() -> None:
    with pytest.raises(ErlangenError, match="has no shape"):
        collapse_metrics(torch.eye(4)[:, :2].repeat(2, 1) + torch.randn(8, 2), torch.arange(4).repeat(2), torch.zeros(4, 2),
                         general_orthogonal_frame((2, 2, 2, 2)))  # fmt: skip

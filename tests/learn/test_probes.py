"""Probes against scikit-learn, and what they must leave alone."""

import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

from erlangen.errors import DataError, ErlangenError, ShapeError, UnknownNameError
from erlangen.learn import frozen_features, probe
from erlangen.measure import r_squared


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU())


def test_features_leave_the_model_bit_for_bit_alone() -> None:
    model = network().train()
    model[2].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.randn(50, 3)
    features = frozen_features(model, x, batch_size=7)
    assert not features.requires_grad
    assert features.shape == (50, 6)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.training
    assert model[1].training
    assert not model[2].training
    torch.testing.assert_close(features, model.eval()(x))


def test_modes_return_after_an_error() -> None:
    model = network().train()
    with pytest.raises(RuntimeError):
        frozen_features(model, torch.randn(5, 4))
    assert all(module.training for module in model.modules())


def rows(n: int = 600):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=generator)
    noise = torch.randn(n, 2, generator=generator)
    return x, x @ torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.0]]) + torch.tensor(
        [0.0, 3.0]
    ) + 0.5 * noise


def test_numbers_against_least_squares() -> None:
    x, y = rows()
    got = probe((x[:400], y[:400]), (x[400:], y[400:]), epochs=80, batch_size=40, lr=1e-2)
    best = torch.from_numpy(LinearRegression().fit(x[:400], y[:400]).predict(x[400:]))
    assert got.score == pytest.approx(r_squared(best, y[400:]), abs=0.01)
    assert got.trivial == pytest.approx(r_squared(y[:400].mean(0).expand(200, 2), y[400:]))
    assert 0.2 < got.trivial < got.score  # the components have other means
    assert got.components == pytest.approx([r_squared(best[:, k], y[400:, k]) for k in range(2)], abs=0.02)


def test_labels_against_logistic_regression() -> None:
    x, y = rows()
    labels = (y[:, 0] > 0).long() + (y[:, 1] > 4).long()
    got = probe((x[:400], labels[:400]), (x[400:], labels[400:]), epochs=80, batch_size=40, lr=1e-2)
    best = LogisticRegression().fit(x[:400], labels[:400]).score(x[400:], labels[400:])
    assert got.score == pytest.approx(100 * best, abs=3)
    most = labels[:400].bincount().argmax()
    assert got.trivial == pytest.approx(100 * float((labels[400:] == most).double().mean()))
    assert got.components is None


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.uint8])
def test_labels_of_any_whole_kind(dtype) -> None:
    x, _ = rows(200)
    y = (x[:, 0] > 0).to(dtype)
    assert probe((x, y), (x, y), epochs=40, batch_size=40, lr=1e-2).score > 95


def test_an_mlp_reads_what_a_linear_head_cannot() -> None:
    x, _ = rows()
    y = (x[:, 0] * x[:, 1] > 0).long()
    train, test = (x[:400], y[:400]), (x[400:], y[400:])
    assert probe(train, test, epochs=60, batch_size=40, lr=1e-2).score < 65
    deep = probe(train, test, head="mlp", widths=(32, 32), epochs=60, batch_size=40, lr=1e-2)
    assert deep.score > 88
    assert [m.out_features for m in deep.head if isinstance(m, nn.Linear)] == [32, 32, 2]


def test_the_seed_decides_and_the_global_stream_stays() -> None:
    x, y = rows(60)
    state = torch.get_rng_state()
    a, b, c = (probe((x, y), (x, y), epochs=2, seed=s).score for s in (0, 0, 1))
    assert a == b != c
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x, y: probe((x, y[:5]), (x, y)), ShapeError, r"train has features \(20, 4\) and targets \(5, 2\)"),
        (lambda x, y: probe((x, y), (x[:, :2], y)), ShapeError, "test has features"),
        (lambda x, y: probe((x, y), (x, y), head="tree"), UnknownNameError, "head = 'tree'; give 'linear' or 'mlp'"),
        (
            lambda x, y: probe((x, torch.zeros(20).long()), (x, torch.ones(20).long())),
            DataError,
            "occur in train; test has 1",
        ),
        (lambda x, y: probe((x[:0], y[:0]), (x, y)), DataError, "train has no rows"),
        (lambda x, y: frozen_features(nn.Identity(), x, batch_size=0), ErlangenError, "batch_size = 0"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call(*rows(20))

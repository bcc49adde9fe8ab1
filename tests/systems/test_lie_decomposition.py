"""Lie group decompositions: charts, Haar measure, exact special cases, convergence, bad input."""

import math
import warnings

import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, MatrixFunctionError, ShapeError
from erlangen.groups import SL, SO, Affine, Cyclic, GLPlus
from erlangen.groups.linear import TrivialGroup
from erlangen.survey import Run, Sizes
from erlangen.symmetry import Symmetry
from erlangen.systems.images.lie_decomposition import (
    GroupSamples,
    LieGroupCNN,
    PlainCNN,
    PolarChart,
    PolarSampler,
    experiment,
)
from erlangen.systems.images.lie_decomposition import (
    _properties as properties,
)
from erlangen.systems.images.lie_decomposition.rivals import PartialCNN, PartialKernel, sl2_log
from erlangen.testing import check_layer

DOUBLE = torch.float64
PLANAR = [SL(2), GLPlus(2), SO(2)]
TOL = {torch.float64: 1e-12, torch.float32: 1e-5}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(group, count: int, seed: int = 0, **options) -> GroupSamples:
    return PolarSampler(group, **options).draw(count, generator=rng(seed))


def images(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=rng(seed), dtype=DOUBLE)


def network() -> tuple[LieGroupCNN, Tensor, dict[str, list[str]]]:
    """Random elements of H make it equivariant in the limit only, so the symmetry is measured elsewhere."""
    model = LieGroupCNN(GLPlus(2), classes=3, width=(2, 4), samples=2, eval_samples=2, hidden=(6,), generator=rng())
    return model, images(3, 1, 12, 12).float(), {"skip": ["symmetry"]}


LAYERS = {"LieGroupCNN": network}


# --- the chart -------------------------------------------------------------------------------------------------------
def has_logarithm(g: Tensor) -> bool:
    """Whether the library's matrix logarithm exists for one element."""
    try:
        SL(2).log(g)
    except MatrixFunctionError:
        return False
    return True


def test_share_without_logarithm_is_that_of_scipy_and_of_the_library() -> None:
    """`e^A = g` has no real solution exactly where scipy's principal logarithm is complex."""
    g = draw(SL(2), 60, variance=0.3).g
    trace = [properties.without_logarithm(one[None]) for one in g]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's own estimate of its error, about 1e-13
        assert trace == [float(abs(scipy.linalg.logm(one.numpy()).imag).max() > 1e-6) for one in g]
    assert [not lost for lost in trace] == [has_logarithm(one) for one in g]
    assert 0.05 < sum(trace) / 60 < 0.5
    assert 0.01 < properties.missed(math.pi, 0) < 0.5


def test_left_haar_measure_of_the_affine_group() -> None:
    """``|det h|^-1 dt dh``: the group's own weight has that factor, and left and right differ."""
    assert properties.modular_error(0) < 1e-10
    group = Affine(2)
    g = group.sample(20, generator=rng(), dtype=DOUBLE)
    h, t = g[:, :2, :2], g[:, :2, 2]
    rest = group.log_haar_weight(g) - GLPlus(2).log_haar_weight(h) - t.square().sum(-1) / 2
    torch.testing.assert_close(rest, -torch.linalg.det(h).log())


# --- layers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", PLANAR, ids=str)
def test_kernels_of_moved_samples_are_kernels_on_the_moved_grid(group) -> None:
    assert properties.kernel_identity(group, 5) < 1e-10


def test_the_trivial_group_gives_a_plain_convolution() -> None:
    assert properties.trivial_error(1) < 1e-12


@pytest.mark.parametrize("dtype", TOL)
def test_quarter_turns_are_exact(dtype: torch.dtype) -> None:
    assert properties.p4_error(2, dtype) < TOL[dtype]


def test_contract_of_the_network_on_the_trivial_group() -> None:
    """As for `LAYERS`, and a group of one element is not compiled."""
    group = TrivialGroup(2)
    model = LieGroupCNN(group, classes=3, width=(2, 4), samples=2, eval_samples=2, hidden=(6,), generator=rng())
    check_layer(model, images(3, 1, 12, 12).float(), skip=["symmetry", "compile"])
    assert "image" in model.symmetry.input.name


def test_contract_of_the_plain_network() -> None:
    trivial = Symmetry(Cyclic(1), input="image", output="invariant")
    check_layer(PlainCNN(classes=3, width=(3, 4), generator=rng()), images(3, 1, 12, 12).float(), trivial)


def test_the_network_with_quarter_turns_is_invariant() -> None:
    model = LieGroupCNN(SO(2), classes=3, width=(3, 8), generator=rng()).double().eval()
    model.attach(properties.quarter_turns())
    x = images(4, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(x.rot90(1, (-2, -1))), model(x), rtol=0, atol=1e-12)
        assert float((model(x.flip(-1)) - model(x)).abs().max()) > 1e-4


def test_equivariance_errors_fall_as_the_root_of_the_samples() -> None:
    """The run claims it of GL+(2) as well."""
    points, score = properties.convergence(SL(2), (16, 64, 256), 24, 0)
    assert -0.65 <= properties.slope(points) <= -0.35
    assert score < 4


def test_without_haar_weights_they_do_not_fall() -> None:
    points, score = properties.convergence(SL(2), (16, 64, 256), 24, 0, haar=False)
    assert properties.slope(points) > -0.25
    assert score > 8


def test_training_draws_new_elements_and_evaluation_keeps_them() -> None:
    model = LieGroupCNN(SL(2), classes=3, width=(2, 4), samples=2, eval_samples=5, hidden=(6,), generator=rng())
    x = images(2, 1, 12, 12).float()
    model.train()
    torch.manual_seed(0)
    first, second = model(x), model(x)
    assert float((first - second).detach().abs().max()) > 1e-6
    model.train()  # forgets what was drawn ahead, as at the start of an epoch
    torch.manual_seed(0)
    assert torch.equal(model(x), first)
    with torch.no_grad():
        kept = model.eval()(x)
        assert torch.equal(model(x), kept)
        assert len(model.residual.inputs) == 5
        assert model.residual.inputs is model.conv.outputs is model.lift.samples
        assert torch.equal(model.train().eval()(x), kept)


@pytest.mark.parametrize("rotations", ["uniform", "equidistant"])
def test_elements_drawn_ahead_are_sets_of_the_sampler(rotations) -> None:
    sampler = PolarSampler(SL(2), angle=0.6, rotations=rotations)
    model = LieGroupCNN(SL(2), width=(2, 4), samples=3, hidden=(6,), sampler=sampler, generator=rng())
    x, seen = images(1, 1, 8, 8).float(), []
    for _ in range(3):
        model(x)
        samples = model.lift.samples
        assert samples is not None
        assert samples is model.conv.inputs is model.residual.outputs
        torch.testing.assert_close(model.conv._features, model.conv.kernel.relative(samples, samples))
        turns = PolarChart(SL(2)).coordinates(samples.g)[:, 2] / math.sqrt(2)
        if rotations == "equidistant":
            torch.testing.assert_close(turns.diff(), torch.full((2,), 0.4, dtype=DOUBLE))
        seen.append(turns[0].item())
    assert len(set(seen)) == 3


def test_fresh_elements_lie_behind_the_group_convolution_alone() -> None:
    """Before it those of the lifting, behind it others, which the residual layer keeps; in training and in eval mode."""
    model = LieGroupCNN(SL(2), width=(2, 4), samples=3, eval_samples=4, fresh=True, hidden=(6,), generator=rng())
    x = images(1, 1, 8, 8).float()
    for mode in (True, False):
        model.train(mode)(x)
        before, behind = model.lift.samples, model.conv.outputs
        assert before is model.conv.inputs
        assert behind is model.residual.inputs is model.residual.outputs
        assert before is not None
        assert behind is not None
        assert len(before) == len(behind) == (3 if mode else 4)
        assert float((before.g - behind.g).abs().amax()) > 1e-3
        torch.testing.assert_close(model.conv._features, model.conv.kernel.relative(before, behind))
        torch.testing.assert_close(model.residual._features, model.residual.kernel.relative(behind, behind))


# --- the logarithm ---------------------------------------------------------------------------------------------------
def test_the_closed_logarithm_is_that_of_scipy() -> None:
    g = draw(SL(2), 200, variance=0.3).g
    g = torch.cat([g, torch.eye(2, dtype=DOUBLE)[None], torch.tensor([[[1.0, 0.7], [0.0, 1.0]]], dtype=DOUBLE)])
    coordinates, exists = sl2_log(g)
    assert 0.05 < float((~exists).double().mean()) < 0.5
    log = torch.einsum("nd,dij->nij", coordinates, SL(2).lie_algebra.to(DOUBLE))
    for one, mine, there in zip(g, log, exists, strict=True):
        assert bool(there) == has_logarithm(one)
        if there:
            expected = torch.from_numpy(scipy.linalg.logm(one.numpy()).real)
            torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-9)
        else:
            assert not mine.any()


@pytest.mark.parametrize("logarithm", [False, True])
def test_pairs_without_logarithm_are_left_out_of_the_mean(logarithm: bool) -> None:
    """The mean over samples of the kernel is that over the samples whose quotients have one."""
    kernel = PartialKernel(2, 3, logarithm=logarithm, hidden=(6,), generator=rng()).double()
    h = draw(SL(2), 8, seed=1)
    quotients = h.inverse[:, None] @ h.g
    z = torch.tensor([0.2, -0.3], dtype=DOUBLE)
    exists = sl2_log(quotients)[1]
    assert not exists.all()
    with torch.no_grad():
        values = kernel(z, kernel.features(quotients))
        for mine, there in zip(values, exists, strict=True):
            raw = mine[there] / (len(there) / there.sum())
            torch.testing.assert_close(mine.mean(0), raw.mean(0))
            assert not mine[~there].any()


def test_where_all_logarithms_exist_nothing_is_left_out() -> None:
    options = {"width": (2, 4), "samples": 3, "eval_samples": 3, "hidden": (6,), "mask": "sigmoid"}
    sampler = PolarSampler(SL(2), 0.02, angle=0.3)
    whole = LieGroupCNN(SL(2), sampler=sampler, **options)
    part = PartialCNN(logarithm=False, sampler=sampler, **options)
    part.load_state_dict(whole.state_dict())
    x = images(2, 1, 8, 8).float()
    with torch.no_grad():
        torch.testing.assert_close(part.eval()(x), whole.eval()(x))
        sampler = PolarSampler(SL(2), 0.1)
        for model in (whole, part):
            model.attach(sampler.draw(12, generator=rng(3)))
        assert float((part(x) - whole(x)).abs().max()) > 1e-3


def test_digits_of_the_test_are_the_last_ones() -> None:
    """The first thousand were looked at while sizes were chosen."""
    full = experiment.BUDGETS["full"]
    assert full.digits.test + 1000 <= len(experiment.digits("test").y)
    assert full.circle.digits.test + 1000 <= len(experiment.digits("test").y)
    split = experiment.draw(Run("full", budget=full), Sizes(4, 2, 6), 0)
    assert torch.equal(split.test[1], experiment.digits("test").y[-6:])


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: LieGroupCNN(SL(2), samples=0), ErlangenError, "samples = 0"),
        (lambda: LieGroupCNN(SL(2), width=(4, 0)), ErlangenError, "width = 0"),
        (lambda: LieGroupCNN(SL(2), classes=0), ErlangenError, "classes = 0"),
        (lambda: LieGroupCNN(SL(2), width=(4, 4))(torch.zeros(2, 3, 8, 8)), ShapeError, "images .B, 1, H, W."),
        (lambda: LieGroupCNN(SL(2), width=(4, 4))(torch.zeros(2, 1, 1, 8)), ShapeError, "both sides at least 2"),
        (lambda: LieGroupCNN(SL(2), width=(4, 4))(torch.zeros(2, 1, 8, 8).long()), DtypeError, "x has dtype"),
        (lambda: PlainCNN(width=(4, 0)), ErlangenError, "width = 0"),
        (lambda: PlainCNN(kernel_size=4), ShapeError, "give an odd size"),
        (lambda: PlainCNN(width=(4, 4))(torch.zeros(2, 3, 8, 8)), ShapeError, "images .B, 1, H, W."),
    ],
)
def test_bad_options(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()

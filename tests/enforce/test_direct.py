"""The road of few calls: averages by numpy's singular vectors, and where the road ends."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.enforce.direct import TOLERANCE
from erlangen.errors import DegenerateFrameWarning, ErlangenWarning, ModelError, NotFiniteError


def net(x):
    """Any function of the coordinates: one number that no rotation keeps, and one vector."""
    weights = torch.linspace(-1, 2, x[0].numel(), dtype=x.dtype).view(x.shape[1:])
    return (weights * x.sin()).sum((1, 2)), (weights * x.exp()).sum(1)


def by_hand(x, group, n):
    """Scalars and vectors averaged over all signs of the singular vectors of each centred cloud, in numpy."""
    handed, centred = group[0] == "S", "E" in group
    scalars, vectors = [], []
    for cloud in x.double().numpy():
        centre = cloud.mean(0) if centred else np.zeros(n)
        axes = np.linalg.svd(cloud - centre)[2][::-1].T  # the largest is last
        frames = [axes * np.array(s) for s in itertools.product((1.0, -1.0), repeat=n)]
        frames = [f for f in frames if not handed or np.linalg.det(f) > 0]
        answers = [net(torch.from_numpy((cloud - centre) @ f)[None]) for f in frames]
        scalars.append(np.mean([a[0].item() for a in answers]))
        vectors.append(np.mean([f @ a[1][0].numpy() for f, a in zip(frames, answers, strict=True)], 0))
    return np.array(scalars), np.array(vectors)


class Part(nn.Module):
    def __init__(self, index):
        super().__init__()
        self.index, self.batches = index, []

    def forward(self, x):
        self.batches.append(len(x))
        return net(x)[self.index]


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("name", ["O", "SO", "E", "SE"])
@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_averages_are_those_of_singular_vectors(name, n, chunk):
    x = torch.randn(5, 9, n, generator=torch.Generator().manual_seed(n))
    x = x * torch.linspace(1, 2, n) + (1.5 if "E" in name else 0.0)
    scalars, vectors = by_hand(x, name, n)
    count = 2**n if name in "OE" else 2 ** (n - 1)
    for index, (output, wanted) in enumerate((("invariant", scalars), ("vectors", vectors))):
        model = Part(index)
        exact = er.symmetrize(model, er.Symmetry(f"{name}({n})", input="points", output=output), chunk=chunk)
        seen = exact._direct.average(model, x, chunk or count)
        step = chunk or count
        assert model.batches == [5 * min(step, count - first) for first in range(0, count, step)]
        for answer in (seen, exact(x)):
            assert answer.dtype == torch.float32
            np.testing.assert_allclose(answer.numpy(), wanted, rtol=2e-5, atol=2e-5)
        exact._direct = None  # the general road
        np.testing.assert_allclose(exact(x).numpy(), wanted, rtol=2e-5, atol=2e-5)


def test_points_are_carried_back_to_their_centre():
    """The identity is equivariant already, so its average is the cloud."""
    x = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([100.0, -50.0, 20.0])
    exact = er.symmetrize(nn.Identity(), er.Symmetry("SE(3)", input="points", output="points"))
    for answer in (exact(x), exact._direct.average(exact.model, x, 4), exact._direct.average(exact.model, x, 3)):
        assert (answer - x).abs().max() < 1e-5 * 100


def test_gradients_reach_the_parameters():
    """The mean over all signs of a linear map of one cloud under O(3) is zero for every weight, and 1 for the bias."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    exact = er.symmetrize(model, er.Symmetry("O(3)", input="points", output="invariant"))
    exact(torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert model[1].bias.grad.item() == 1.0
    assert model[1].weight.grad.abs().max() < 1e-6


def cross(*lengths, shift=0.0):
    """Points at both ends of perpendicular axes: eigenvalues 2 a^2, 2 b^2, ..."""
    half = torch.diag(torch.tensor(lengths, dtype=torch.float64))
    return (torch.cat([half, -half]) + shift).float()[None]


@pytest.mark.parametrize(("gap", "clear"), [(0.99, False), (1.01, True)])
@pytest.mark.parametrize("close", [0, 1])
def test_the_road_ends_at_the_tolerance(gap, clear, close):
    """Eigenvalues of distance gap * tolerance, relative to the largest, first or last."""
    step = gap * TOLERANCE
    squares = [0.5, 0.5 + step, 1.0] if close == 0 else [0.5, 1 - step, 1.0]
    exact = er.symmetrize(Part(0), er.Symmetry("SO(3)", input="points", output="invariant"))
    x = cross(*[math.sqrt(s) for s in squares])
    assert (exact._direct.average(exact.model, x, 4) is not None) == clear
    both = torch.cat([cross(1, 2, 3), x])  # one of them is enough
    assert (exact._direct.average(exact.model, both, 4) is not None) == clear
    if clear:
        exact(x)
    else:
        with pytest.warns(DegenerateFrameWarning, match="sample 1"):
            exact(both)


def test_far_clouds_are_left_to_the_general_road():
    """Six points, gaps of 3 in eigenvalues up to 18: rounding of coordinates of size s makes 2 * 6 * (4 eps)^2 * 3 s^2."""
    exact = er.symmetrize(Part(0), er.Symmetry("SE(3)", input="points", output="invariant"))
    eps = torch.finfo(torch.float32).eps
    far = math.sqrt((6 - 18 * TOLERANCE) / (36 * 16)) / eps
    for shift, clear in ((0.9 * far, True), (1.1 * far, False)):
        # Powers of two would be exact in float32; here the cloud keeps its shape because it is made of float32 steps.
        x = cross(1.0, 2.0, 3.0).double() + shift
        columns = (x - x.mean(1, keepdim=True)).float()
        assert torch.equal(columns, cross(1.0, 2.0, 3.0))
        assert (exact._direct._see(_Wide(x)) is not None) == clear


class _Wide:
    """A cloud in float64 that counts as float32, so that its shape does not round."""

    def __init__(self, x):
        self.x, self.shape, self.dtype = x, x.shape, torch.float32

    def transpose(self, *axes):
        return self.x.transpose(*axes)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("group", ["SO(3)", "SE(3)"])
def test_values_that_are_not_finite_are_named(value, group):
    x = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(2))
    x[1, 2, 0] = value
    exact = er.symmetrize(Part(0), er.Symmetry(group, input="points", output="invariant"))
    assert exact._direct.average(exact.model, x, 4) is None
    with pytest.raises(NotFiniteError, match=r"sample 1 .*\(1, 2, 0\)"):
        exact(x)


def test_the_largest_and_smallest_clouds_are_taken():
    exact = er.symmetrize(Part(0), er.Symmetry("SO(3)", input="points", output="invariant"))
    for size in (1e37, 1e-37):
        assert exact._direct._see(size * cross(1.0, 2.0, 3.0)) is not None


def test_who_may_take_the_road():
    def road(group, given="points", output="invariant", **options):
        return er.symmetrize(Part(0), er.Symmetry(group, input=given, output=output), **options)._direct

    for group in ("O(2)", "SO(3)", "E(3)", "SE(4)", "SO(13)"):
        assert road(group) is not None
    for group in ("Translation(3)", "Scaling(3)", "CSO(3)", "Similarity(3)", "O(1)", "E(1)", "Cyclic(4)"):
        assert road(group) is None
    assert road("SO(14)", samples=4) is None  # not listed
    assert road("SO(3)", how="canonical") is None
    assert road("SO(3)", given="vectors") is None
    assert road("SO(3)", given="points(axis=-2)") is None
    assert road("SO(3)", output="spd") is not None
    assert road("SE(3)", output="spd") is None  # not of order one: no linear part


def test_what_may_take_the_road():
    takes = er.symmetrize(Part(0), er.Symmetry("SO(3)", input="points", output="invariant"))._direct.takes
    x = torch.randn(2, 5, 3)
    assert takes(x)
    for other in (x.double(), x.half(), x[0], x[None], x[..., :2], x[:0], x[:, :0], [x], x.clone().requires_grad_()):
        assert not takes(other)
    with torch.autograd.forward_ad.dual_level():
        assert not takes(torch.autograd.forward_ad.make_dual(x, x))
    seen = []
    torch.func.vmap(lambda one: seen.append(takes(one)) or one)(x[None])
    assert seen == [False]


@pytest.mark.parametrize("output", ["invariant", "vectors"])
def test_autocast_reaches_the_model_alone(output):
    """What the model computes in bfloat16 is rounded; inputs and what is done with the answers are not."""
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(6))
    model = Part(output == "vectors")
    exact = er.symmetrize(model, er.Symmetry("SO(3)", input="points", output=output))
    plain = exact(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert exact._direct.takes(x)
        assert torch.equal(exact(x), plain)


def test_random_elements_and_batch_statistics_in_training_take_the_general_road():
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(3))
    symmetry = er.Symmetry("SO(3)", input="points", output="invariant")
    exact = er.symmetrize(Part(0).train(), symmetry, samples=2)
    exact(x)
    assert exact.model.batches == [4]
    exact.eval()(x)
    assert exact.model.batches == [4, 8]
    with pytest.warns(ErlangenWarning, match="BatchNorm in train mode"):
        er.symmetrize(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(15)).train(), symmetry)(x)


def test_answers_of_other_kinds_are_averaged_too():
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(4))
    symmetry = er.Symmetry("SO(3)", input="points", output="invariant")
    wanted = torch.from_numpy(by_hand(x, "SO", 3)[0])
    wide = er.symmetrize(lambda x: net(x)[0].double(), symmetry)(x)
    pair = er.symmetrize(lambda x: {"a": net(x)[0], "b": [2 * net(x)[0]]}, symmetry)(x)
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pair["a"].double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pair["b"][0].double(), 2 * wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match=r"shape \(1,\) for a batch of 8"):
        er.symmetrize(lambda x: x.sum().view(1), symmetry)(x)

"""PFGM++: the model against its closed forms, the rounding of weights, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import Generator, Tensor, nn

import erlangen as er
from erlangen.errors import DtypeError, ErlangenError, ErlangenWarning, NotFiniteError, ShapeError
from erlangen.generate import EmpiricalDenoiser, NoiseMLP, noise_levels
from erlangen.survey import Split
from erlangen.systems.diffusion.pfgmpp import PoissonFlow, poisson_field, radius, rounded_weights, sample_radius
from erlangen.systems.diffusion.pfgmpp.experiment import FINITE, Scaling
from erlangen.systems.diffusion.pfgmpp.rivals import NORM, BoundedNoise, LargeBatchFlow, ToyNetwork, from_large_batch


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def conditional(x: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
    return x + labels[:, None].to(x) + noise[:, None]


class Radial(nn.Module):
    """A network that turns with its points."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = NoiseMLP(1, width=8, generator=rng())

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return x * self.inner(x.square().sum(-1, keepdim=True), noise)


class OnPairs(PoissonFlow):
    """Of points and levels as one tree, which the contract of layers asks for."""

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return super().forward(*pair)


OnPairs.__name__ = "PoissonFlow"

# It looks at the values of levels, to refuse what is not positive, and so can neither be compiled whole nor vmapped. It is
# float64 already.
LAYERS = {
    "PoissonFlow": lambda: (
        OnPairs(Radial(), (3,), 8.0).double(),
        (randn(4, 3), randn(4, seed=1).exp()),
        {
            "symmetry": er.Symmetry(er.groups.O(3), input=("vectors", "invariant"), output="vectors"),
            "skip": {"vmap", "compile"},
        },
    )
}


# --- the model -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("D", [1.0, 8.0, math.inf])
def test_one_point_is_what_its_oracle_gives(D: float) -> None:
    point = randn(1, 4)
    denoiser = EmpiricalDenoiser(point, PoissonFlow(nn.Identity(), (4,), D).noise)
    torch.testing.assert_close(denoiser(100 * randn(9, 4, seed=1), randn(9, seed=2).exp()), point.expand(9, 4))


@pytest.mark.parametrize("D", [4.0, math.inf])
def test_samples_of_an_oracle_network_are_the_data(D: float) -> None:
    """A network that is the preconditioned oracle, inverted by hand: D = c_skip x + c_out F."""
    points, s = 0.5 * randn(5, 3), 0.5

    def net(x: Tensor, noise: Tensor) -> Tensor:
        sigma = (4 * noise).exp()
        total = (sigma.square() + s**2).sqrt()[:, None]
        clean = EmpiricalDenoiser(points, model.noise)(x * total, sigma)
        return (clean - s**2 / total**2 * (x * total)) * total / (sigma[:, None] * s)

    model = PoissonFlow(net, (3,), D)
    found = model.sample(50, levels=noise_levels(40), generator=rng())
    assert found.dtype == torch.float64
    assert float(torch.cdist(found, points).amin(1).max()) < 3 * 0.002
    assert float(model.loss(points, reference=points, generator=rng())) < 1e-20


def test_no_network_does_better_than_the_field_of_all_data() -> None:
    """The mean of the loss over many perturbations: least where the denoiser is the oracle, by what a constant adds."""
    points = 0.5 * randn(6, 2)

    class Shifted(PoissonFlow):
        def __init__(self, by: float) -> None:
            super().__init__(self.inner, (2,), 8.0)
            self.by = by

        def inner(self, x: Tensor, noise: Tensor) -> Tensor:
            sigma = (4 * noise).exp()
            total = (sigma.square() + 0.25).sqrt()[:, None]
            clean = EmpiricalDenoiser(points, self.noise)(x * total, sigma)
            return (clean - 0.25 / total**2 * (x * total)) * total / (sigma[:, None] * 0.5) + self.by

    y = points.repeat(2000, 1)
    losses = [float(Shifted(by).loss(y, generator=rng())) for by in (0.0, 0.1, -0.1)]
    assert losses[0] < min(losses[1:])
    assert sum(losses[1:]) / 2 - losses[0] == pytest.approx(0.01, rel=1e-6)


def test_large_batches_are_biased_and_less_so_when_larger() -> None:
    """At a level where all points count, the mean target of a batch of one is the point itself, and of all data their field."""
    known = 0.5 * randn(64, 2).float()
    model = LargeBatchFlow(NoiseMLP(2, width=8, generator=rng()), (2,))
    model.prepare(Split((known, known), (known, known), (known, known)))
    torch.manual_seed(0)
    assert torch.isfinite(from_large_batch(model, known[:8], known[:8]))
    model.requires_grad_(False)
    alone, all_of_it = (
        float(model.loss(known[:1].expand(500, 2), reference=r, generator=rng())) for r in (known[:1], known)
    )
    plain = float(model.loss(known[:1].expand(500, 2), generator=rng()))
    assert alone == pytest.approx(plain, rel=1e-5)
    assert abs(all_of_it - plain) > 1e-3 * plain


def test_samples_with_one_seed_are_one_and_disturbed_ones_others() -> None:
    model = PoissonFlow(NoiseMLP(3, width=8, generator=rng()), (3,), 2.5)
    first, again, other = (model.sample(4, generator=rng(), share=share) for share in (0.0, 0.0, 0.2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, other)
    torch.testing.assert_close(model.sample(4, start=model.prior(4, generator=rng())), first, rtol=0, atol=0)


def test_classes_reach_the_network() -> None:
    model = PoissonFlow(conditional, (2,), 8.0, classes=3)
    x, sigma = randn(3, 2), torch.ones(3, dtype=torch.float64)
    a, b = (model(x, sigma, torch.full((3,), k)) for k in (0, 2))
    torch.testing.assert_close(b - a, torch.full((3, 2), 2 * 0.5 / math.sqrt(1.25), dtype=torch.float64))
    assert model.sample(3, labels=torch.arange(3), levels=noise_levels(3)).shape == (3, 2)
    assert torch.isfinite(model.loss(0.5 * randn(10, 2), torch.zeros(10, dtype=torch.int64)))


def test_a_field_of_one_charge_is_coulombs() -> None:
    field = poisson_field(torch.tensor([[3.0, 0, 4.0]]), torch.zeros(1, 3))
    torch.testing.assert_close(field, torch.tensor([[3.0, 0, 4.0]]) / 125)


# --- weights of few bits ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_rounded_weights_lie_on_a_grid_with_zero(bits: int) -> None:
    net = nn.Sequential(nn.Linear(20, 30), nn.SiLU(), nn.LayerNorm(30), nn.Linear(30, 5))
    rounded = rounded_weights(net, bits)
    for (name, before), after in zip(net.named_parameters(), rounded.parameters(), strict=True):
        if before.ndim < 2:
            assert torch.equal(before, after), name
            continue
        before, after = before.detach(), after.detach()
        step = float(before.max() - before.min()) / (2**bits - 1)
        assert len(after.unique()) <= 2**bits
        assert float((after - before).abs().max()) <= step * (0.5 if bits > 1 else 1) + step / 2 + 1e-6
        torch.testing.assert_close(after / step, (after / step).round(), atol=1e-3, rtol=0)
    assert torch.equal(rounded_weights(nn.Linear(2, 2).requires_grad_(False), 8).bias, nn.Linear(2, 2).bias) is False
    zero = nn.Linear(3, 3)
    nn.init.zeros_(zero.weight)
    assert not rounded_weights(zero, 4).get_parameter("weight").any()


def test_rounding_is_that_of_numpy() -> None:
    layer = nn.Linear(7, 9)
    w = layer.weight.detach().double().numpy()
    step = (w.max() - w.min()) / 31
    zero = np.rint(-w.min() / step)
    due = (np.clip(np.rint(w / step) + zero, 0, 31) - zero) * step
    np.testing.assert_allclose(rounded_weights(layer, 5).get_parameter("weight").detach().numpy(), due, atol=1e-6)


# --- rivals ----------------------------------------------------------------------------------------------------------
def test_bounded_noise_is_that_of_one_dimension_up_to_its_bound() -> None:
    plain = PoissonFlow(nn.Identity(), (16,), 1.0).noise.sample((5000, 16), generator=rng(), dtype=torch.float64)
    got = BoundedNoise().sample((5000, 16), generator=rng(), dtype=torch.float64)
    longest = 4 * NORM
    assert float(got.norm(dim=1).max()) <= longest * (1 + 1e-12)
    near = plain.norm(dim=1) <= longest
    assert 0.3 < float(near.double().mean()) < 0.7
    assert torch.equal(got[near], plain[near])
    torch.testing.assert_close(got[~near].norm(dim=1), torch.full((int((~near).sum()),), longest).double())
    torch.testing.assert_close(torch.cosine_similarity(got, plain), torch.ones(5000).double())


@pytest.mark.parametrize("as_published", [True, False])
def test_what_the_preconditioner_passes_by_the_network_of_the_notebook(as_published: bool) -> None:
    """A network whose own answer is zero: D = c_skip c_in x as published, and c_skip x."""
    net = ToyNetwork(6, 4, as_published=as_published).double()
    nn.init.zeros_(net.last.weight)
    nn.init.zeros_(net.last.bias)
    x, sigma = randn(9, 6), randn(9, seed=1).exp()
    share = 1 / (1 + sigma.square())[:, None]
    due = share * x * (share.sqrt() if as_published else 1)
    torch.testing.assert_close(PoissonFlow(net, (6,), 100.0, data_std=1.0)(x, sigma), due)


def test_noise_stays_where_the_answer_of_a_network_has_no_rank() -> None:
    """Off the span of its answers the flow is linear: from sigma = S it leaves 1 / sqrt(1 + S^2) of a start, or as published the
    integral of 1 - (1 + sigma^2)^(-3/2) by log(sigma)."""
    start = 50 * randn(3, 6)
    for as_published, due in ((False, 1 / math.sqrt(1 + 2500)), (True, None)):
        net = ToyNetwork(6, 4, as_published=as_published).double()
        nn.init.zeros_(net.last.weight)
        nn.init.zeros_(net.last.bias)
        model = PoissonFlow(net, (6,), math.inf, data_std=1.0)
        found = model.sample(3, start=start, levels=torch.logspace(math.log10(50), -4, 2000, dtype=torch.float64))
        if due is None:
            rate = scipy.integrate.quad(lambda s: (1 - (1 + s * s) ** -1.5) / s, 0, 50)[0]
            due = math.exp(-rate)
        torch.testing.assert_close(found, due * start, rtol=1e-4, atol=0)


# --- the experiment --------------------------------------------------------------------------------------------------
def test_pixels_and_coordinates() -> None:
    scaling, x = Scaling(0.2, 0.3), torch.rand(4, 5, generator=rng())
    torch.testing.assert_close(scaling.pixels(scaling(x)), x)
    assert float(scaling.pixels(torch.tensor([-9.0]))) == 0
    assert float(scaling(torch.tensor([0.5]))) == pytest.approx(0.5)


def test_every_rival_is_in_the_table(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("pfgmpp")["rows"]
    digits = [row["model"] for row in rows if row["part"] == "digits"]
    assert digits == ["PFGM", "D=1, bounded norms", "D=1", *(f"D={D}" for D in FINITE), "D=inf"]
    assert len({row["parameters"] for row in rows if row["part"] == "digits"}) == 1


# --- bad input -------------------------------------------------------------------------------------------------------
def broken() -> nn.Linear:
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, math.nan)
    return layer


def test_one_sample_is_a_batch() -> None:
    model = PoissonFlow(NoiseMLP(2, width=4, generator=rng()), (2,), 8.0)
    assert math.isfinite(float(model.loss(torch.ones(1, 2), generator=rng()).detach()))
    assert model(torch.zeros(0, 2), torch.zeros(0)).shape == (0, 2)


@pytest.mark.parametrize("D", [0, -1.0, math.nan, -math.inf, "8", None, True])
def test_what_is_no_number_of_dimensions(D: Any) -> None:
    with pytest.raises(ErlangenError, match=r"D = .*give a positive number"):
        PoissonFlow(nn.Identity(), (2,), D)


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda m: m(randn(3, 2), torch.tensor([1.0, 0.0, 1.0])), ErlangenError, "levels of noise are positive"),
        (lambda m: m(randn(3, 5), torch.ones(3)), ShapeError, r"x has shape \(3, 5\).*build another"),
        (lambda m: m.loss(randn(3, 5)), ShapeError, r"y has shape \(3, 5\).*build another"),
        (lambda m: m.sample(3, start=randn(3, 5)), ShapeError, r"start has shape \(3, 5\).*build another"),
        (lambda m: m.sample(4, start=randn(3, 2)), ShapeError, "n = 4"),
        (lambda m: m.sample(0), ErlangenError, "n = 0"),
        (lambda m: m.sample(3, levels=noise_levels(1)), ErlangenError, "count"),
        (lambda m: m.sample(3, levels=noise_levels(5, 80.0, 0.002)), ErlangenError, "0 < low < high"),
        (lambda m: m(randn(3, 2), torch.ones(3), torch.zeros(3).long()), ErlangenError, "leave labels out"),
        (lambda m: m.loss(randn(3, 2), torch.zeros(3).long()), ErlangenError, "leave labels out"),
        (lambda m: m.loss(0.5 * randn(30, 2), reference=randn(3, 5)), ShapeError, "reference has shape"),
        (lambda m: m.loss(0.5 * randn(30, 2), reference=randn(0, 2)), ShapeError, "reference has shape"),
        (lambda _: PoissonFlow(nn.Identity(), (), 8.0), ErlangenError, "shape ="),
        (lambda _: PoissonFlow(nn.Identity(), (2,), 8.0, data_std=0.0), ErlangenError, "data_std"),
        (lambda _: PoissonFlow(nn.Identity(), (2,), 8.0, classes=-1), ErlangenError, "classes"),
        (lambda _: radius(0.0, 8.0), ErlangenError, "sigma = 0"),
        (lambda _: radius(1.0, 0.0), ErlangenError, "D = 0"),
        (lambda _: sample_radius(5, 2, math.inf, 1.0), ErlangenError, "D = inf"),
        (lambda _: sample_radius(5, 2, 8.0, 0.0), ErlangenError, "r = 0"),
        (lambda _: sample_radius(5, 0, 8.0, 1.0), ErlangenError, "dim"),
        (lambda _: poisson_field(randn(3, 2), randn(3, 4)), ShapeError, r"\[K, M\]"),
        (lambda _: rounded_weights(nn.Linear(2, 2), 0), ErlangenError, "bits"),
        (lambda _: rounded_weights(broken(), 4), NotFiniteError, "weight has"),
        (lambda m: m(randn(3, 2) / 0, torch.ones(3)), NotFiniteError, "x has"),
        (lambda m: m(randn(3, 2), torch.ones(3) / 0), ErlangenError, "positive and finite"),
        (lambda m: m(randn(3, 2), torch.ones(4)), ShapeError, "one level for each of the 3 samples"),
        (lambda m: m.loss(randn(3, 2) * math.nan), NotFiniteError, "y has"),
        (lambda m: m.loss(randn(0, 2)), ShapeError, "at least one sample"),
        (lambda m: m.loss(torch.ones(3, 2).long()), DtypeError, "y has dtype"),
        (lambda m: m.sample(3, start=randn(3, 2) / 0), NotFiniteError, "start has"),
        (lambda m: m.sample(3, share=-1.0), ErlangenError, "share = -1"),
        (lambda m: m.sample(3, share=math.nan), ErlangenError, "share = nan"),
        (lambda m: m.sample(3, start=randn(3, 2), levels=torch.tensor([math.inf, 1.0])), ErlangenError, "noise_levels"),
        (lambda m: m.prior(3, -1.0), ErlangenError, "high = -1"),
        (lambda _: PoissonFlow(nn.Identity(), 2, 8.0), ErlangenError, "shape = 2"),  # pyright: ignore
        (lambda _: PoissonFlow(nn.Identity(), (2.5,), 8.0), ErlangenError, "shape ="),  # pyright: ignore
        (lambda _: radius(math.inf, 8.0), ErlangenError, "sigma = inf"),
        (lambda _: poisson_field(randn(3, 2), randn(3, 2)), ErlangenError, "lies on a charge"),
        (lambda _: poisson_field(randn(3, 2), randn(0, 2)), ShapeError, "at least one charge"),
        (lambda _: poisson_field(randn(3, 2) / 0, randn(3, 2)), NotFiniteError, "x has"),
    ],
)
def test_what_is_refused(call: Callable[[PoissonFlow], object], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        call(PoissonFlow(NoiseMLP(2, width=4, generator=rng()).double(), (2,), 8.0))


@pytest.mark.parametrize("labels", [None, torch.zeros(3), torch.tensor([0, 1, 3]), torch.zeros(2).long()])
def test_labels_of_a_network_with_classes(labels: Any) -> None:
    with pytest.raises(ErlangenError, match="labels"):
        PoissonFlow(conditional, (2,), 8.0, classes=3)(randn(3, 2), torch.ones(3), labels)


def test_data_of_another_scale() -> None:
    model = PoissonFlow(NoiseMLP(2, width=4, generator=rng()), (2,), 8.0)
    with pytest.warns(ErlangenWarning, match="the data have the standard deviation"):
        model.loss(10 * randn(100, 2).float(), generator=rng())


def test_half_precision_does_not_spoil_the_posterior() -> None:
    points, x, sigma = randn(6, 3).half(), randn(4, 3, seed=1).half(), torch.full((4,), 0.002)
    got = EmpiricalDenoiser(points, PoissonFlow(nn.Identity(), (3,), 2048.0).noise).weights(x, sigma)
    due = EmpiricalDenoiser(points.double(), PoissonFlow(nn.Identity(), (3,), 2048.0).noise).weights(x.double(), sigma)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, due, rtol=0, atol=0)

"""GeoTDM's rivals and variants: what their names say, symmetry, scores, units of the chain and its densities."""

import math

import pytest
import torch
from torch import Tensor

from erlangen.errors import (
    ErlangenError,
    ShapeError,
)
from erlangen.generate import cosine_betas
from erlangen.groups import O
from erlangen.measure import equivariance_error
from erlangen.survey import Sizes
from erlangen.systems.motion.geotdm import (
    EGTN,
    GeoTDM,
)
from erlangen.systems.motion.geotdm import _models as models
from erlangen.systems.motion.geotdm import _properties as properties
from erlangen.systems.motion.geotdm import experiment as system
from erlangen.systems.motion.geotdm._models import VARIANTS
from erlangen.systems.motion.geotdm._scores import displacement, marginal_scores
from erlangen.systems.motion.geotdm.data import SIMULATORS, motions, particles, whole
from erlangen.systems.motion.geotdm.rivals import Regression, Scattered, moments

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(a: Tensor, b: Tensor, tol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# --- the models that are compared ------------------------------------------------------------------------------------
@torch.no_grad()
def test_variants_differ_from_ours_in_what_their_names_say() -> None:
    x, _ = particles("springs", Sizes(6, 1, 1), system.OURS, 0).train
    budget = system.BUDGETS["smoke"]

    def parts(name: str) -> dict[str, object]:
        model = models.diffusion(name, x, budget)
        return {
            "units": bool((model.units != torch.eye(10)).any()),
            "vectors": model.net.vector,
            "distances": model.distances,
            "target": model.target,
            "prior": float(model.prior.gamma[-1]),
        }

    ours = parts(models.LEARNED)
    assert ours == {"units": True, "vectors": True, "distances": 5, "target": "velocity", "prior": 10.0}
    theirs = {"units": False, "vectors": False, "distances": 0, "target": "noise", "prior": 1.0}
    changed = {name: {key for key, value in parts(name).items() if value != ours[key]} for name in VARIANTS}
    assert parts(models.PUBLISHED) == theirs
    assert changed == {
        models.PUBLISHED: set(ours),
        models.PRIOR: {"prior"},
        models.POSITIONS: {"units"},
        models.NO_VECTORS: {"vectors"},
        models.NO_DISTANCES: {"distances"},
        models.NOISE: {"target"},
    }


@pytest.mark.parametrize("law", list(SIMULATORS))
def test_all_models_answer_every_law(law: str) -> None:
    split = particles(law, Sizes(6, 1, 1), system.OURS, 0)
    x, y = split.train
    for name in system.DIFFUSIONS[law]:
        model = models.diffusion(name, x, system.BUDGETS["smoke"])
        assert bool(torch.isfinite(model.errors(x, seeded())).all()), name
        assert model.sample(x, steps=2, generator=seeded()).shape == y["pos"].shape


@torch.no_grad()
def test_several_answers_of_a_regression_turn_with_the_frames() -> None:
    x, _ = particles("charged", Sizes(6, 1, 1), system.OURS, 0).train
    doubles = {key: value.double() for key, value in x.items()}
    torch.manual_seed(0)
    model = Regression(x, 8, 1, answers=4).double()
    found = model(doubles)
    assert found.shape == (6, 4, 10, 5, 3)
    assert float((found[:, 0] - found[:, 1]).abs().max()) > 1e-4
    turn = O(3).sample(1, generator=seeded(), dtype=F64)
    close(model({**doubles, "past": doubles["past"] @ turn.mT + 2}), found @ turn.mT + 2)


def test_scattered_answers_have_the_covariance_of_what_happens() -> None:
    past = torch.randn(2000, 2, 4, 3, generator=seeded(), dtype=F64)
    mix = torch.randn(3, 3, generator=seeded(1), dtype=F64)
    away = torch.einsum("ts,bsnd->btnd", mix, torch.randn(2000, 3, 4, 3, generator=seeded(2), dtype=F64))
    model = Scattered(3, 3, 7).double()
    pos = model.kept({"past": past}) + away
    split = models.Split(*[({"past": past, "pos": pos}, {"exist": torch.ones(2000, 4, dtype=torch.bool)})] * 3)
    model.prepare(split)
    close(model.root @ model.root, mix @ mix.T, 0.1)
    drawn = model({"past": past})
    assert drawn.shape == (2000, 7, 3, 4, 3)
    noise = drawn - model.kept({"past": past})[:, None]
    close(torch.einsum("bksnd,bktnd->st", noise, noise) / (2000 * 7 * 12), mix @ mix.T, 0.1)


def test_the_best_answer_of_each_particle_counts() -> None:
    y = {"pos": torch.zeros(2, 4, 3, 3), "exist": torch.tensor([[True, True, False], [True, False, False]])}
    answer = torch.zeros(2, 5, 4, 3, 3)
    answer[..., 0] = torch.arange(5.0, 0, -1).view(5, 1, 1)
    answer[0, 2, :, 1, 0] = 0.5  # the third is best for this particle
    answer[:, :, :, 2] = 100.0
    assert float(displacement(answer, y)) == pytest.approx((1 + 0.5 + 1) / 3)
    assert float(displacement(answer[:, 0], y)) == pytest.approx(5)


def test_augmentation_turns_past_and_future_alike() -> None:
    x, y = particles("gravity", Sizes(5, 1, 1), system.OURS, 0).train
    new, target = models.turned(x, y, generator=seeded())
    assert float((new["past"] - x["past"]).abs().max()) > 0.1
    close(new["pos"], target["pos"], 1e-6)
    whole_before, whole_after = (torch.cat([t["past"], t["pos"]], 1).flatten(1, 2).double() for t in (x, new))
    close(torch.cdist(whole_after, whole_after), torch.cdist(whole_before, whole_before), 1e-5)
    assert torch.equal(new["node"], x["node"])
    assert torch.equal(target["exist"], y["exist"])


def test_marginal_scores() -> None:
    """Zero for the data; one for data of another size; the Gaussian has the moments of what it was made of."""
    x = whole(motions("springs", 64, system.OURS, 0))["pos"]
    scores = marginal_scores({"same": x, "small": 1e-3 * x}, x)
    assert scores["same"]["marginal score"] == 0
    assert scores["small"]["marginal score"] > 0.9
    flat = torch.randn(4000, 2 * 2 * 3, generator=seeded(), dtype=F64) * torch.arange(1, 13)
    data = (flat - 0.5).unflatten(1, (2, 2, 3))
    data = data - data.mean((1, 2), keepdim=True)
    drawn = moments(data).draw(4000, seeded(1))
    a, b = (z.flatten(1).T.cov() for z in (drawn, data))
    assert float((a - b).norm() / b.norm()) < 0.1


# --- units of the chain ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["free", "centre"])
def test_units_make_frames_white(mode: str) -> None:
    """In the units of the chain frames have the covariance one, whatever they were; the mean of all stays zero."""
    model = properties.small_model(mode, 0)
    mix = torch.eye(5, dtype=F64) + 0.3 * torch.randn(5, 5, generator=seeded(), dtype=F64)
    pos = torch.einsum("ts,bsnd->btnd", mix, torch.randn(4000, 5, 4, 3, generator=seeded(1), dtype=F64))
    pos = pos - pos.mean((1, 2), keepdim=True)
    x = {"pos": pos, "past": torch.zeros(4000, 3, 4, 3, dtype=F64), "node": pos.new_zeros(4000, 4, 1)}
    x = properties.inputs(model, x | {"edge_attr": pos.new_zeros(4000, 4, 4, 1)})
    model.adapt(x)
    close(model.units @ model.inverse, torch.eye(5, dtype=F64), 1e-9)
    reference = model.reference(x)
    local = model._local(x, reference)
    close(model._placed(local, reference), pos, 1e-9)
    found = torch.einsum("bsnd,btnd->st", local, local) / (4000 * 12)
    if mode == "centre":
        close(found, torch.eye(5, dtype=F64), 1e-9)
        return
    close(model.units.sum(1), model.units.sum(1).mean().expand(5), 1e-10)  # constant motions stay constant
    close(local.mean((1, 2)), torch.zeros(4000, 3, dtype=F64), 1e-12)
    rest = torch.eye(5, dtype=F64) - 0.2  # what is not the mean over time
    close(rest @ found @ rest, rest, 1e-9)


@pytest.mark.parametrize("mode", ["free", "centre", "learned"])
def test_symmetry_with_units(mode: str) -> None:
    model, x = properties.small_model(mode, 0), properties.example(0)
    x = properties.inputs(model, {**x, "pos": x["pos"].cumsum(1)})
    model.adapt(x)
    assert float((model.units - torch.eye(5)).abs().max()) > 0.1
    assert float(equivariance_error(model, None, x, elements=10, reduce="max")) < 1e-11
    assert properties.sampler_error(model, properties.example(0), 0) < 1e-11


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_the_flow_keeps_gaussians(steps: int) -> None:
    """A network that answers zero is right about white data: the flow gives its start back, other samplers shrink it."""
    net = EGTN(features=8, layers=1, generator=seeded()).double()
    model = GeoTDM(net, cosine_betas(10), 5)
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    noise = model.diffusion.project(torch.randn(steps, 50, 5, 4, 3, generator=seeded(), dtype=F64))
    close(model.sample(noise=noise, steps=steps, eta=None), noise[0])
    assert float(model.sample(noise=noise, steps=steps, eta=0.0).std()) < 0.99 * float(noise[0].std())


def test_density_counts_the_units() -> None:
    """Data and units twice as large: the chain is the same, the density per volume smaller by what the volume has grown."""
    model = properties.small_model("free", 0)
    for parameter in model.net.parameters():
        torch.nn.init.zeros_(parameter)  # a network that sees sizes would answer otherwise
    x = properties.inputs(model, properties.example(0))
    x = {**x, "pos": model.diffusion.project(x["pos"])}
    before = model.bound_terms(x, seeded(1))
    model.units.mul_(2)
    model.inverse.div_(2)
    doubled = model.bound_terms({**x, "pos": 2 * x["pos"]}, seeded(1))
    close(doubled[:, 1:], before[:, 1:])
    close(doubled[:, 0], before[:, 0] + 3 * (5 * 4 - 1) * math.log(2))


@pytest.mark.parametrize(
    ("steps", "noise", "error"), [(11, None, ErlangenError), (2, torch.zeros(2, 3, 4, 4, 3), ShapeError)]
)
def test_bad_flows(steps: int, noise: Tensor | None, error: type[ErlangenError]) -> None:
    model = GeoTDM(EGTN(features=8, layers=1), cosine_betas(10), 5)
    with pytest.raises(error, match=r"take 1 to 10|the flow needs"):
        model.sample(shape=(3, 4), steps=steps, eta=None, noise=noise)

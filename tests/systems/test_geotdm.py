"""Trajectory diffusion: symmetries of network, reference and sampler, the layer contract, and bad input."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from erlangen.errors import (
    ErlangenError,
    ErlangenWarning,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.generate import cosine_betas, linear_betas
from erlangen.groups import O
from erlangen.measure import relative_change
from erlangen.survey import Run
from erlangen.systems.motion.geotdm import (
    EGTN,
    CentreOfMass,
    DenoisingLoss,
    GeoTDM,
    LearnedPrior,
    PlainTrajectoryNet,
    SpatialLayer,
    TemporalLayer,
)
from erlangen.systems.motion.geotdm import _properties as properties
from erlangen.systems.motion.geotdm import experiment as system
from erlangen.systems.motion.geotdm._forecasts import displacement_row
from erlangen.systems.motion.geotdm._layers import Pairs, waves
from erlangen.systems.motion.geotdm.data import motions, whole
from erlangen.testing import check_layer

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(a: Tensor, b: Tensor, tol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# --- the contract ----------------------------------------------------------------------------------------------------
def single(*keys: str) -> dict[str, Tensor]:
    return {key: value for key, value in properties.example(0, torch.float32).items() if key in keys}


def whole_model() -> tuple[GeoTDM, dict[str, Tensor], dict[str, object]]:
    model = properties.small_model("learned", 0, torch.float32)
    return model, properties.inputs(model, properties.example(0, torch.float32)), {}


LAYERS = {
    "GeoTDM": whole_model,
    "EGTN": lambda: (
        EGTN(1, 1, features=8, layers=1, generator=seeded()),
        single("pos", "step", "node", "edge_attr"),
        {},
    ),
    "LearnedPrior": lambda: (
        LearnedPrior(5, 1, 1, features=8, layers=1, generator=seeded()),
        single("past", "node", "edge_attr"),
        {},
    ),
    "CentreOfMass": lambda: (CentreOfMass(5), single("past"), {}),
}


def test_contract_of_the_free_model() -> None:
    model = properties.small_model("free", 0, torch.float32)
    x = properties.inputs(model, properties.example(0, torch.float32))
    check_layer(model, x, skip=["compile"])  # the conditional one compiles, which takes long


def test_the_plain_network_has_no_symmetry() -> None:
    """The control: it ignores shifts, by centring, but not rotations."""
    x = {"pos": properties.example(0)["pos"]}
    net = PlainTrajectoryNet(features=8, layers=2, generator=seeded()).double()
    close(net({"pos": x["pos"] + 3}), net(x))
    turn = O(3).sample(1, generator=seeded(), dtype=F64)
    assert relative_change(net({"pos": x["pos"] @ turn.mT}), net(x) @ turn.mT) > 0.01


def test_the_plain_network_reads_distances() -> None:
    """They are features of pairs in every frame: the layer sees the one of its own pair."""
    x = {"pos": properties.example(0)["pos"]}
    net = PlainTrajectoryNet(features=8, layers=1, generator=seeded()).double()
    assert net.spatial[0].pair_features == 1
    before = net(x)
    with torch.no_grad():
        net.spatial[0].first.weight[:, -1] = 0
    assert relative_change(net(x), before) > 1e-3


# --- layers against formulas, pair by pair ---------------------------------------------------------------------------
@pytest.mark.parametrize("vectors", [1, 2])
def test_spatial_layer_is_its_formula(vectors: int) -> None:
    layer = SpatialLayer(4, 1, vectors=vectors, generator=seeded()).double()
    h, v, e, pos = (
        torch.randn(*shape, generator=seeded(1), dtype=F64) for shape in ((4, 4), (4, 3), (4, 4, 1), (4, 3))
    )
    apart = pos[:, None] - pos
    length = (apart.square().sum(-1, keepdim=True) + 1e-8).sqrt()
    pairs = Pairs((e[None, None],))
    if vectors == 2:
        pairs = Pairs((e[None, None], length[None, None] ** 2), apart[None, None], (apart / (length + 1))[None, None])
    after, moved = layer(h[None, None], v[None, None], pairs, None)
    for i in range(4):
        hidden = []
        step = torch.zeros(3, dtype=F64)
        for j in range(4):
            d = v[i] - v[j]
            known = [e[i, j], *([length[i, j] ** 2] if vectors == 2 else []), d.square().sum().asinh()[None]]
            known += [(d @ apart[i, j]).asinh()[None]] if vectors == 2 else []
            hidden.append(torch.nn.functional.silu(layer.first(torch.cat([h[i], h[j], *known]))))
            strength = layer.along(hidden[-1])
            step += strength[0] * d / (math.sqrt(float(d.square().sum()) + 1e-8) + 1) / 4
            if vectors == 2:
                step += strength[1] * apart[i, j] / (length[i, j] + 1) / 4
        message = layer.second(torch.stack(hidden).sum(0) / 2)
        close(after[0, 0, i], h[i] + layer.node(torch.cat([h[i], message])), 1e-7)
        close(moved[0, 0, i], step, 1e-7)


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("scaled", [True, False])
def test_temporal_layer_is_its_formula(scaled: bool, vectors: int) -> None:
    layer = TemporalLayer(4, vectors=vectors, scaled=scaled, generator=seeded()).double()
    h, v, pos, steps = (torch.randn(5, n, generator=seeded(n), dtype=F64) for n in (4, 3, 3, 3))
    more = (pos[None, :, None], steps[None, :, None]) if vectors == 2 else ()
    after, moved = layer(h[None, :, None], v[None, :, None], *more)
    q, k, value = layer.attend(h).split(4, -1)
    for t in range(5):
        r = layer.ahead(waves(t - torch.arange(5, dtype=F64), 4))
        logits = torch.stack([q[t] @ (k[s] + r[s]) for s in range(5)]) / (2 if scaled else 1)
        share = logits.softmax(0)
        close(after[0, t, 0], h[t] + sum(share[s] * (value[s] + r[s]) for s in range(5)))
        pull = [share[s] * (layer.along(value[s]) + layer.along_time(r[s])) for s in range(5)]
        wanted = sum(pull[s][0] * (v[t] - v[s]) for s in range(5))
        if vectors == 2:
            gate = layer.gate(after[0, t, 0])
            wanted = (
                wanted + sum(pull[s][1] * (pos[t] - pos[s]) for s in range(5)) + gate[0] * v[t] + gate[1] * steps[t]
            )
        close(moved[0, t, 0], wanted)


def test_sines_of_time_keep_the_sign() -> None:
    t = torch.tensor([2.0, -2.0], dtype=F64)
    ahead, back = waves(t, 6)
    close(ahead[:3], -back[:3])
    close(ahead[3:], back[3:])
    close(ahead[0], torch.tensor(2.0, dtype=F64).sin())


# --- symmetries ------------------------------------------------------------------------------------------------------
def test_properties_hold_for_other_seeds() -> None:
    run = Run("smoke", 3, system.BUDGETS["full"])
    claims = [claim for one in properties.PROPERTIES for claim in one.claims(run)]
    assert [claim.id for claim in claims if not claim.holds] == []


@pytest.mark.parametrize("mode", ["free", "centre", "learned"])
def test_sampler_moves_with_its_noise_in_float64(mode: str) -> None:
    assert properties.sampler_error(properties.small_model(mode, 1), properties.example(1), 1) < 1e-11


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_weights_of_the_learned_reference(frames: int) -> None:
    """They sum to one, and with a single known frame the reference is that frame, moved; gradients reach all of them."""
    prior = LearnedPrior(5, features=8, generator=seeded()).double()
    past = torch.randn(3, frames, 4, 3, generator=seeded(1), dtype=F64)
    weights, places = prior.combination({"past": past})
    assert weights.shape == (3, frames, 5, 4)
    close(weights.sum(1), torch.ones(3, 5, 4, dtype=F64), 1e-12)
    reference = prior({"past": past})
    close(reference, torch.einsum("btsn,btnd->bsnd", weights, places))
    if frames == 1:
        close(reference, places.expand(-1, 5, -1, -1))
    else:
        (gradient,) = torch.autograd.grad(reference.square().sum(), prior.gamma)
        assert bool((gradient != 0).all())


@torch.no_grad()
def test_the_learned_reference_starts_as_kept_velocity_or_as_published() -> None:
    """As published the weight of frame t is the mean of features at t, the same in all frames, and places are moved."""
    past = torch.randn(3, 4, 5, 3, generator=seeded(1), dtype=F64)
    ours, theirs = (LearnedPrior(6, features=8, published=old, generator=seeded()).double() for old in (False, True))
    ahead = torch.arange(1, 7).view(6, 1, 1)
    close(ours({"past": past}), past[:, -1:] + ahead * (past[:, -1:] - past[:, -2:-1]))
    weights, places = theirs.combination({"past": past})
    h, moved = theirs.net.moved({"pos": past})
    close(weights[:, :-1], h[:, :-1].mean(-1)[:, :, None].expand(-1, -1, 6, -1))
    close(places, past + moved)
    assert not theirs.before.requires_grad


def test_centre_of_mass_is_one_place() -> None:
    past = torch.randn(3, 2, 4, 3, generator=seeded(), dtype=F64)
    close(CentreOfMass(5)({"past": past}), past.mean((1, 2)).view(3, 1, 1, 3).expand(3, 5, 4, 3))
    mask = torch.tensor([[True, True, False, False]]).expand(3, -1)
    found = CentreOfMass(1)({"past": past, "mask": mask})[:, 0, 0]
    close(found, past[:, :, :2].mean((1, 2)))


@pytest.mark.parametrize("mode", ["free", "centre", "learned"])
def test_padding_has_no_influence(mode: str) -> None:
    model, x = properties.small_model(mode, 0), properties.example(0)
    x = properties.inputs(model, x)
    few = {key: value[:, :, :3] if key in ("pos", "past") else value for key, value in x.items()}
    few |= {"node": x["node"][:, :3], "edge_attr": x["edge_attr"][:, :3, :3]}
    padded = {**x, "mask": (torch.arange(4) < 3).expand(6, -1)}
    found = model(padded)
    close(found[:, :, :3], model(few))
    assert bool((found[:, :, 3] == 0).all())
    known = {key: value for key, value in padded.items() if key not in ("pos", "step")}
    drawn = model.sample(known, shape=(6, 4), steps=3, generator=seeded())
    assert bool(torch.isfinite(drawn).all())


def test_coincident_particles_have_gradients() -> None:
    pos = torch.zeros(2, 4, 3, 3, dtype=F64, requires_grad=True)
    EGTN(features=8, layers=2, generator=seeded()).double()({"pos": pos}).square().sum().backward()
    assert bool(torch.isfinite(pos.grad).all())


@pytest.mark.parametrize(("known", "particles"), [(1, 1), (1, 4), (3, 1)])
def test_one_particle_and_one_frame(known: int, particles: int) -> None:
    model = GeoTDM(EGTN(1, features=8, layers=1), cosine_betas(5), 2, LearnedPrior(2, features=8, layers=1))
    drawn = model.sample({"past": torch.randn(2, known, particles, 3, generator=seeded())}, generator=seeded())
    assert drawn.shape == (2, 2, particles, 3)
    assert bool(torch.isfinite(drawn).all())


# --- the chain -------------------------------------------------------------------------------------------------------
class Knows(nn.Module):
    """A network that knows the data: it gives the noise, or the velocity, for which they are `start`."""

    def __init__(self, start: Tensor, betas: Tensor, target: str) -> None:
        super().__init__()
        self.start, self.kept, self.target = start, (1 - betas).cumprod(0), target
        self.anything = nn.Parameter(torch.zeros(1, dtype=F64))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        kept = self.kept[(x["step"] / 1000 * len(self.kept)).round().long()].view(-1, 1, 1, 1)
        noise = (x["pos"] - kept.sqrt() * self.start) / (1 - kept).sqrt()
        return noise if self.target == "noise" else kept.sqrt() * noise - (1 - kept).sqrt() * self.start


@pytest.mark.parametrize("target", ["noise", "velocity"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_both_targets_lead_to_the_data(target: str, eta: float) -> None:
    """Plain DDPM, without reference and conditions: a perfect network has no error, and its samples are the data."""
    start = torch.randn(3, 5, 4, 3, generator=seeded(), dtype=F64)
    start = start - start.mean((1, 2), keepdim=True)
    betas = linear_betas(40)
    model = GeoTDM(Knows(start, betas, target), betas, 5, target=target)
    assert float(model.errors({"pos": start}, seeded(1)).detach().max()) < 1e-20
    close(model.sample(shape=(3, 4), eta=eta, steps=7, generator=seeded(2)), start, 1e-8)
    terms = model.bound_terms({"pos": start}, seeded(3))
    assert terms.shape == (3, 41)
    assert float(terms[:, 1:-1].abs().max()) < 1e-8  # nothing is left to say but the first term and the end
    first = 0.5 * 3 * (5 * 4 - 1) * math.log(2 * math.pi * float(betas[0]))
    close(terms[:, 0], torch.full((3,), first, dtype=F64), 1e-6)


def test_velocity_and_noise_errors_differ_by_the_signal() -> None:
    """``noise error = abar x velocity error`` for the same network answer error."""
    model, x = properties.small_model("free", 0), properties.example(0)
    x = properties.inputs(model, x)
    start = model.diffusion.project(x["pos"])
    noise = model.diffusion.noise_like(start, seeded())
    kept = model.diffusion.alpha_bars[x["step"]].view(-1, 1, 1, 1)
    noisy = model.diffusion.diffuse(start, x["step"], noise)
    told = {**x, "pos": noisy, "step": x["step"] * 100.0}
    velocity = model.diffusion.project(model.net(told))
    wanted = kept.sqrt() * noise - (1 - kept).sqrt() * start
    close(model({**x, "pos": noisy}) - noise, kept.sqrt() * (velocity - wanted))


def test_training_reduces_the_error() -> None:
    """One trajectory, whose orientation cannot be learned, so that some of the error stays."""
    torch.manual_seed(0)
    pos = torch.randn(1, 6, 3, 3, generator=seeded()).cumsum(1)
    x = {"pos": (pos - pos.mean((1, 2), keepdim=True)).expand(32, -1, -1, -1)}
    model = GeoTDM(EGTN(features=16, layers=2), cosine_betas(10), 6)
    learner = DenoisingLoss(model)
    before = float(model.errors(x, seeded(1)).detach().mean())
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        learner(x).mean().backward()
        optimizer.step()
    assert float(model.errors(x, seeded(1)).detach().mean()) < 0.8 * before


@pytest.mark.parametrize("target", ["noise", "velocity"])
def test_the_flow_converges(target: str) -> None:
    """For one point as data the flow is a rotation of the start to it; more steps come closer."""
    errors = []
    for steps in (20, 40):
        betas = cosine_betas(steps)
        start = torch.randn(3, 5, 4, 3, generator=seeded(), dtype=F64)
        start = start - start.mean((1, 2), keepdim=True)
        model = GeoTDM(Knows(start, betas, target), betas, 5, target=target)
        drawn = model.sample(shape=(3, 4), eta=None, generator=seeded(2))
        errors.append(float((drawn - start).abs().max()))
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.05


# --- bad input -------------------------------------------------------------------------------------------------------
def test_data_that_are_not_centred_are_and_it_is_said_once() -> None:
    model = properties.small_model("free", 0)
    x = properties.inputs(model, properties.example(0))
    centred = {**x, "pos": model.diffusion.project(x["pos"])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = model.errors(centred, seeded())
    with pytest.warns(ErlangenWarning, match="not centred: means over frames and particles reach"):
        close(model.errors({**centred, "pos": centred["pos"] + 5}, seeded()), expected, 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.errors({**centred, "pos": centred["pos"] + 5}, seeded())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"past": None}, ShapeError, "no frame is known"),
        ({"past": torch.zeros(6, 0, 4, 3)}, ShapeError, "no frame is known"),
        ({"past": torch.zeros(6, 3, 5, 3)}, ShapeError, "different systems"),
        ({"past": torch.full((6, 3, 4, 3), torch.nan)}, NotFiniteError, "past has"),
        ({"pos": None}, ShapeError, "no 'pos'"),
        ({"pos": torch.zeros(6, 7, 4, 3)}, ShapeError, "pos has 7 frames, but the model generates 5"),
        ({"pos": torch.zeros(6, 4, 3)}, ShapeError, r"pass \[B, T, N, 3\]"),
        ({"pos": torch.full((6, 5, 4, 3), torch.inf)}, NotFiniteError, "pos has"),
        ({"node": None}, ShapeError, "node"),
        ({"edge_attr": torch.zeros(6, 4, 4, 2)}, ShapeError, "edge_attr is"),
        ({"mask": torch.ones(6, 5, dtype=torch.bool)}, ShapeError, "mask is"),
        ({"mask": torch.ones(6, 4)}, ShapeError, "pass bool"),
    ],
)
def test_bad_trajectories(change: dict[str, Tensor | None], error: type[ErlangenError], message: str) -> None:
    x = {**properties.example(0, torch.float32), **change}
    model = properties.small_model("learned", 0, torch.float32)
    with pytest.raises(error, match=message):
        model.errors({key: value for key, value in x.items() if value is not None})


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: GeoTDM(EGTN(), cosine_betas(10), 5, CentreOfMass(6)), ErlangenError, "the prior makes 6"),
        (lambda: GeoTDM(EGTN(), linear_betas(20), 5), ErlangenError, "take more steps"),
        (lambda: GeoTDM(EGTN(), torch.full((10,), 0.01), 5), ErlangenError, "take larger ones"),
        (lambda: GeoTDM(EGTN(), cosine_betas(10), 0), ErlangenError, "frames = 0"),
        (lambda: GeoTDM(EGTN(), cosine_betas(10), 5, target="score"), UnknownNameError, "known targets are velocity"),
        (lambda: GeoTDM(EGTN(), cosine_betas(10), 5).sample(), ShapeError, "needs shape"),
        (lambda: EGTN(features=9), ErlangenError, "even"),
        (lambda: EGTN(node_features=-1), ErlangenError, "negative"),
        (lambda: LearnedPrior(0), ErlangenError, "frames = 0"),
    ],
)
def test_bad_options(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


# --- data and scores -------------------------------------------------------------------------------------------------
def test_motions() -> None:
    x = motions("charged", 8, system.OURS, 0)
    assert x["past"].shape == (8, 5, 5, 3)
    assert x["pos"].shape == (8, 10, 5, 3)
    close(x["edge_attr"][..., 0].double(), (x["node"] @ x["node"].mT).double() * (1 - torch.eye(5)))
    assert set(motions("springs", 8, system.OURS, 0)) == {"past", "pos"}  # who is joined is hidden
    assert float(whole(x)["pos"].mean((1, 2)).abs().max()) < 1e-6


def test_displacements_of_known_errors() -> None:
    """Five draws, all away by their number along one axis, the last frame by twice as much."""
    target = torch.zeros(2, 10, 5, 3)
    drawn = torch.zeros(5, 2, 10, 5, 3)
    drawn[..., 0] = torch.arange(1.0, 6).view(5, 1, 1, 1)
    drawn[:, :, -1] *= 2
    row = displacement_row(drawn, {"pos": target})
    wanted = {"ADE": 3 * 1.1, "FDE": 6.0, "ADE of the mean": 3 * 1.1, "best ADE": 1.1, "best FDE": 2.0}
    assert row == pytest.approx(wanted)
    mask = torch.arange(5).expand(2, 5) < 2
    drawn[:, :, :, 2:] = 100.0  # of particles that do not exist
    assert displacement_row(drawn, {"pos": target, "mask": mask}) == pytest.approx(wanted)
    drawn[..., 0] *= torch.tensor([1.0, -1, 0, 0, 0]).view(5, 1, 1, 1)
    assert displacement_row(drawn, {"pos": target, "mask": mask})["ADE of the mean"] == pytest.approx(1.1 / 5)

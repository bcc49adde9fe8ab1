"""Trajectories of charges and springs, the models of the comparison, and how they are trained and scored."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.generate import cosine_betas
from erlangen.groups import E
from erlangen.measure import average_displacement, best_of, final_displacement
from erlangen.nn import EGNN
from erlangen.simulate import charged, springs
from erlangen.symmetry import Symmetry
from erlangen.systems.motion._geotdm_diffusion import CentreOfMass, DenoisingLoss, GeoTDM, LearnedPrior
from erlangen.systems.motion._geotdm_network import EGTN, PlainTrajectoryNet
from erlangen.training import fit, one_cycle

Row = dict[str, Any]
Motion = dict[str, Tensor]
GIVEN, AHEAD = 5, 10
"""Frames that are known, and that follow."""
BETWEEN = 200
"""Steps of the simulation, of 1e-3, between frames."""
SAMPLES = 5
"""Futures that are drawn for each system."""
AT_ONCE = 100
"""Systems that are sampled together."""
SIMULATORS: dict[str, Callable[..., Any]] = {"charged": charged, "springs": springs}


@dataclass(frozen=True)
class Size:
    """How large the experiment is; `quick` is the number of steps of the fast sampler."""

    train: int
    test: int
    epochs: int
    rates: tuple[float, ...]
    diffusion_steps: int
    quick: int
    features: int = 32
    layers: int = 3
    batch: int = 16


# --- data -------------------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=8)
def motions(law: str, count: int, seed: int) -> Motion:
    """Systems of five particles: ``past [B, 5, 5, 3]``, ``pos [B, 10, 5, 3]``, charges and their products.

    Springs have no charges, and who is joined is hidden. The frame of the start is left out.
    """
    steps = (GIVEN + AHEAD) * BETWEEN
    data = SIMULATORS[law](count, steps=steps, record_every=BETWEEN, generator=Generator().manual_seed(seed))
    x = {"past": data.pos[:, 1 : 1 + GIVEN], "pos": data.pos[:, 1 + GIVEN :]}
    if law == "charged":
        x |= {"node": data.charges, "edge_attr": data.coupling[..., None]}
    return x


def whole(x: Motion) -> Motion:
    """All frames as one trajectory with mean zero, for the unconditional mode."""
    pos = torch.cat([x["past"], x["pos"]], 1)
    rest = {name: value for name, value in x.items() if name not in ("past", "pos")}
    return {**rest, "pos": pos - pos.mean((1, 2), keepdim=True)}


def part(x: Motion, first: int, last: int) -> Motion:
    """Systems from first to last."""
    return {name: value[first:last] for name, value in x.items()}


# --- models -----------------------------------------------------------------------------------------------------------
class Regression(nn.Module):
    """`EGNN` as it is used for forecasts: one answer for each frame ahead, starting from where velocities lead.

    It reads the speeds of particles and all distances in the known frames, charges, and how far ahead the frame is. Each
    frame ahead is a graph of its own.
    """

    def __init__(self, node_features: int, edge_features: int, size: Size) -> None:
        super().__init__()
        self.net = EGNN(
            node_features + GIVEN,
            1,
            size.features,
            layers=size.layers,
            edge_features=edge_features + GIVEN,
            velocity=True,
        )
        self.symmetry = Symmetry(E(3), input={"past": "points"}, output="points")

    def forward(self, x: Motion) -> Tensor:
        """Positions ``[B, 10, N, 3]``."""
        past = x["past"]
        count, _, particles, _ = past.shape
        ahead = torch.arange(1, AHEAD + 1, device=past.device, dtype=past.dtype).view(1, -1, 1, 1) / AHEAD
        velocity = past[:, -1:] - past[:, -2:-1]
        speeds = past.diff(dim=1).norm(dim=-1).transpose(1, 2)
        apart = (past[:, :, :, None] - past[:, :, None]).norm(dim=-1).permute(0, 2, 3, 1)
        node = torch.cat([speeds, x["node"]], -1) if "node" in x else speeds
        pairs = torch.cat([apart, x["edge_attr"]], -1) if "edge_attr" in x else apart
        drift = ahead * AHEAD * velocity
        features = torch.cat(
            [node[:, None].expand(-1, AHEAD, -1, -1), ahead.expand(count, -1, particles, -1)],
            -1,
        )
        pairs = pairs[:, None].expand(-1, AHEAD, -1, -1, -1)
        return self.net(features, past[:, -1:] + drift, drift, pairs)[1]


def diffusion(name: str, x: Motion, size: Size, frames: int = AHEAD) -> GeoTDM:
    """A diffusion model of the comparison, by name; without known frames in x it is unconditional."""
    nodes = x["node"].shape[-1] if "node" in x else 0
    pairs = x["edge_attr"].shape[-1] if "edge_attr" in x else 0
    conditional = "past" in x
    build = PlainTrajectoryNet if name.startswith("plain") else EGTN
    net = build(nodes + conditional, pairs, features=size.features, layers=size.layers)
    prior: nn.Module | None = None
    if conditional:
        learned = name == "GeoTDM, learned prior"
        prior = LearnedPrior(frames, nodes, pairs, features=size.features) if learned else CentreOfMass(frames)
    return GeoTDM(net, cosine_betas(size.diffusion_steps), frames, prior)


DIFFUSIONS = ("GeoTDM, learned prior", "GeoTDM, centre of mass", "plain diffusion")
"""Forecasters that draw samples. The plain one has the same blocks without geometry, around the centre of mass."""
REGRESSION = "EGNN regression"


def made(name: str, x: Motion, size: Size) -> nn.Module:
    """A model of the comparison, untrained."""
    if name == REGRESSION:
        nodes, pairs = (x[key].shape[-1] if key in x else 0 for key in ("node", "edge_attr"))
        return Regression(nodes, pairs, size)
    return diffusion(name, x, size, x["pos"].shape[1])


# --- training ---------------------------------------------------------------------------------------------------------
def _mean(answer: Tensor, _: Tensor) -> Tensor:
    return answer.mean()


def trained(name: str, x: Motion, size: Size, rate: float, epochs: int, seed: int) -> nn.Module:
    """One model; the learning rate falls to zero."""
    torch.manual_seed(seed)
    model = made(name, x, size)
    learner = DenoisingLoss(model) if isinstance(model, GeoTDM) else model
    fit(
        learner,
        x,
        x["pos"],
        loss=_mean if isinstance(model, GeoTDM) else (lambda answer, y: (answer - y).norm(dim=-1).mean()),
        epochs=epochs,
        batch_size=size.batch,
        optimizer=lambda p: torch.optim.Adam(p, lr=rate),
        schedule=one_cycle,
        clip=1.0,
        seed=seed,
        progress=False,
    )
    return model


def best_rate(name: str, x: Motion, size: Size, seed: int) -> float:
    """The learning rate of the smallest loss on a fifth of the data, after a third of the epochs on the others."""
    if len(size.rates) == 1:
        return size.rates[0]
    cut = 4 * len(x["pos"]) // 5
    held = part(x, cut, len(x["pos"]))

    def loss(rate: float) -> float:
        model = trained(name, part(x, 0, cut), size, rate, max(1, size.epochs // 3), seed)
        with torch.no_grad():
            if isinstance(model, GeoTDM):  # the same steps and noise for all
                errors = [model.errors(held, Generator().manual_seed(k)).mean() for k in range(4)]
                return float(torch.stack(errors).mean())
            return float((model(held) - held["pos"]).norm(dim=-1).mean())

    return min(size.rates, key=loss)


# --- scores -----------------------------------------------------------------------------------------------------------
def futures(
    model: GeoTDM, x: Motion, steps: int, seed: int, *, eta: float = 1.0, turns: Tensor | None = None
) -> Tensor:
    """Drawn futures ``[5, B, 10, N, 3]``; with `turns` ``[B, 1, 3, 3]`` the noise is turned, as the data must be."""
    count = len(x["past"])
    tiled = {name: value.repeat(SAMPLES, *[1] * (value.dim() - 1)) for name, value in x.items()}
    found: list[Tensor] = []
    for first in range(0, SAMPLES * count, AT_ONCE):
        some = part(tiled, first, first + AT_ONCE)
        shape = (steps, *some["pos"].shape)
        noise = torch.randn(shape, generator=Generator().manual_seed(seed + first), dtype=some["pos"].dtype)
        if turns is not None:
            noise = noise @ turns.repeat(SAMPLES, 1, 1, 1)[first : first + AT_ONCE].mT
        found.append(model.sample(some, steps=steps, eta=eta, noise=noise))
    return torch.cat(found).unflatten(0, (SAMPLES, count))


def displacement_row(drawn: Tensor, target: Tensor) -> Row:
    """Errors of futures ``[K, B, T, N, 3]``: means over all K, and of the best of K for each particle."""
    drawn, target = drawn.transpose(-2, -3), target.transpose(-2, -3)
    many = target.expand_as(drawn)
    nearest = [float(errors.mean()) for errors in best_of(drawn, target)]
    return {
        "ADE": float(average_displacement(drawn, many).mean()),
        "FDE": float(final_displacement(drawn, many).mean()),
        "best ADE": nearest[0],
        "best FDE": nearest[1],
    }


def timed_futures(model: GeoTDM, x: Motion, steps: int, seed: int, eta: float = 1.0) -> Row:
    """Errors of drawn futures, and how fast they are drawn."""
    begin = time.process_time()
    drawn = futures(model, x, steps, seed, eta=eta)
    seconds = time.process_time() - begin
    speed = {"trajectories per second": drawn.shape[0] * drawn.shape[1] / seconds, "sampler steps": steps}
    return displacement_row(drawn, x["pos"]) | speed


def forecast(name: str, train: Motion, test: Motion, size: Size, rate: float, seed: int) -> tuple[Row, nn.Module]:
    """Train a model and measure its forecasts; the model comes along."""
    begin = time.process_time()
    model = trained(name, train, size, rate, size.epochs, seed)
    trained_in = time.process_time() - begin
    if isinstance(model, GeoTDM):
        row = timed_futures(model, test, size.quick, seed)
    else:
        with torch.no_grad():
            begin = time.process_time()
            answer = model(test)
        row = displacement_row(answer[None], test["pos"])
        row |= {"trajectories per second": len(answer) / (time.process_time() - begin), "sampler steps": 1}
    return row | {
        "training seconds": trained_in,
        "parameters": sum(p.numel() for p in model.parameters()),
        "learning rate": f"{rate:g}",
        "epochs": size.epochs,
        "samples": size.train,
    }, model


def drift(test: Motion) -> Row:
    """Errors where every particle keeps its velocity."""
    last, before = test["past"][:, -1:], test["past"][:, -2:-1]
    ahead = torch.arange(1, AHEAD + 1, dtype=last.dtype).view(1, -1, 1, 1)
    return displacement_row((last + ahead * (last - before))[None], test["pos"]) | {"parameters": 0}


def splits(law: str, size: Size, seed: int) -> tuple[Motion, Motion]:
    """Systems to train and to test."""
    data = motions(law, size.train + size.test, seed)
    return part(data, 0, size.train), part(data, size.train, size.train + size.test)

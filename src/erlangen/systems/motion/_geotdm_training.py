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
from erlangen.nn import EGNN
from erlangen.simulate import charged, springs
from erlangen.symmetry import Symmetry
from erlangen.systems.motion._geotdm_diffusion import DenoisingLoss, GeoTDM
from erlangen.systems.motion._geotdm_network import EGTN, PlainTrajectoryNet
from erlangen.systems.motion._geotdm_priors import CentreOfMass, KeptVelocity, LearnedPrior
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
    """How large the experiment is; `quick` and `free_steps` are steps of samplers, of forecasts and of free generation."""

    train: int
    test: int
    epochs: int
    rates: tuple[float, ...]
    diffusion_steps: int
    quick: int
    free_steps: int = 12
    free_epochs: int = 3
    molecule_steps: int = 0
    features: int = 32
    layers: int = 3
    batch: int = 20


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

    It reads the speeds of particles and all distances in the known frames, features, and how far ahead the frame is. Each
    frame ahead is a graph of its own.
    """

    def __init__(self, x: Motion, size: Size) -> None:
        super().__init__()
        self.given, self.ahead, dim = x["past"].shape[1], x["pos"].shape[1], x["past"].shape[-1]
        nodes, pairs = widths(x)
        self.net = EGNN(
            nodes + self.given,
            1,
            size.features,
            layers=size.layers,
            edge_features=pairs + self.given,
            velocity=True,
            dim=dim,
        )
        self.symmetry = Symmetry(E(dim), input={"past": "points"}, output="points")

    def forward(self, x: Motion) -> Tensor:
        """Positions ``[B, frames ahead, N, n]``."""
        past = x["past"]
        count, _, particles, _ = past.shape
        ahead = torch.arange(1, self.ahead + 1, device=past.device, dtype=past.dtype).view(1, -1, 1, 1) / self.ahead
        velocity = past[:, -1:] - past[:, -2:-1]
        speeds = past.diff(dim=1).norm(dim=-1).transpose(1, 2)
        apart = (past[:, :, :, None] - past[:, :, None]).norm(dim=-1).permute(0, 2, 3, 1)
        node = torch.cat([speeds, x["node"]], -1) if "node" in x else speeds
        pairs = torch.cat([apart, x["edge_attr"]], -1) if "edge_attr" in x else apart
        drift = ahead * self.ahead * velocity
        features = torch.cat(
            [node[:, None].expand(-1, self.ahead, -1, -1), ahead.expand(count, -1, particles, -1)],
            -1,
        )
        pairs = pairs[:, None].expand(-1, self.ahead, -1, -1, -1)
        mask = x["mask"][:, None].expand(-1, self.ahead, -1) if "mask" in x else None
        return self.net(features, past[:, -1:] + drift, drift, pairs, mask=mask)[1]


def widths(x: Motion) -> tuple[int, int]:
    """Numbers per particle and per pair."""
    return x["node"].shape[-1] if "node" in x else 0, x["edge_attr"].shape[-1] if "edge_attr" in x else 0


def diffusion(name: str, x: Motion, size: Size) -> GeoTDM:
    """A diffusion model of the comparison, by name; without known frames in x it is unconditional."""
    nodes, pairs = widths(x)
    frames, dim = x["pos"].shape[1], x["pos"].shape[-1]
    conditional = "past" in x
    distances = x["past"].shape[1] if conditional and not name.startswith("plain") else 0
    build = PlainTrajectoryNet if name.startswith("plain") else EGTN
    net = build(
        nodes + conditional, pairs + distances, features=size.features, layers=size.layers, vector=True, dim=dim
    )
    prior: nn.Module | None = None
    if conditional:
        if name.startswith("plain"):
            prior = KeptVelocity(frames, dim)
        elif "learned" in name:
            prior = LearnedPrior(frames, nodes, pairs, features=size.features // 2, layers=1, dim=dim)
        else:
            prior = CentreOfMass(frames, dim)
    return GeoTDM(net, cosine_betas(size.diffusion_steps), frames, prior, distances=distances).adapt(x)


DIFFUSIONS = ("GeoTDM, learned prior", "GeoTDM, centre of mass", "plain diffusion")
"""Forecasters that draw samples. The plain one has the same blocks without geometry, around the velocity kept."""
REGRESSION = "EGNN regression"


def made(name: str, x: Motion, size: Size) -> nn.Module:
    """A model of the comparison, untrained."""
    return Regression(x, size) if name == REGRESSION else diffusion(name, x, size)


# --- training ---------------------------------------------------------------------------------------------------------
def _displacement(answer: Tensor, y: tuple[Tensor, Tensor]) -> Tensor:
    """Mean distance between positions ``[B, T, N, n]``, of the particles that exist, ``[B, 1, N]``."""
    return ((answer - y[0]).norm(dim=-1) * y[1]).sum() / (y[1].sum() * answer.shape[1])


def trained_module(model: nn.Module, x: Motion, batch: int, rate: float, epochs: int, seed: int) -> None:
    """Train a diffusion on its own loss, others on the displacement error; the learning rate falls to zero."""
    diffuses = isinstance(model, GeoTDM)
    exist = x["mask"] if "mask" in x else torch.ones(len(x["pos"]), x["pos"].shape[2], dtype=torch.bool)
    fit(
        DenoisingLoss(model) if isinstance(model, GeoTDM) else model,
        x,
        (x["pos"], exist[:, None]),
        loss=(lambda answer, _: answer.mean()) if diffuses else _displacement,
        epochs=epochs,
        batch_size=batch,
        optimizer=lambda p: torch.optim.Adam(p, lr=rate, fused=True),
        schedule=one_cycle,
        clip=1.0,
        seed=seed,
        progress=False,
    )


def trained(name: str, x: Motion, size: Size, rate: float, epochs: int, seed: int) -> nn.Module:
    """One model of the comparison, trained."""
    torch.manual_seed(seed)
    model = made(name, x, size)
    trained_module(model, x, size.batch, rate, epochs, seed)
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
            exist = held["mask"] if "mask" in held else torch.ones(held["pos"].shape[0], held["pos"].shape[2])
            return float(_displacement(model(held), (held["pos"], exist[:, None])))

    return min(size.rates, key=loss)


# --- scores -----------------------------------------------------------------------------------------------------------
def futures(
    model: GeoTDM,
    x: Motion,
    steps: int,
    seed: int,
    *,
    samples: int = SAMPLES,
    eta: float | None = 1.0,
    turns: Tensor | None = None,
) -> Tensor:
    """Drawn futures ``[samples, B, T, N, n]``; with `turns` ``[B, 1, n, n]`` the noise is turned, as the data must be."""
    count = len(x["past"])
    tiled = {name: value.repeat(samples, *[1] * (value.dim() - 1)) for name, value in x.items()}
    found: list[Tensor] = []
    for first in range(0, samples * count, AT_ONCE):
        some = part(tiled, first, first + AT_ONCE)
        shape = (steps, *some["pos"].shape)
        noise = torch.randn(shape, generator=Generator().manual_seed(seed + first), dtype=some["pos"].dtype)
        if turns is not None:
            noise = noise @ turns.repeat(samples, 1, 1, 1)[first : first + AT_ONCE].mT
        found.append(model.sample(some, steps=steps, eta=eta, noise=noise))
    return torch.cat(found).unflatten(0, (samples, count))


def displacement_row(drawn: Tensor, x: Motion) -> Row:
    """Errors of futures ``[K, B, T, N, n]``: means over all K, of the mean of K, and of the best of K for each particle."""
    mask = x["mask"] if "mask" in x else torch.ones(len(x["pos"]), x["pos"].shape[2], dtype=torch.bool)
    weight = mask.double() / mask.sum()
    away = (drawn - x["pos"]).norm(dim=-1).double()  # [K, B, T, N]

    def mean(errors: Tensor) -> float:
        """Mean over the particles that exist of ``[..., B, N]``, and over what comes before."""
        return float((errors * weight).sum((-1, -2)).mean())

    return {
        "ADE": mean(away.mean(2)),
        "FDE": mean(away[:, :, -1]),
        "ADE of the mean": mean((drawn.mean(0) - x["pos"]).norm(dim=-1).mean(1)),
        "best ADE": mean(away.mean(2).amin(0)),
        "best FDE": mean(away[:, :, -1].amin(0)),
    }


def timed_futures(
    model: GeoTDM, x: Motion, steps: int, seed: int, eta: float | None = 1.0, samples: int = SAMPLES
) -> Row:
    """Errors of drawn futures, and how fast they are drawn."""
    begin = time.process_time()
    drawn = futures(model, x, steps, seed, eta=eta, samples=samples)
    seconds = time.process_time() - begin
    speed = {"trajectories per second": drawn.shape[0] * drawn.shape[1] / seconds, "sampler steps": steps}
    return displacement_row(drawn, x) | speed


def forecast(
    name: str, train: Motion, test: Motion, size: Size, rate: float, seed: int, samples: int = SAMPLES
) -> tuple[Row, nn.Module]:
    """Train a model and measure its forecasts; the model comes along."""
    begin = time.process_time()
    model = trained(name, train, size, rate, size.epochs, seed)
    trained_in = time.process_time() - begin
    if isinstance(model, GeoTDM):
        row = timed_futures(model, test, size.quick, seed, samples=samples)
    else:
        with torch.no_grad():
            begin = time.process_time()
            answer = model(test)
        row = displacement_row(answer[None], test)
        row |= {"trajectories per second": len(answer) / (time.process_time() - begin), "sampler steps": 1}
    return row | {
        "training seconds": trained_in,
        "parameters": sum(p.numel() for p in model.parameters()),
        "learning rate": f"{rate:g}",
        "epochs": size.epochs,
        "samples": len(train["pos"]),
    }, model


def drift(test: Motion) -> Row:
    """Errors where every particle keeps its velocity."""
    kept = KeptVelocity(test["pos"].shape[1], test["pos"].shape[-1])(test)
    return displacement_row(kept[None], test) | {"parameters": 0}


FRESH = 10_000
"""Added to seeds of data, so that the systems of the tests are others than those on which the method was tried out."""


def splits(law: str, size: Size, seed: int) -> tuple[Motion, Motion]:
    """Systems to train and to test."""
    data = motions(law, size.train + size.test, FRESH + seed)
    return part(data, 0, size.train), part(data, size.train, size.train + size.test)

"""Futures that are drawn or answered for known frames, and their errors."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.groups import O
from erlangen.systems.motion.geotdm.data import Motion, part
from erlangen.systems.motion.geotdm.method import GeoTDM
from erlangen.systems.motion.geotdm.rivals import Sampled

Row = dict[str, Any]
AT_ONCE = 100
"""Systems that are sampled together."""
COMPARED = 25
"""Systems that samplers are compared on."""


def futures(
    model: GeoTDM,
    x: Motion,
    steps: int,
    samples: int,
    seed: int,
    *,
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
        noise = noise.to(some["pos"].device)
        if turns is not None:
            noise = noise @ turns.repeat(samples, 1, 1, 1)[first : first + AT_ONCE].mT
        found.append(model.sample(some, steps=steps, eta=eta, noise=noise))
    return torch.cat(found).unflatten(0, (samples, count))


def displacement_row(drawn: Tensor, x: Motion) -> Row:
    """Errors of futures ``[K, B, T, N, n]``: means over all K, of the mean of K, and of the best of K for each particle."""
    mask = x["mask"] if "mask" in x else torch.ones_like(x["pos"][:, 0, :, 0], dtype=torch.bool)
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


@torch.no_grad()
def forecast_row(model: nn.Module, x: Motion, steps: int, samples: int, seed: int) -> Row:
    """Errors of what a model draws, or answers once or several times, and how fast it is."""
    begin = time.process_time()
    if isinstance(model, Sampled):
        steps = model.model.diffusion.steps if model.all_steps else steps
        drawn = futures(model.model, x, steps, samples, seed)
    else:
        found, steps = model(x), 1
        drawn = found.transpose(0, 1) if found.dim() == 5 else found[None]
    seconds = max(time.process_time() - begin, 1e-6)
    speed = {"trajectories per second": drawn.shape[0] * drawn.shape[1] / seconds, "sampler steps": steps}
    return displacement_row(drawn, x) | speed


def sampler_row(model: nn.Module, x: Motion, few: int, samples: int, seed: int) -> Row:
    """Errors with all steps and with few, with and without noise on the way, and on turned data, of what is examined."""
    if not (isinstance(model, Sampled) and model.examined):
        return {}
    net, x = model.model, part(x, 0, COMPARED)
    turns = O(3).sample(len(x["pos"]), generator=Generator().manual_seed(seed), dtype=x["pos"].dtype)[:, None]
    turns, shift = turns.to(x["pos"].device), x["pos"].new_tensor([1.0, -2.0, 0.5])
    moved = {**x, **{key: x[key] @ turns.mT + shift for key in ("past", "pos")}}

    def error(steps: int, data: Motion = x, **options: Any) -> float:
        return displacement_row(futures(net, data, steps, samples, seed, **options), data)["ADE"]

    return {
        "ADE, few steps": error(few),
        "ADE, few steps, flow": error(few, eta=None),
        "ADE, few steps, turned": error(few, moved, turns=turns),
        "ADE, all steps": error(net.diffusion.steps),
    }

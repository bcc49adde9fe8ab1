"""Unconditional generation: how the distribution of drawn trajectories compares with that of data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

import torch
from torch import Generator, Tensor

from erlangen.survey.claims import averaged
from erlangen.systems.motion._geotdm_diffusion import GeoTDM
from erlangen.systems.motion._geotdm_scores import learned_scores
from erlangen.systems.motion._geotdm_training import AT_ONCE, Motion, Row, Size, best_rate, part, splits, trained, whole

LAW = "springs"
BINS = 24
QUANTITIES = ("pair distances", "steps")
"""Distances between particles of a frame, and how far particles move from frame to frame."""
GAUSSIAN = "Gaussian"
INDEPENDENT = "Gaussian, one variance"
DIFFUSION = "GeoTDM, unconditional"


def quantities(pos: Tensor) -> dict[str, Tensor]:
    """The numbers whose histograms are compared, of trajectories ``[B, T, N, 3]``."""
    first, second = torch.triu_indices(pos.shape[2], pos.shape[2], offset=1)
    apart = (pos[:, :, first] - pos[:, :, second]).norm(dim=-1)
    return {"pair distances": apart.flatten(), "steps": pos.diff(dim=1).norm(dim=-1).flatten()}


def histogram(values: Tensor, edges: Tensor) -> Tensor:
    """Shares of values between the edges; the last bin takes all above."""
    bins = torch.bucketize(values.clamp(max=float(edges[-1])), edges[1:-1])
    return torch.bincount(bins, minlength=len(edges) - 1).double() / len(values)


def histograms(sets: dict[str, Tensor], real: Tensor) -> dict[str, tuple[Tensor, dict[str, Tensor]]]:
    """For every quantity the edges, which reach to the 99.5th percentile of real data, and the histogram of each set."""
    found: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
    for name, values in quantities(real).items():
        edges = torch.linspace(0, float(values.double().quantile(0.995)), BINS + 1)
        shares = {key: histogram(quantities(pos)[name], edges) for key, pos in sets.items()}
        found[name] = edges, shares | {"data": histogram(values, edges)}
    return found


def marginal_scores(sets: dict[str, Tensor], real: Tensor) -> dict[str, Row]:
    """Total variation distance between histograms of each set and of real data, and the mean over quantities."""
    rows: dict[str, Row] = {key: {} for key in sets}
    for name, (_, shares) in histograms(sets, real).items():
        for key in sets:
            rows[key][name] = 0.5 * float((shares[key] - shares["data"]).abs().sum())
    return {key: row | {"marginal score": sum(row.values()) / len(row)} for key, row in rows.items()}


def gaussian_samples(pos: Tensor, count: int, generator: Generator) -> Tensor:
    """Trajectories from the Gaussian with the mean and the whole covariance of data, centred like them."""
    flat = pos.flatten(1).double()
    values, vectors = torch.linalg.eigh(flat.T.cov())
    drawn = torch.randn(count, len(values), generator=generator, dtype=torch.float64) * values.clamp(min=0).sqrt()
    drawn = (drawn @ vectors.T + flat.mean(0)).unflatten(1, pos.shape[1:])
    return (drawn - drawn.mean((1, 2), keepdim=True)).to(pos.dtype)


def independent_samples(pos: Tensor, count: int, generator: Generator) -> Tensor:
    """Centred trajectories of independent normal coordinates, with the variance of data."""
    drawn = torch.randn(count, *pos.shape[1:], generator=generator, dtype=pos.dtype)
    return (drawn - drawn.mean((1, 2), keepdim=True)) * pos.std()


def drawn_like(model: GeoTDM, x: Motion, steps: int, seed: int) -> Tensor:
    """As many trajectories as there are in x, with the features of its systems."""
    generator = Generator().manual_seed(seed)
    count, _, particles, _ = x["pos"].shape
    parts: list[Tensor] = []
    for first in range(0, count, AT_ONCE):
        some = part(x, first, first + AT_ONCE)
        shape = (len(some.pop("pos")), particles)
        parts.append(model.sample(some, shape=shape, steps=steps, eta=None, generator=generator))
    return torch.cat(parts)


def free_rows(size: Size, seeds: Sequence[int]) -> list[Row]:
    """Marginal scores, means over seeds; histograms and the divergence of the end of the chain for the first seed."""
    runs: dict[str, list[Row]] = {DIFFUSION: [], GAUSSIAN: [], INDEPENDENT: [], "other data": []}
    extra: list[Row] = []
    rate = 0.0
    for seed in seeds:
        train, test = (whole(x) for x in splits(LAW, size, seed))
        rate = rate or best_rate(DIFFUSION, train, size, seed)
        begin = time.process_time()
        model = cast("GeoTDM", trained(DIFFUSION, train, size, rate, size.free_epochs, seed))
        trained_in, begin = time.process_time() - begin, time.process_time()
        sets = {DIFFUSION: drawn_like(model, test, size.free_steps, seed)}
        seconds = time.process_time() - begin
        sets |= {
            GAUSSIAN: gaussian_samples(train["pos"], len(test["pos"]), Generator().manual_seed(seed)),
            INDEPENDENT: independent_samples(train["pos"], len(test["pos"]), Generator().manual_seed(seed)),
            "other data": train["pos"][: len(test["pos"])],
        }
        few = part(test, 0, 50)
        bound = model.bound_terms(few, Generator().manual_seed(seed))
        dimension = model.diffusion.gaussian.dimension(few["pos"].shape)  # pyright: ignore[reportOptionalMemberAccess]
        cost: Row = {
            "bound, nats per dimension": float(bound.sum(1).mean()) / dimension,
            "training seconds": trained_in,
            "trajectories per second": len(test["pos"]) / seconds,
            "sampler steps": size.free_steps,
            "parameters": sum(p.numel() for p in model.parameters()),
            "learning rate": f"{rate:g}",
            "epochs": size.free_epochs,
            "samples": size.train,
        }
        learned = learned_scores(sets, train["pos"], test["pos"], size, seed)
        for name, row in marginal_scores(sets, test["pos"]).items():
            runs[name].append(row | learned[name] | (cost if name == DIFFUSION else {}))
        if not extra:
            extra = histogram_rows(sets, test["pos"])
            extra.append({"part": "properties", "model": "schedule", "error": float(bound[:, -1].mean())})
    return [averaged(rows, part="unconditional", model=name) for name, rows in runs.items()] + extra


def histogram_rows(sets: dict[str, Tensor], real: Tensor) -> list[Row]:
    """Shares of all bins of all quantities."""
    return [
        {"part": "histograms", "model": name, "value": float(edges[k] + edges[k + 1]) / 2}
        | {key: float(share[k]) for key, share in shares.items() if key not in (INDEPENDENT, "other data")}
        for name, (edges, shares) in histograms(sets, real).items()
        for k in range(BINS)
    ]

"""GGEUR: clients draw what they lack, around what they have, in the shape that the server has put together.

Ma et al. (CVPR 2025). The covariance of a class in the space of embeddings is nearly the same wherever its pictures come from;
the server sums covariances up and never sees a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from erlangen.errors import (
    DataError,
    ErlangenError,
    ShapeError,
    check_finite,
    check_integer,
)
from erlangen.learn import ClassStatistics, Parcel, run_federated
from erlangen.learn.federated import Ask


# --- the server ------------------------------------------------------------------------------------------------------
def collect(
    data: Sequence[tuple[Tensor, Tensor]], n_classes: int, *, engine: Literal["local", "flower"] = "local"
) -> list[ClassStatistics]:
    """The statistics of all clients, as they send them: counts, means and scatters of their classes, and no row.

    Args:
        data: features ``[n, d]`` and labels ``[n]`` of each client.
        n_classes: K.
        engine: see `erlangen.learn.run_federated`.

    Raises:
        ErlangenError: no client.
        ShapeError: embeddings of different width.
    """
    widths = sorted({features.shape[-1] for features, _ in data})
    if len(widths) > 1:
        raise ShapeError(f"features of the clients have {widths} dimensions; embed all alike")

    def client(number: int, parcel: Parcel) -> Parcel:
        mine = ClassStatistics.of(*data[number], n_classes, dtype=torch.float64)
        return Parcel({"counts": mine.counts, "means": mine.means, "scatters": mine.scatters})

    def server(ask: Ask) -> list[ClassStatistics]:
        return [ClassStatistics(**answer.tensors) for answer in ask(Parcel())]

    return run_federated(server, client, clients=len(data), engine=engine)


def guide_set(counts: Tensor, share: float = 0.8) -> Tensor:
    """Which clients a class is described by: boolean ``[C, K]`` from counts ``[C, K]``.

    For every class the shortest list of clients, those with the most rows first and of equals the first ones, that holds at
    least `share` of its rows (step 0 of the method; for several domains all clients count: ``share=1``).

    >>> guide_set(torch.tensor([[5], [80], [15]]))[:, 0].tolist()
    [False, True, False]

    Raises:
        ShapeError, ErlangenError: counts of another form, a share outside of (0, 1].
        DataError: a class without rows anywhere.
    """
    if counts.ndim != 2 or counts.dtype.is_floating_point or bool((counts < 0).any()):
        raise ShapeError(
            f"counts of shape {tuple(counts.shape)} and dtype {counts.dtype}; give rows [clients, classes]"
        )
    if not 0 < share <= 1:
        raise ErlangenError(f"share = {share}; give a part of the rows, above 0 and at most 1")
    totals = counts.sum(0)
    if bool((totals == 0).any()):
        raise DataError(f"class {int((totals == 0).nonzero()[0])} has no rows at any client; leave it out")
    order = counts.argsort(dim=0, descending=True, stable=True)
    before = counts.gather(0, order).cumsum(0) - counts.gather(0, order)
    needed = (before < share * totals) & (counts.gather(0, order) > 0)
    return torch.zeros_like(counts, dtype=torch.bool).scatter(0, order, needed)


def aggregate(parts: Sequence[ClassStatistics], share: float = 0.8, *, between: bool = True) -> ClassStatistics:
    """What the server makes of the statistics of all clients: those of the rows of the guide set (step 1).

    Args:
        parts: of every client, with the same classes and features; nothing but counts, means and scatters is sent.
        share: see `guide_set`.
        between: whether the distances of the clients' means count, as in the law of total covariance and in the authors'
            code, or the spread about them alone, which is the shape without the location.

    Raises:
        ErlangenError: no client.
        DataError: a class without rows anywhere, or a covariance that is not positive semi-definite.
    """
    if not parts:
        raise ErlangenError("parts is empty; give the statistics of at least one client")
    chosen = guide_set(torch.stack([part.counts for part in parts]), share)
    total = ClassStatistics.empty(parts[0].n_classes, parts[0].dim, dtype=parts[0].means.dtype)
    spread = torch.zeros_like(total.scatters)
    for number, (part, take) in enumerate(zip(parts, chosen, strict=True)):
        _check_psd(part, number)
        kept = ClassStatistics(part.counts * take, part.means * take[:, None], part.scatters * take[:, None, None])
        total = total + kept
        spread = spread + kept.scatters
    return total if between else ClassStatistics(total.counts, total.means, spread)


def shapes(statistics: ClassStatistics, rank: int | None = None) -> Tensor:
    """Factors ``[K, d, m]`` of the covariances: principal directions times standard deviations, the largest first (step 2).

    ``factor @ factor.mT`` is the covariance, or its best approximation of rank m. What has no variance has none in what is
    drawn: there is no jitter.

    Raises:
        ErlangenError: a rank outside of 1 to d.
    """
    d = statistics.dim
    rank = d if rank is None else check_integer("rank", rank, 1)
    if rank > d:
        raise ErlangenError(f"rank = {rank}: features have {d} dimensions")
    values, directions = torch.linalg.eigh(statistics.covariances)
    values, directions = values.flip(-1)[:, :rank].clamp(min=0), directions.flip(-1)[..., :rank]
    # Below the rounding of eigh there are no directions of the data.
    kept = values > values[:, :1] * d * torch.finfo(values.dtype).eps
    return directions * (values * kept).sqrt()[:, None, :]


def _check_psd(part: ClassStatistics, number: int) -> None:
    least = torch.linalg.eigvalsh(part.scatters)[:, 0]
    trace = part.scatters.diagonal(dim1=-2, dim2=-1).sum(-1)
    bad = least < -1e-6 * trace.clamp(min=0) - 1e-12
    if bool(bad.any()):
        raise DataError(
            f"client {number} sent a scatter of class {int(bad.nonzero()[0])} with the eigenvalue {float(least[bad][0]):.2g}; "
            "scatters are positive semi-definite"
        )


# --- a client --------------------------------------------------------------------------------------------------------
def draw(anchors: Tensor, factor: Tensor, *, scale: float = 1.0, generator: Generator | None = None) -> Tensor:
    """One row around each anchor ``[n, d]``: normal, with the covariance ``scale * factor @ factor.mT``.

    >>> g = torch.Generator().manual_seed(0)
    >>> draw(torch.zeros(10000, 2), torch.tensor([[2.0], [0.0]]), generator=g).std(0).round(decimals=1).tolist()
    [2.0, 0.0]

    Rows stay in the plane through their anchor that the factor spans, and turn with it: Q times anchors and factor gives Q
    times the rows.
    """
    if anchors.ndim != 2 or factor.ndim != 2 or factor.shape[0] != anchors.shape[1]:
        raise ShapeError(f"anchors {tuple(anchors.shape)} and factor {tuple(factor.shape)}; give [n, d] and [d, m]")
    if scale < 0:
        raise ErlangenError(f"scale = {scale}; give a factor of the covariance that is not negative")
    noise = torch.randn(len(anchors), factor.shape[1], generator=generator, dtype=torch.float64).to(factor)
    return anchors + scale**0.5 * noise @ factor.mT


def fill(
    features: Tensor,
    labels: Tensor,
    factors: Tensor,
    target: int,
    *,
    scale: float = 1.0,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The rows of a client, and drawn ones until every class that it has holds `target` (step 3, one domain).

    Anchors are the client's own rows: different ones while there are enough, then all of them again and again.

    Args:
        features, labels: ``[n, d]`` and int64 ``[n]``.
        factors: of `shapes`, ``[K, d, m]``.
        target: rows of each class; a class that has as many, or none at all, gets none.
        scale: of the covariance, 1 in the paper; rows around anchors that vary themselves then have up to twice of it.
        generator: of the draws.

    Returns:
        Features and labels, the given ones first and unchanged.

    Raises:
        ShapeError, DataError, NotFiniteError: features and factors that do not fit, or a label outside of the classes.
    """
    _check_rows(features, labels, factors)
    check_integer("target", target, 1)
    made, names = [features], [labels]
    for k in labels.unique().tolist():
        own = features[labels == k]
        anchors = _anchors(own, target - len(own), generator)
        made.append(draw(anchors, factors[k].to(own), scale=scale, generator=generator))
        names.append(torch.full((len(anchors),), k, dtype=labels.dtype))
    return torch.cat(made), torch.cat(names)


def fill_across_domains(
    features: Tensor,
    labels: Tensor,
    factors: Tensor,
    prototypes: Tensor,
    target: int,
    *,
    own: int = 500,
    each: int = 500,
    scale: float = 1.0,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The rows of a client, and rows drawn around them and around the class means of other domains (step 3, several domains).

    Args:
        features, labels, factors, scale, generator: as for `fill`.
        prototypes: means of classes in the other domains ``[D, K, d]``; NaN where a domain has no row of a class.
        target: rows of each class in the end; a random part of the own ones where they are more.
        own: rows drawn around the client's own.
        each: rows drawn around each prototype.

    Returns:
        Features and labels: of every class that the client or another domain has exactly `target` rows, its own first.
    """
    _check_rows(features, labels, factors)
    for name, value, least in (("target", target, 1), ("own", own, 0), ("each", each, 0)):
        check_integer(name, value, least)
    if prototypes.ndim != 3 or prototypes.shape[1:] != factors.shape[:2]:
        raise ShapeError(
            f"prototypes has shape {tuple(prototypes.shape)}; give [D, {factors.shape[0]}, {factors.shape[1]}]"
        )
    made: list[Tensor] = []
    names: list[Tensor] = []
    for k in range(len(factors)):
        mine = features[labels == k]
        there = prototypes[:, k][~prototypes[:, k].isnan().any(1)].to(features)
        if not len(mine) + len(there):
            continue
        anchors = [_anchors(mine, own, generator)] if len(mine) else []
        pool = torch.cat([*anchors, there.repeat_interleave(each, 0)])
        drawn = draw(pool, factors[k].to(features), scale=scale, generator=generator)
        short = target - len(mine)
        if short > len(drawn):
            raise DataError(
                f"class {k}: target = {target}, but {len(mine)} own rows and {len(drawn)} drawn ones are fewer; raise own or each"
            )
        if short >= 0:
            rows = torch.cat([mine, drawn[torch.randperm(len(drawn), generator=generator)[:short]]])
        else:
            rows = mine[torch.randperm(len(mine), generator=generator)[:target].sort().values]
        made.append(rows)
        names.append(torch.full((target,), k, dtype=labels.dtype))
    return torch.cat(made), torch.cat(names)


def _anchors(own: Tensor, count: int, generator: Generator | None) -> Tensor:
    """So many of the rows, each as often as the others up to one."""
    if count <= 0:
        return own[:0]
    rounds = [torch.randperm(len(own), generator=generator) for _ in range(-(-count // len(own)))]
    return own[torch.cat(rounds)[:count]]


def _check_rows(features: Tensor, labels: Tensor, factors: Tensor) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1] or factors.ndim != 3:
        raise ShapeError(
            f"features {tuple(features.shape)}, labels {tuple(labels.shape)}, factors {tuple(factors.shape)}; give [n, d], [n] "
            "and [K, d, m]"
        )
    if factors.shape[1] != features.shape[1]:
        raise ShapeError(f"features have {features.shape[1]} dimensions, factors {factors.shape[1]}; embed all alike")
    check_finite(features, "features")
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= len(factors)):
        raise DataError(
            f"labels go from {int(labels.min())} to {int(labels.max())}; factors know {len(factors)} classes"
        )

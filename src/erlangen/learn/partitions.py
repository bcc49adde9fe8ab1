"""How labelled data are spread over clients that see different shares of the classes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, DtypeError, ErlangenError, ShapeError, check_integer


def dirichlet_partition(
    labels: Tensor, clients: int, alpha: float, *, minimum: int = 0, generator: Generator | None = None
) -> list[Tensor]:
    """Indices of the rows of each client: every class is dealt out in shares drawn from a Dirichlet distribution.

    >>> labels = torch.arange(3).repeat(100)
    >>> parts = dirichlet_partition(labels, 4, 0.1, minimum=1, generator=torch.Generator().manual_seed(0))
    >>> sum(len(part) for part in parts), min(int((labels[part] == k).sum()) for part in parts for k in range(3)) >= 1
    (300, True)

    Args:
        labels: int64 ``[N]``.
        clients: how many.
        alpha: concentration: at 0.05 a class lies with one or two clients, at 50 all clients have nearly the same.
        minimum: rows of each class that every client gets before the rest is dealt out.
        generator: of the draws.

    Returns:
        One int64 tensor for each client, sorted; together they hold every row once.

    Raises:
        DtypeError, ShapeError: labels that are no vector of integers.
        ErlangenError: an `alpha` that is not positive, no client.
        DataError: a class with fewer rows than ``minimum * clients``.
    """
    check_integer("clients", clients, 1)
    check_integer("minimum", minimum, 0)
    if labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise DtypeError(f"labels has dtype {labels.dtype}; give class numbers, for example labels.long()")
    if labels.ndim != 1:
        raise ShapeError(f"labels has shape {tuple(labels.shape)}; give [N]")
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ErlangenError(f"alpha = {alpha}; give a positive number")
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    parts: list[list[Tensor]] = [[] for _ in range(clients)]
    for k in labels.unique().tolist():
        rows = torch.nonzero(labels == k)[:, 0]
        if len(rows) < minimum * clients:
            raise DataError(
                f"class {k} has {len(rows)} rows, fewer than minimum * clients = {minimum} * {clients}; lower one of them"
            )
        rows = rows[torch.randperm(len(rows), generator=generator)]
        for client in range(clients):
            parts[client].append(rows[client * minimum : (client + 1) * minimum])
        rest = rows[clients * minimum :]
        shares = random.dirichlet(
            np.full(clients, float(alpha))
        )  # torch's has no generator, and underflows at a small alpha
        ends: list[int] = np.rint(shares.cumsum() * len(rest)).astype(int).tolist()
        ends[-1] = len(rest)
        for client, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            parts[client].append(rest[begin:end])
    return [torch.cat(part).sort().values if part else torch.zeros(0, dtype=torch.int64) for part in parts]

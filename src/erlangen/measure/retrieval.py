"""How high the right one ranks among candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from erlangen.errors import DataError, DtypeError, ErlangenError, ShapeError


@dataclass(frozen=True)
class Retrieval:
    """Mean reciprocal rank of the right candidate, and for each k the share of queries where it is among the first k.

    Attributes:
        mrr: from 0 to 1.
        hits: k -> share.
        random: the same for candidates in random order.
    """

    mrr: float
    hits: dict[int, float]
    random: tuple[float, dict[int, float]]


def retrieval(query: Tensor, candidates: Tensor, right: Tensor, *, at: Sequence[int] = (1, 5)) -> Retrieval:
    """Rank the candidates of each query by cosine and see where the right one stands.

    >>> eye = torch.eye(4)
    >>> found = retrieval(eye, eye, torch.tensor([0, 1, 2, 0]), at=(1,))
    >>> found.hits, round(found.mrr, 4)  # the last stands behind one, in a tie of three
    ({1: 0.75}, 0.8403)

    Candidates with the same cosine are taken in random order, in expectation: a query that tells nothing apart scores as a
    random order does, ``(1 + 1/2 + ... + 1/N) / N``.

    Args:
        query: ``[Q, d]``.
        candidates: ``[Q, N, d]``, or ``[N, d]`` for all queries.
        right: the index of the right candidate of each query, int64 ``[Q]``.
        at: the k of the hits.

    Raises:
        ShapeError: shapes that do not fit together.
        DtypeError, DataError: `right` holds no indices of candidates; or there are no queries.
        ErlangenError: a k below 1.
    """
    shared = candidates.ndim == 2
    n = candidates.shape[-2] if candidates.ndim >= 2 else 0
    if query.ndim != 2 or candidates.shape not in ((n, query.shape[1]), (len(query), n, query.shape[1])):
        raise ShapeError(
            f"query has shape {tuple(query.shape)} and candidates {tuple(candidates.shape)}; give [Q, d], and [Q, N, d] or [N, d]"
        )
    if right.shape != query.shape[:1]:
        raise ShapeError(f"right has shape {tuple(right.shape)}; give one index per query, [{len(query)}]")
    if right.dtype.is_floating_point or right.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise DtypeError(f"right has dtype {right.dtype}; give integers")
    if not len(query) or bool((right < 0).any()) or bool((right >= n).any()):
        raise DataError(f"right must hold at least one index, each from 0 to {n - 1}")
    if any(k < 1 for k in at):
        raise ErlangenError(f"at = {tuple(at)}; give ranks from 1")
    q, c = normalize(query.detach().double(), dim=-1), normalize(candidates.detach().double(), dim=-1)
    score = q @ c.mT if shared else torch.einsum("qd,qnd->qn", q, c)
    if bool(score.isnan().any()):
        raise DataError("query or candidates hold NaN or Inf, so there is no rank")
    due = score.gather(1, right[:, None])
    close = (score - due).abs() <= 1e-12  # cosines of equal vectors differ by rounding
    above, ties = ((score > due) & ~close).sum(1), close.sum(1)
    inverse = (
        torch.cat([torch.zeros(1, dtype=q.dtype), 1 / torch.arange(1, n + 1, dtype=q.dtype)]).cumsum(0).to(q.device)
    )
    mrr = ((inverse[above + ties] - inverse[above]) / ties).mean()
    hits = {k: float((((k - above) / ties).clamp(0, 1)).mean()) for k in at}
    return Retrieval(float(mrr), hits, (float(inverse[n] / n), {k: min(k / n, 1.0) for k in at}))

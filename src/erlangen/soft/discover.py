"""er.discover: which of several candidate symmetries a model or data have, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from torch import Tensor

from erlangen.actions import Tree
from erlangen.errors import DataError, ErlangenError, SymmetryError
from erlangen.measure.audit import audit
from erlangen.measure.bring import read_pairs
from erlangen.measure.models import ModelLike
from erlangen.measure.samples import Padded, unloaded
from erlangen.measure.scale import Scale, check_scale, rounding_of, spread_factors
from erlangen.soft.evidence import DataFinding, weigh
from erlangen.symmetry import Symmetry


@dataclass(frozen=True)
class Finding:
    """How far a model is from one symmetry: mean error, its 95 % interval, the worst error, and the verdict.

    Errors are relative to the spread of the answers, or to their norm, as `discover` was asked.

    `resampling` is the error that the action itself brings where it interpolates or loses data (pictures under rotations
    that are no quarter turns), as `erlangen.measure.error.resampling_floor` measures it on the model's answers; ``None``
    where the action is exact. An error of that size says nothing about the model.
    """

    symmetry: Symmetry
    error: float
    interval: tuple[float, float]
    worst: float
    holds: bool
    resampling: float | None = None


@overload
def discover(
    model: ModelLike,
    candidates: Sequence[Symmetry],
    x: Tree,
    *,
    scale: Scale = "spread",
    tol: float | None = None,
    elements: int | None = None,
    seed: int = 0,
) -> list[Finding]: ...
@overload
def discover(
    *,
    data: tuple[Tree, Tree] | Any,
    candidates: Sequence[Symmetry],
    groups: Tensor | Sequence[int] | None = None,
    tol: float | None = None,
    elements: int | None = None,
    seed: int = 0,
) -> list[DataFinding]: ...
def discover(
    model: ModelLike | None = None,
    candidates: Sequence[Symmetry] = (),
    x: Tree | None = None,
    *,
    data: tuple[Tree, Tree] | Any = None,
    groups: Tensor | Sequence[int] | None = None,
    scale: Scale = "spread",
    tol: float | None = None,
    elements: int | None = None,
    seed: int = 0,
) -> list[Finding] | list[DataFinding]:
    """Measure a model, or data, against candidate symmetries, the best one first.

    A model is audited, and its errors are compared with how much its answers vary, so that no offset hides a violation.

    Data have a symmetry if ``(g x, g y)`` is as likely as ``(x, y)``: a regressor that was fitted to other samples is then as
    wrong on moved samples as on those that were not moved. `erlangen.soft.evidence.weigh` says which regressor, and what this
    cannot see. Rows count as independent draws; where they are not (repeated measurements, frames of one recording), `groups`
    says which belong together.

    >>> import torch, erlangen as er
    >>> flips = [er.Symmetry(g, input="points", output="invariant") for g in ("SO(3)", "SE(3)")]
    >>> found = er.discover(lambda x: x.square().sum((1, 2), keepdim=True), flips, torch.randn(4, 5, 3))
    >>> [(f.symmetry.group.name, f.holds) for f in found]
    [('SO(3)', True), ('SE(3)', False)]
    >>> x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    >>> groups = [er.SO(3), er.Stabilizer(er.SO(3), [0.0, 0.0, 1.0])]
    >>> turns = [er.Symmetry(g, input="vectors", output="invariant") for g in groups]
    >>> found = er.discover(data=(x, x.norm(dim=1, keepdim=True) + x[:, 2:]), candidates=turns)
    >>> [f.holds for f in found], found[0].symmetry.group == groups[1]
    ([True, False], True)

    Args:
        model, x, elements, seed: as for `erlangen.audit`. With data, `elements` is a number per sample, 8 by default.
        candidates: the symmetries to try.
        data: ``(x, y)`` instead of a model, N samples, at least 20: tensors, arrays and lists as for `erlangen.audit`; targets
            are one floating tensor, or class labels ``[N]``. Also a DataLoader or data set that holds both.
        groups: with data, one integer per row ``[N]``: equal ones for rows that are not independent of one another; at least
            20 groups. They are held out, moved and resampled together.
        scale: with a model, "spread" or "norm", as for `erlangen.audit`; answers that are resampled keep the norm.
        tol: a symmetry of a model holds when the worst error is at most this (0.001 by default), or no more than rounding
            makes of answers of that size; one of data when the interval of its cost begins at or below this share of the
            targets' variance (0 by default).

    Raises:
        SymmetryError: no candidates, or for data a group that is not compact.
        ErlangenError: neither or both of a model with x and of data, or a number out of range.
        DataError: fewer than 20 samples or groups, or uneven ones.

    Warns:
        RepeatedRowsWarning: many rows have near copies, and `groups` does not say why.
    """
    candidates = list(candidates)
    if not candidates or not all(isinstance(candidate, Symmetry) for candidate in candidates):
        raise SymmetryError("candidates must be a non-empty list of er.Symmetry(group, input=..., output=...)")
    if data is not None:
        if model is not None or x is not None:
            raise ErlangenError("data is given together with a model or x; ask about one of the two")
        moves = 8 if elements is None else elements
        x, y = _pair(data)
        return weigh(x, y, candidates, groups=groups, moves=moves, tol=_tol(tol, 0.0), seed=seed)
    if groups is not None:
        raise ErlangenError("groups says which rows of data=(x, y) belong together; a model has no rows")
    if model is None or x is None:
        raise ErlangenError("give a model with x, or data=(x, y)")
    tol = _tol(tol, 1e-3)
    findings: list[Finding] = []
    check_scale(scale)
    x, _ = unloaded(x)  # once, as a loader that shuffles is read in another order each time
    for symmetry in candidates:
        report = audit(model, symmetry, x, elements=elements, seed=seed, progress=False)
        assert report.source is not None
        factors, (wrapped, data, _) = None, report.source
        if scale == "spread":
            with wrapped.measuring(quiet=True):
                factors = spread_factors(wrapped, report.symmetry, report.orbit.elements, data)
        errors = report.errors if factors is None else report.errors * factors
        rounding = 0.0 if factors is None else rounding_of(data) * factors
        holds = bool((errors <= tol).logical_or(errors <= rounding).all())
        floor = None if report.resampling is None else report.resampling["model"]
        found = Finding(symmetry, float(errors.mean()), report.interval(errors), float(errors.max()), holds, floor)
        findings.append(found)
    return sorted(findings, key=lambda finding: finding.error)


def _pair(data: Any) -> tuple[Tree, Tree]:
    """Inputs and targets, of two entries or of a loader."""
    pair = data if isinstance(data, (tuple, list)) and len(data) == 2 else unloaded(data)  # pyright: ignore[reportUnknownArgumentType]
    x, y = read_pairs(*pair)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(x, Padded):
        raise DataError(
            "data has samples of different size, which the regressor cannot compare; fit a model and ask about it"
        )
    if y is None:
        raise DataError(f"data is a {type(data).__name__} without targets; give (x, y), or a loader of such pairs")
    return x, y


def _tol(tol: float | None, default: float) -> float:
    return default if tol is None else tol

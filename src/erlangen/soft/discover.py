"""er.discover: which of several candidate symmetries a model has, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from erlangen.actions import Tree
from erlangen.errors import SymmetryError
from erlangen.measure.audit import audit
from erlangen.measure.models import ModelLike
from erlangen.symmetry import Symmetry


@dataclass(frozen=True)
class Finding:
    """How far a model is from one symmetry: mean relative error, its 95 % interval, the worst error, and the verdict."""

    symmetry: Symmetry
    error: float
    interval: tuple[float, float]
    worst: float
    holds: bool


def discover(
    model: ModelLike,
    candidates: Sequence[Symmetry],
    x: Tree,
    *,
    tol: float = 1e-3,
    elements: int | Tensor | None = None,
    seed: int = 0,
) -> list[Finding]:
    """Measure a model against candidate symmetries, the best one first.

    Args:
        model, x, elements, seed: as for `erlangen.audit`.
        candidates: the symmetries to try.
        tol: a symmetry holds when the worst relative error is below.

    >>> import torch, erlangen as er
    >>> flips = [er.Symmetry(g, input="points", output="invariant") for g in ("SO(3)", "SE(3)")]
    >>> found = er.discover(lambda x: x.square().sum((1, 2), keepdim=True), flips, torch.randn(4, 5, 3))
    >>> [(f.symmetry.group.name, f.holds) for f in found]
    [('SO(3)', True), ('SE(3)', False)]
    """
    candidates = list(candidates)
    if not candidates or not all(isinstance(candidate, Symmetry) for candidate in candidates):
        raise SymmetryError("candidates must be a non-empty list of er.Symmetry(group, input=..., output=...)")
    findings = []
    for symmetry in candidates:
        report = audit(model, symmetry, x, elements=elements, seed=seed, progress=False)
        interval = report.interval(report.errors)
        findings.append(Finding(symmetry, report.error, interval, report.worst_error, report.worst_error <= tol))
    return sorted(findings, key=lambda finding: finding.error)

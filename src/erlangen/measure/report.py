"""What an audit found: numbers, a terminal table, JSON and a self-contained HTML page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from erlangen.actions import Tree
from erlangen.measure.error import Resampling
from erlangen.measure.intervals import crossed_interval
from erlangen.measure.layers import LayerError
from erlangen.measure.metrics import Metric
from erlangen.measure.models import Model
from erlangen.measure.orbit import Orbit
from erlangen.symmetry import Symmetry

if TYPE_CHECKING:
    from rich.table import Table


class Source(NamedTuple):
    """What was audited: the model, the inputs and the targets."""

    model: Model
    x: Tree
    y: Tree | None


@dataclass(frozen=True)
class AuditReport:
    """The result of `erlangen.audit`; all tables float64 on the CPU, K elements x B samples.

    Attributes:
        model: name of the model.
        symmetry: what was declared.
        orbit: the elements visited.
        certificate: "exact" when every element of a finite group was visited and the action moves data without
            resampling; otherwise "statistical".
        errors: equivariance error ``[K, B]``, relative to what ``settings["scale"]`` says.
        base: metric of the samples as they are ``[B]``, ``None`` without labels.
        scores: metric along the orbits ``[K, B]``, ``None`` without labels.
        consensus: metric against the consensus ``[K, B]``; the relative distance to it if there is no metric.
        metric: the metric, if any.
        samples: indices of the samples covered ``[B]``.
        lie_derivative: relative error per generator, for Lie groups.
        resampling: error that belongs to the action alone, when it resamples.
        layers: error behind every layer, when asked for.
        complete: False when the audit was interrupted.
        seed, seconds, settings: how the numbers came about.
        source: the model and the data themselves, for `erlangen.explore`; in no file.
    """

    model: str
    symmetry: Symmetry
    orbit: Orbit
    certificate: str
    errors: Tensor
    base: Tensor | None
    scores: Tensor | None
    consensus: Tensor
    metric: Metric | None
    samples: Tensor
    lie_derivative: Tensor | None
    resampling: Resampling | None
    layers: list[LayerError] | None
    complete: bool
    seed: int
    seconds: float
    settings: dict[str, Any]
    source: Source | None = field(default=None, repr=False, compare=False)

    # --- numbers -------------------------------------------------------------------------------------------------
    @property
    def error(self) -> float:
        """Mean relative equivariance error."""
        return float(self.errors.mean())

    @property
    def worst_error(self) -> float:
        """Largest relative equivariance error over elements and samples."""
        return float(self.errors.max())

    @property
    def over(self) -> str:
        """What to add where errors are named: " over spread" if they are relative to how much the answers vary."""
        return " over spread" if self.settings.get("scale") == "spread" else ""

    @property
    def upright(self) -> float | None:
        """Mean metric of the samples as they are."""
        return None if self.base is None else float(self.base.mean())

    @property
    def orbit_mean(self) -> float | None:
        """Mean metric over elements and samples."""
        return None if self.scores is None else float(self.scores.mean())

    @property
    def worst_sample(self) -> float | None:
        """Mean over samples of each sample's worst score on its orbit; for accuracy: the share right everywhere."""
        if self.scores is None or self.metric is None:
            return None
        return float(self.metric.worst(self.scores, 0).values.mean())

    @property
    def worst_element(self) -> tuple[int, float] | None:
        """Index of the element with the worst mean metric, and that metric."""
        if self.scores is None or self.metric is None:
            return None
        worst = self.metric.worst(self.scores.mean(1), 0)
        return int(worst.indices), float(worst.values)

    @property
    def lost_at(self) -> str | None:
        """Name of the first layer whose features carry the symmetry in no way (best error above 1e-3)."""
        return next((layer.name for layer in self.layers or [] if layer.best[1] > 1e-3), None)

    def hardest_samples(self, n: int = 10) -> list[dict[str, Any]]:
        """The n samples that fare worst along their orbit: index, mean score (or error), and the worst element."""
        table = self.errors if self.scores is None else self.scores
        higher = self.scores is not None and self.metric is not None and self.metric.higher_is_better
        order = table.mean(0).argsort(descending=not higher, stable=True)[:n]
        worst = table.min(0) if higher else table.max(0)
        return [
            {
                "sample": int(self.samples[i]),
                "mean": float(table[:, i].mean()),
                "worst": float(worst.values[i]),
                "worst_element": int(worst.indices[i]),
                "error": float(self.errors[:, i].mean()),
            }
            for i in order
        ]

    def interval(self, table: Tensor) -> tuple[float, float]:
        """95 % bootstrap interval of the mean of a ``[K, B]`` table (1000 resamples, seeded).

        It is for other samples of the same kind, and, where the elements were drawn at random, for other elements too: both
        are resampled. A grid, all elements of a group, and elements that were given are taken as they are. Corrected for
        small numbers; see `erlangen.measure.intervals`.
        """
        return crossed_interval(table, rows_sampled=self.orbit.method == "sample", seed=self.seed)

    # --- output --------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dicts."""
        errors = self.errors.flatten()
        if errors.numel() > 1 << 24:  # torch.quantile takes no more
            errors = errors[:: errors.numel() // (1 << 23)]
        quantiles = torch.quantile(errors, errors.new_tensor([0.5, 0.95])).tolist()
        element, sample = divmod(int(self.errors.argmax()), self.errors.shape[1])
        return {
            "model": self.model,
            "symmetry": {
                "group": self.symmetry.group.name,
                "input": self.symmetry.input.name,
                "output": self.symmetry.output.name,
            },
            "certificate": self.certificate,
            "complete": self.complete,
            "elements": {"count": len(self.orbit), "method": self.orbit.method, "closed": self.orbit.closed},
            "samples": len(self.samples),
            "error": {
                "mean": self.error,
                "interval": list(self.interval(self.errors)),
                "median": quantiles[0],
                "q95": quantiles[1],
                "max": self.worst_error,
                "max_at": {"element": element, "sample": int(self.samples[sample])},
                "by_element": self.errors.mean(1).tolist(),
            },
            "metric": self._metric_dict(),
            "consensus": {
                "measure": self.metric.name if self.metric else "relative distance",
                "mean": float(self.consensus.mean()),
                "equivariant": self.orbit.closed,
            },
            "lie_derivative": None if self.lie_derivative is None else self.lie_derivative.tolist(),
            "resampling": None if self.resampling is None else dict(self.resampling),
            "layers": None
            if self.layers is None
            else [{"name": la.name, "kind": la.kind, "errors": la.errors} for la in self.layers],
            "lost_at": self.lost_at,
            "hardest_samples": self.hardest_samples(),
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "settings": self.settings,
        }

    def _metric_dict(self) -> dict[str, Any] | None:
        if self.scores is None or self.metric is None or self.worst_element is None:
            return None
        by_element = self.scores.mean(1)
        return {
            "name": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "upright": self.upright,
            "orbit_mean": self.orbit_mean,
            "interval": list(self.interval(self.scores)),
            "worst_element": {"index": self.worst_element[0], "score": self.worst_element[1]},
            "worst_sample": self.worst_sample,
            "spread": float(by_element.std(correction=0)),
            "range": float(by_element.max() - by_element.min()),
            "by_element": by_element.tolist(),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """The same as JSON text; also written to `path` if given."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        if path is not None:
            Path(path).write_text(text + "\n")
        return text

    def to_html(self, path: str | Path | None = None) -> str:
        """One self-contained page with the orbit plots; also written to `path` if given. Nothing is fetched by it."""
        from erlangen.measure.html import report_page

        page = report_page([self])
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def table(self) -> Table:
        """The summary as a rich table."""
        from erlangen.measure.terminal import summary_table

        return summary_table(self)

    def show(self) -> None:
        """Print the summary to the terminal."""
        from rich.console import Console

        Console().print(self.table())

    def __repr__(self) -> str:
        score = "" if self.orbit_mean is None or self.metric is None else f", {self.metric.name} {self.orbit_mean:.4g}"
        return (
            f"AuditReport({self.model}, {self.symmetry}, {self.certificate}: error {self.error:.3g} "
            f"(worst {self.worst_error:.3g}){score})"
        )

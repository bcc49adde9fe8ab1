"""What an audit found: numbers, a terminal table, JSON and a self-contained HTML page."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from erlangen import plots
from erlangen.actions import Tree
from erlangen.errors import MissingExtraError
from erlangen.files import write_text
from erlangen.measure.error import Resampling
from erlangen.measure.intervals import crossed_interval
from erlangen.measure.layers import KEPT, LayerError, lost_at
from erlangen.measure.metrics import Metric
from erlangen.measure.models import Model
from erlangen.measure.orbit import Orbit
from erlangen.symmetry import Symmetry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
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
        certificate: "exact" when every element of a finite group was visited and moves inputs and answers of these very
            shapes without loss; otherwise "statistical".
        errors: equivariance error ``[K, B]``, relative to what ``settings["scale"]`` says.
        base: metric of the samples as they are ``[B]``, ``None`` without labels.
        scores: metric along the orbits ``[K, B]``, ``None`` without labels.
        consensus: metric against the consensus ``[K, B]``; the relative distance to it if there is no metric.
        metric: the metric, if any.
        samples: indices of the samples covered ``[B]``.
        lie_derivative: relative error per generator, for Lie groups of dimension 64 at most.
        resampling: error that belongs to the action alone, when it resamples.
        layers: error behind every layer, when asked for.
        complete: False when the audit was interrupted.
        seed, seconds, settings: how the numbers came about.
        jumps: whether `lie_derivative` depends on the step, as that of a model with jumps does: then it means little.
        entries: relative equivariance errors ``[K, B]`` of every tensor by itself, where the model answers with a dict or
            tuple: in `errors` a large one may hide a small one. Empty otherwise.
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
    jumps: bool = False
    entries: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

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
    def entry_errors(self) -> dict[str, tuple[float, float]]:
        """Mean and worst relative error of every tensor of an answer that is a dict or tuple."""
        return {path: (float(table.mean()), float(table.max())) for path, table in self.entries.items()}

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
        """Name of the first layer behind all that keep the symmetry, as far as can be told (`erlangen.measure.layers.CAUTION`).

        None where the answers keep it, whatever the layers seem to do; and "the answer" where every layer keeps it and only what
        comes behind them does not.
        """
        if self.layers is None or self.error <= KEPT:
            return None
        return lost_at(self.layers) or "the answer"

    def hardest_samples(self, n: int = 10) -> list[dict[str, Any]]:
        """The n samples that fare worst along their orbit: index, mean score (or error), and the worst element.

        Of several elements that are equally bad for a sample, it is the one with the largest equivariance error.
        """
        table = self.errors if self.scores is None else self.scores
        higher = self.scores is not None and self.metric is not None and self.metric.higher_is_better
        order = table.mean(0).argsort(descending=not higher, stable=True)[:n]
        worst = (table.amin(0) if higher else table.amax(0))[order]
        # A sample that is wrong everywhere has many worst elements: that with the largest error says most.
        tied = torch.where(table[:, order] == worst, self.errors[:, order], -1.0).argmax(0).tolist()
        return [
            {
                "sample": int(self.samples[i]),
                "mean": float(table[:, i].mean()),
                "worst": float(value),
                "worst_element": element,
                "worst_element_name": self.element_name(element),
                "error": float(self.errors[:, i].mean()),
            }
            for i, value, element in zip(order, worst, tied, strict=True)
        ]

    def interval(self, table: Tensor) -> tuple[float, float]:
        """95 % bootstrap interval of the mean of a ``[K, B]`` table (1000 resamples, seeded).

        It is for other samples of the same kind, and, where the elements were drawn at random, for other elements too: both
        are resampled. A grid, all elements of a group, and elements that were given are taken as they are. Corrected for
        small numbers; see `erlangen.measure.intervals`.
        """
        return crossed_interval(table, rows_sampled=self.orbit.method == "sample", seed=self.seed)

    def element_name(self, index: int) -> str:
        """An element of the orbit in words, such as "rotation by 40°" or "shift by (2, 0)"."""
        from erlangen.measure.naming import element_name

        return element_name(self.symmetry.group, self.orbit.elements[index].cpu())

    # --- output --------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dicts."""
        # By numpy, which only partitions: torch sorts all, and refuses more than 2^24 numbers.
        quantiles = np.quantile(self.errors.numpy(), [0.5, 0.95]).tolist()
        element, sample = divmod(int(self.errors.argmax()), self.errors.shape[1])
        return {
            "model": self.model,
            "symmetry": {
                "group": self.symmetry.domain.name,
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
                "max_at": {
                    "element": element,
                    "name": self.element_name(element),
                    "sample": int(self.samples[sample]),
                },
                "by_element": self.errors.mean(1).tolist(),
            },
            "entries": {path: {"mean": mean, "max": worst} for path, (mean, worst) in self.entry_errors.items()},
            "metric": self._metric_dict(),
            "consensus": {
                "measure": self.metric.name if self.metric else "relative distance",
                "mean": float(self.consensus.mean()),
                "equivariant": self.orbit.closed,
            },
            "lie_derivative": None if self.lie_derivative is None else self.lie_derivative.tolist(),
            "lie_derivative_depends_on_step": self.jumps,
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
            "worst_element": {
                "index": self.worst_element[0],
                "name": self.element_name(self.worst_element[0]),
                "score": self.worst_element[1],
            },
            "worst_sample": self.worst_sample,
            "spread": float(by_element.std(correction=0)),
            "range": float(by_element.max() - by_element.min()),
            "by_element": by_element.tolist(),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """The same as JSON text; also written to `path` if given."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        if path is not None:
            write_text(path, text + "\n")
        return text

    def to_html(self, path: str | Path | None = None) -> str:
        """One self-contained page with the orbit plots; also written to `path` if given. Nothing is fetched by it."""
        from erlangen.measure.html import report_page

        page = report_page([self])
        if path is not None:
            write_text(path, page)
        return page

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict per element and sample: which they are, and the error, the score, and the errors of entries there."""
        tables = {"error": self.errors} | {f"error of {path}": table for path, table in self.entries.items()}
        if self.scores is not None and self.metric is not None:
            tables[self.metric.name] = self.scores
        columns = {name: table.tolist() for name, table in tables.items()}
        names = [self.element_name(k) for k in range(len(self.errors))]
        return [
            {"element": k, "transformation": name, "sample": sample, **{key: c[k][i] for key, c in columns.items()}}
            for k, name in enumerate(names)
            for i, sample in enumerate(self.samples.tolist())
        ]

    def to_dataframe(self) -> Any:
        """`to_rows` as a ``pandas.DataFrame``.

        Raises:
            MissingExtraError: pandas is not installed; `to_rows` needs nothing.
        """
        try:
            pandas: Any = importlib.import_module("pandas")
        except ImportError as error:
            raise MissingExtraError(
                "pandas", None, "report.to_dataframe() (report.to_rows() gives plain dicts)"
            ) from error
        return pandas.DataFrame(self.to_rows())

    def plot(self, ax: Axes | None = None) -> Figure:
        """The metric over the orbit, or the error without labels, drawn by matplotlib.

        Args:
            ax: your axes, for the first of the drawings; polar ones for rotations of the plane. By default a new figure with
                all of them.
        """
        from erlangen.measure.plots import orbit_plots

        drawings = [drawing for row in orbit_plots([self]) for drawing in row]
        if ax is not None:
            drawings, axes, figure = drawings[:1], [ax], cast("Figure", ax.get_figure(root=True))
        else:
            polar = [i for i, drawing in enumerate(drawings) if drawing.polar]
            figure, axes = plots.panels(len(drawings), polar=polar)
        with plots.style():
            for drawing, place in zip(drawings, axes, strict=True):
                drawing.draw(place)
        return figure

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

"""Reports on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from erlangen.measure.report import AuditReport


def score_text(value: float | None, name: str | None) -> str:
    """A score for people: accuracies in percent, others with four digits."""
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if name == "accuracy" else f"{value:.4g}"


def summary_table(report: AuditReport) -> Table:
    """Two columns: what was measured, and what came out."""
    table = Table(title=f"{report.model}: {report.symmetry}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    low, high = report.interval(report.errors)
    table.add_row("equivariance error" + report.over, f"{report.error:.3g}  (95 % interval {low:.3g} to {high:.3g})")
    where = report.element_name(int(report.errors.max(1).values.argmax()))
    table.add_row("worst error", f"{report.worst_error:.3g}  ({where})")
    for path, (mean, worst) in report.entry_errors.items():
        table.add_row(f"error of {path}", f"{mean:.3g}  (worst {worst:.3g})")
    name = report.metric.name if report.metric else None
    if report.scores is not None and report.worst_element is not None:
        table.add_row(f"{name} as given", score_text(report.upright, name))
        table.add_row(f"{name} over the orbit", score_text(report.orbit_mean, name))
        table.add_row(
            f"{name}, worst element",
            f"{score_text(report.worst_element[1], name)}  ({report.element_name(report.worst_element[0])})",
        )
        right = "right for every element" if name == "accuracy" else f"{name}, worst of each sample"
        table.add_row(right, score_text(report.worst_sample, name))
    measure = name or "relative distance"
    table.add_row(f"{measure} to consensus", score_text(float(report.consensus.mean()), name))
    if report.lie_derivative is not None:
        values = "  ".join(f"{value:.2g}" for value in report.lie_derivative.tolist())
        table.add_row(
            "Lie derivative", values + ("  (depends on the step: the model has jumps)" if report.jumps else "")
        )
    if report.resampling is not None:
        floor = report.resampling
        table.add_row(
            "resampling alone", f"changes the answer by {floor['model']:.3g}, the input by {floor['input']:.3g}"
        )
    if report.layers is not None:
        table.add_row("symmetry lost at", report.lost_at or "no layer: the answers keep it")
    table.add_row("certificate", f"{report.certificate}, {len(report.orbit)} elements ({report.orbit.method})")
    state = "" if report.complete else "  (interrupted: the finished samples only)"
    table.add_row("samples", f"{len(report.samples)}{state}")
    table.add_row("seed, time", f"{report.seed}, {report.seconds:.2f} s, {report.settings['dtype']}")
    return table

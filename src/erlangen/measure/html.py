"""The report as one self-contained HTML page: no scripts, no fonts, nothing fetched."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from erlangen.errors import SymmetryError
from erlangen.files import write_text
from erlangen.measure.drawings import Drawing, drawing_svg
from erlangen.measure.hardest import Hard, hard_samples
from erlangen.measure.layers import CAUTION, LayerError
from erlangen.measure.pictures import svg_of
from erlangen.measure.plots import orbit_plots, sample_plot, value_name
from erlangen.measure.report import AuditReport
from erlangen.measure.terminal import score_text

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6472; --paper: #ffffff; --panel: #f5f6f8; --rule: #d9dde3 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaee; --soft: #a6aebb; --paper: #14171c; --panel: #1d2128; --rule: #343a44 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1120px; padding: 2.2rem 1.4rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem }
p, figcaption { max-width: 46rem }
h1, h2, p, code, td, dd, summary, figcaption { overflow-wrap: anywhere } .lead { color: var(--soft); margin-top: 0 }
code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--panel); padding: .1em .3em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0 }
th, td { text-align: right; padding: .42rem .9rem; border-bottom: 1px solid var(--rule) }
th { color: var(--soft); font-weight: 600; font-size: .88rem }
td:first-child, th:first-child { text-align: left; padding-left: 0 }
tbody td:first-child { font-weight: 600 }
.plots { display: flex; flex-wrap: wrap; gap: 1.2rem 1.6rem; align-items: flex-start }
.plots svg { max-width: 100%; height: auto }
details { margin: .8rem 0 } summary { cursor: pointer; font-weight: 600 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0 }
dt { color: var(--soft) } dd { margin: 0 }
figure { margin: .8rem 0 1.4rem } figcaption { margin-bottom: .3rem } figure svg { width: 245px }
@media (max-width: 700px) {  /* a phone: facts below their names, a table as one block for each of its rows */
  body { padding: 1.2rem .8rem 3rem } h1 { font-size: 1.4rem } dl { display: block } dd { margin: 0 0 .5rem }
  table, tbody, tr, td { display: block } thead { display: none } table { width: 100% }
  tr { border-bottom: 1px solid var(--rule); padding: .4rem 0 }
  td, td:first-child { border: 0; padding: .1rem 0; text-align: right; min-height: 1.5em }
  td::before { content: attr(data-label); float: left; padding-right: 1rem; color: var(--soft); font-weight: 400 }
}
"""


def report_page(reports: Sequence[AuditReport], *, title: str | None = None, intro: Sequence[str] = ()) -> str:
    """One page for one or several reports of the same symmetry; paragraphs of `intro` are plain text.

    Raises:
        SymmetryError: reports of different symmetries cannot share a page.
    """
    reports = list(reports)
    if not reports:
        raise SymmetryError("reports is empty; give at least one AuditReport")
    first = reports[0]
    for report in reports[1:]:
        if report.symmetry != first.symmetry:
            raise SymmetryError(f"reports mix {first.symmetry} and {report.symmetry}; write one page for each")
    heading = title or f"{first.model} under {first.symmetry.domain.name}"
    sym = first.symmetry
    parts = [
        f"<h1>{html.escape(heading)}</h1>",
        f'<p class="lead"><code>{html.escape(sym.domain.name)}</code> acts on the input as '
        f"<code>{html.escape(sym.input.name)}</code> and on the output as <code>{html.escape(sym.output.name)}</code>. "
        f"{len(first.orbit)} elements ({html.escape(first.orbit.method)}), {len(first.samples)} samples.</p>",
        *(f"<p>{html.escape(paragraph)}</p>" for paragraph in intro),
        _summary(reports),
        f"<h2>{html.escape(value_name(first).capitalize())} over the orbit</h2>",
        *(_figures(row) for row in orbit_plots(reports)),
    ]
    hard = [(report, samples) for report in reports if (samples := hard_samples(report))]
    if hard:
        parts += [
            "<h2>The hardest samples</h2>",
            "<p>The samples that fare worst along their orbit: as they are given, and moved by the element that is worst for "
            "each.</p>",
        ]
        for report, samples in hard:
            parts += [f"<h3>{html.escape(report.model)}</h3>"] * (len(reports) > 1) + list(map(_pair, samples))
    scatters = [plot for plot in map(sample_plot, reports) if plot]
    if scatters:
        parts += [
            "<h2>Samples by their orbit curves</h2>",
            "<p>Each dot is a sample. Samples whose score changes in the same way along the orbit lie together; a model "
            "that keeps the symmetry puts all samples of one score on one spot.</p>",
            _figures(scatters),
        ]
    parts += [_details(report) for report in reports]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(heading)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def write_report(
    reports: Sequence[AuditReport], path: str | Path, *, title: str | None = None, intro: Sequence[str] = ()
) -> Path:
    """Write `report_page` to a file; returns its path."""
    path = Path(path)
    write_text(path, report_page(reports, title=title, intro=intro))
    return path


def _figures(drawings: Sequence[Drawing]) -> str:
    """Drawings side by side, each a figure of its own: they wrap as the page is narrow."""
    return '<div class="plots">' + "".join(map(drawing_svg, drawings)) + "</div>"


def _pair(hard: Hard) -> str:
    """One sample, its pictures as given beside those moved."""
    drawn = [svg_of(drawing) for two in zip(hard.given, hard.moved, strict=True) for drawing in two]
    words = html.escape(f"Sample {hard.sample}: {hard.words}.")
    return f'<figure><figcaption>{words}</figcaption><div class="plots">{"".join(drawn)}</div></figure>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    header = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    # On a narrow page each cell stands in a line of its own, behind the name of its column.
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{html.escape(name, quote=True)}">{html.escape(cell)}</td>'
            for name, cell in zip(head, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def _summary(reports: Sequence[AuditReport]) -> str:
    name = reports[0].metric.name if reports[0].metric and reports[0].scores is not None else None
    head = ["model", "mean error", "worst error", "certificate"]
    if name:
        every = "right for every element" if name == "accuracy" else f"worst {name} of each sample"
        head[1:1] = [f"{name} as given", "over the orbit", "worst element", every]
    rows = []
    for report in reports:
        row = [report.model, f"{report.error:.3g}", f"{report.worst_error:.3g}", report.certificate]
        if name and report.worst_element:
            scores = (report.upright, report.orbit_mean, report.worst_element[1], report.worst_sample)
            row[1:1] = [score_text(value, name) for value in scores]
        rows.append(row)
    return _table(head, rows)


def _details(report: AuditReport) -> str:
    data = report.to_dict()
    low, high = data["error"]["interval"]
    facts = {
        "equivariance error" + report.over: f"mean {report.error:.3g} (95 % interval {low:.3g} to {high:.3g}), median "
        f"{data['error']['median']:.3g}, 95 % quantile {data['error']['q95']:.3g}, worst {report.worst_error:.3g} at "
        f"{data['error']['max_at']['name']}, sample {data['error']['max_at']['sample']}",
        "consensus": f"{data['consensus']['measure']} {data['consensus']['mean']:.4g} against what the orbit agrees on"
        + (
            ""
            if report.orbit.closed
            else " (the elements are no subgroup, so the consensus is not exactly equivariant)"
        ),
        "certificate": "exact: every element was visited and the action moves data without resampling"
        if report.certificate == "exact"
        else "statistical: mean, worst and interval over the elements visited",
        "seed, time": f"{report.seed}, {report.seconds:.2f} s" + ("" if report.complete else "; interrupted"),
        "settings": ", ".join(f"{key} {value}" for key, value in report.settings.items() if value is not None),
    }
    for path, (mean, worst) in report.entry_errors.items():
        facts[f"error of {path}"] = f"mean {mean:.3g}, worst {worst:.3g}"
    if report.lie_derivative is not None:
        facts["Lie derivative per generator"] = ", ".join(f"{v:.3g}" for v in report.lie_derivative.tolist()) + (
            " (they depend on the step: the model has jumps, so they mean little)" if report.jumps else ""
        )
    if report.resampling is not None:
        facts["resampling alone"] = (
            f"there and back changes the input by {report.resampling['input']:.3g} and the answer by "
            f"{report.resampling['model']:.3g}: that much of the error may belong to the action"
        )
    items = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items())
    name = report.metric.name if report.metric and report.scores is not None else "error"
    hardest = _table(
        ["sample", f"mean {name}", f"worst {name}", "at", "mean error"],
        [
            [str(row["sample"]), score_text(row["mean"], name), score_text(row["worst"], name), row["worst_element_name"],
             f"{row['error']:.3g}"]
            for row in data["hardest_samples"]
        ],
    )  # fmt: skip
    layers = "" if report.layers is None else _layers(report, report.layers)
    return (
        f"<details{' open' if report.layers else ''}><summary>{html.escape(report.model)}: all numbers</summary>"
        f"<dl>{items}</dl><h3>Hardest samples</h3>{hardest}{layers}</details>"
    )


def _layers(report: AuditReport, layers: Sequence[LayerError]) -> str:
    """Where the symmetry is lost, what that means, and the numbers behind it."""
    if report.lost_at is None:
        found = "lost at no layer: the answers keep it"
    else:
        kind = next((f" ({layer.kind})" for layer in layers if layer.name == report.lost_at), "")
        found = f"lost at <code>{html.escape(report.lost_at)}</code>{html.escape(kind)}"
    actions = list(dict.fromkeys(name for layer in layers for name in ("input", "output", "invariant", *layer.errors)))
    rows = [
        [la.name, la.kind, la.words, *(f"{la.errors[a]:.1e}" if a in la.errors else "-" for a in actions)]
        for la in layers
    ]
    return f"<h3>Layers</h3><p><strong>Symmetry {found}.</strong></p><p>{html.escape(CAUTION)}</p>" + _table(
        ["layer", "kind", "its features move", *actions], rows
    )

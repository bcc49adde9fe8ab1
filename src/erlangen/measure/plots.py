"""Which plot shows an orbit: lines, circles, spheres for rotations of space, maps of shifts, bars."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from erlangen.groups import Cyclic, Group, Scaling, Shifts, Translation
from erlangen.measure.drawings import Bars, Circle, Curves, Dots, Drawing, ShiftMap, Sphere, Values
from erlangen.measure.report import AuditReport

BARS_UP_TO = 64

DOTS = 500
"""Samples drawn at most; the drawing says how many there are."""

COLUMNS = 512
"""Elements, evenly spread, whose values make the curves that samples are compared by; no more than these."""


def value_table(report: AuditReport) -> Tensor:
    """What is plotted ``[K, B]``: the metric where there are labels, else the equivariance error."""
    return report.errors if report.scores is None else report.scores


def value_name(report: AuditReport) -> str:
    """Its name."""
    return report.metric.name if report.scores is not None and report.metric is not None else "equivariance error"


def common_values(reports: list[AuditReport]) -> Values:
    """One axis for the element means of all reports, and for what they score as given."""
    values = [v for report in reports for v in (*value_table(report).mean(1).tolist(), report.upright or 0.0)]
    label = value_name(reports[0])
    return Values.of(values, label, percent=label == "accuracy")


def kind_of_orbit(group: Group) -> str:
    """ "circle", "line", "plane", "sphere", "shifts", "bars" or "ranked": how the orbit of this group is drawn."""
    if isinstance(group, Shifts):
        return "shifts" if len(group.sizes) == 2 else "bars" if group.order <= BARS_UP_TO else "ranked"
    if group.name == "SO(2)" or (isinstance(group, Cyclic) and group.order > 4):
        return "circle"
    if isinstance(group, Scaling) or (isinstance(group, Translation) and group.dim == 1):
        return "line"
    if isinstance(group, Translation) and group.dim == 2:
        return "plane"
    if group.order == math.inf and group.space_dim == 3 and _orthogonal(group):
        return "sphere"
    return "bars" if group.order <= BARS_UP_TO else "ranked"


def _orthogonal(group: Group) -> bool:
    g = group.sample(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    linear = group.linear(g, dtype=torch.float64)
    return bool(torch.allclose(linear @ linear.mT, torch.eye(3, dtype=torch.float64), atol=1e-6))


def linear_parts(report: AuditReport, here: Tensor | None = None) -> Tensor:
    """Linear parts of the elements visited, or of the one element `here`, float64 on the CPU."""
    elements = (report.orbit.elements if here is None else here).cpu()
    elements = elements.double() if elements.is_floating_point() else elements
    return report.symmetry.group.linear(elements, dtype=torch.float64)


def _rotation_angles(linear: Tensor) -> Tensor:
    """Angles in degrees of matrices ``[..., 3, 3]``; an improper rotation counts by its rotation part."""
    sign = torch.linalg.det(linear).sign()
    trace = sign * linear.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def orbit_plots(reports: list[AuditReport], here: Tensor | None = None) -> list[list[Drawing]]:
    """Rows of drawings of the metric over the orbit, for reports of one symmetry and one set of elements.

    The element `here` ``[*shape]``, if any, is marked.
    """
    values = common_values(reports)
    kind = kind_of_orbit(reports[0].symmetry.group)
    if reports[0].symmetry.within is not None and kind in _OF_RANGES:
        kind = _OF_RANGES[kind]
    if kind == "circle":
        return [[_circle(reports, values, here)]]
    if kind == "line":
        return [[_line(reports, values, here)]]
    if kind == "plane":
        return [[_plane(report, values, here) for report in reports]]
    if kind == "sphere":
        return [[_by_angle(reports, values, here)], [_sphere(report, values, here) for report in reports]]
    if kind == "shifts" and all(report.orbit.method == "all" for report in reports):
        return [[_shift_map(report, values, here) for report in reports]]
    if kind == "bars" and len(reports[0].orbit) <= BARS_UP_TO:
        return [[_bars(reports, values, here)]]
    return [[_ranked(reports, values)]]


_OF_RANGES = {"circle": "line", "shifts": "ranked"}
"""How ranges are drawn, where this is not as their group: an arc is a line, and part of a grid of shifts no map."""


def _by_model(
    reports: list[AuditReport], curves: list[list[tuple[float, float]]]
) -> dict[str, list[tuple[float, float]]]:
    """Curves by the names of their models, which are told apart where two are the same."""
    return dict(zip(_names(reports), curves, strict=True))


def _names(reports: list[AuditReport]) -> list[str]:
    names = [report.model for report in reports]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _circle(reports: list[AuditReport], values: Values, here: Tensor | None) -> Circle:
    curves: list[list[tuple[float, float]]] = []
    for report in reports:
        angles = _plane_angles(linear_parts(report))
        order = angles.argsort()
        means = value_table(report).mean(1)
        curves.append(list(zip(angles[order].tolist(), means[order].tolist(), strict=True)))
    place = None if here is None else float(_plane_angles(linear_parts(reports[0], here)))
    return Circle(_by_model(reports, curves), values, place)


def _plane_angles(linear: Tensor) -> Tensor:
    """Angles in 0 .. 2 pi of matrices ``[..., 2, 2]``."""
    return torch.atan2(linear[..., 1, 0], linear[..., 0, 0]) % (2 * math.pi)


def _line(reports: list[AuditReport], values: Values, here: Tensor | None) -> Curves:
    """Values along a group of one dimension: scales in powers of 2, or shifts."""
    group = reports[0].symmetry.group
    unit, name = (
        (math.log(2), "scale (powers of 2, 0 is the identity)")
        if isinstance(group, Scaling)
        else (math.pi / 180, "rotation (degrees, 0 is the identity)")
        if not isinstance(group, Translation)
        else (1.0, "shift")
    )
    places = _coordinates(reports[0])[..., 0] / unit
    curves: list[list[tuple[float, float]]] = []
    for report in reports:
        upright = 0.0 if report.upright is None else report.upright
        points = [(0.0, upright), *zip(places.tolist(), value_table(report).mean(1).tolist(), strict=True)]
        curves.append(sorted(points))
    reach = max(float(places.abs().max()), 1e-6)
    at = None if here is None else float(_coordinates(reports[0], here)[0]) / unit
    return Curves(_by_model(reports, curves), name, values, (-reach, reach), identity=True, here=at)


def _plane(report: AuditReport, values: Values, here: Tensor | None) -> Dots:
    """Values at the places of shifts of the plane."""
    places: list[tuple[float, float]] = [(float(x), float(y)) for x, y in _coordinates(report)]
    means = value_table(report).mean(1).tolist()
    notes = [f"({x:.3g}, {y:.3g}): {values.text(value)}" for (x, y), value in zip(places, means, strict=True)]
    reach = max(abs(c) for place in places for c in place)
    marked = None if here is None else (float(_coordinates(report, here)[0]), float(_coordinates(report, here)[1]))
    caption = f"shift to the right and up, at most {reach:.3g}"
    return Dots(places, means, notes, report.model, values, caption, identity=True, marked=marked)


def _coordinates(report: AuditReport, here: Tensor | None = None) -> Tensor:
    """Coordinates ``[K, dim]`` of the logarithms of the elements visited, or ``[dim]`` of `here`; float64 on the CPU."""
    elements = (report.orbit.elements if here is None else here).cpu()
    if not elements.is_floating_point():  # a finite group of rotations of the plane
        angles = _plane_angles(report.symmetry.group.linear(elements, dtype=torch.float64))
        return torch.where(angles > math.pi, angles - 2 * math.pi, angles)[..., None]
    return report.symmetry.group.log(elements.double())


def _by_angle(reports: list[AuditReport], values: Values, here: Tensor | None) -> Curves:
    """Mean over elements in bins of the rotation angle; the metric as given stands at 0."""
    within = reports[0].symmetry.within
    widest = 0.0 if within is None else float(_rotation_angles(linear_parts(reports[0])).max())
    reach = widest or 180.0
    edges = torch.linspace(0, reach, 13)
    curves: list[list[tuple[float, float]]] = []
    for report in reports:
        angles = _rotation_angles(linear_parts(report)).clamp(max=reach)
        means = value_table(report).mean(1)
        points = [(0.0, report.upright)] if report.upright is not None else [(0.0, 0.0)]
        for low, high in itertools.pairwise(edges):
            inside = (angles > low) & (angles <= high)
            if bool(inside.any()):
                points.append((float(angles[inside].mean()), float(means[inside].mean())))
        curves.append(points)
    name = "angle of the rotation (degrees, 0 is the identity)"
    at = None if here is None else float(_rotation_angles(linear_parts(reports[0], here)))
    ticks = range(0, 181, 30) if reach == 180 else None
    return Curves(_by_model(reports, curves), name, values, (0, reach), ticks, identity=True, here=at)


def _sphere(report: AuditReport, values: Values, here: Tensor | None) -> Sphere:
    """Values over the direction to which the rotation sends the z axis, averaged over the twist around it."""
    directions = _where_z_points(linear_parts(report)).numpy()
    place = None if here is None else _where_z_points(linear_parts(report, here)).tolist()
    return Sphere(directions, value_table(report).mean(1).tolist(), report.model, values, place)


def _where_z_points(linear: Tensor) -> Tensor:
    """Unit vectors ``[..., 3]``, the images of the z axis under matrices ``[..., 3, 3]``."""
    directions = linear[..., :, 2]
    return directions / directions.norm(dim=-1, keepdim=True)


def _shift_map(report: AuditReport, values: Values, here: Tensor | None) -> ShiftMap:
    assert isinstance(report.symmetry.group, Shifts)
    rows, columns = report.symmetry.group.sizes
    table = torch.zeros(rows, columns, dtype=torch.float64)
    elements = report.orbit.elements.cpu()
    table[elements[:, 0], elements[:, 1]] = value_table(report).mean(1)
    return ShiftMap(table.tolist(), report.model, values, None if here is None else (int(here[0]), int(here[1])))


def _bars(reports: list[AuditReport], values: Values, here: Tensor | None) -> Bars:
    names = ["identity", *(f"{i}" for i in range(1, len(reports[0].orbit)))]
    if reports[0].orbit.method != "all":
        names[0] = "0"
    means = [value_table(report).mean(1).tolist() for report in reports]
    series = dict(zip(_names(reports), means, strict=True))
    return Bars(series, names, values, None if here is None else _index_of(here, reports[0]))


def _index_of(here: Tensor, report: AuditReport) -> int | None:
    """Place of an element among those visited; None where it is not among them."""
    elements = report.orbit.elements.cpu()
    same = (elements == here.cpu()).reshape(len(elements), -1).all(1).nonzero()
    return int(same[0, 0]) if len(same) else None


def _ranked(reports: list[AuditReport], values: Values) -> Curves:
    curves: list[list[tuple[float, float]]] = []
    for report in reports:
        means = value_table(report).mean(1).sort().values
        means = means[torch.linspace(0, len(means) - 1, min(len(means), 101)).round().long()]
        shares = torch.linspace(0, 100, len(means)).tolist()
        curves.append(list(zip(shares, means.tolist(), strict=True)))
    name = "share of the elements, sorted by value (%)"
    return Curves(_by_model(reports, curves), name, values, (0, 100), range(0, 101, 20))


def sample_plot(report: AuditReport, chosen: int | None = None) -> Dots | None:
    """Samples by the principal components of their orbit curves, the `chosen` one marked; ``None`` below three samples."""
    table = value_table(report)
    if table.shape[1] < 3:
        return None
    curves = (table - table.mean(1, keepdim=True)).T
    plane = principal_plane(curves[:, :: -(-curves.shape[1] // COLUMNS)])
    means = table.mean(0).tolist()
    samples: list[int] = report.samples.tolist()
    shown = list(range(0, len(means), -(-len(means) // DOTS)))
    if chosen in samples and samples.index(chosen) not in shown:
        shown = sorted([*shown, samples.index(chosen)])
    values = Values.of(means, f"mean {value_name(report)}", percent=value_name(report) == "accuracy")
    few = "" if len(shown) == len(means) else f"\n{len(shown)} of {len(means)} samples"
    return Dots(
        [(float(plane[i, 0]), float(plane[i, 1])) for i in shown],
        [means[i] for i in shown],
        [f"sample {samples[i]}: {means[i]:.3g}" for i in shown],
        report.model,
        values,
        f"first two principal components{few}",
        keys=[samples[i] for i in shown],
        here=chosen,
    )


def principal_plane(rows: Tensor) -> Tensor:
    """Rows ``[N, D]``, whose mean is zero, in their first two principal components ``[N, 2]``.

    By the eigenvectors of the smaller of the two products of the table with itself: a singular value decomposition of many
    rows takes a hundred times as long. Squares halve the digits, of which a picture needs three.
    """
    scale = float(rows.abs().max()) if rows.numel() else 0.0
    if scale == 0:
        return rows.new_zeros(len(rows), 2)
    rows = rows / scale
    wide = rows.shape[1] > rows.shape[0]
    vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows).eigenvectors[:, -2:].flip(1)
    if wide:  # the projection is V S = U^T R, whose rows are those of the other side
        along = torch.nn.functional.normalize(rows.T @ vectors, dim=0, eps=1e-300)
        plane = rows @ along
    else:
        plane = rows @ vectors
    return scale * torch.nn.functional.pad(plane, (0, 2 - plane.shape[1]))

"""Which plot shows an orbit: lines, circles, spheres for rotations of space, maps of shifts, bars."""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor

from erlangen.groups import Cyclic, Group, Scaling, Shifts, Translation
from erlangen.measure import svg
from erlangen.measure.report import AuditReport

RINGS = 9
BANDWIDTH = math.radians(13)
"""Width of the Gaussian, in angle on the sphere, that averages elements into the cells of a sphere plot."""

BARS_UP_TO = 64


def value_table(report: AuditReport) -> Tensor:
    """What is plotted ``[K, B]``: the metric where there are labels, else the equivariance error."""
    return report.errors if report.scores is None else report.scores


def value_name(report: AuditReport) -> str:
    """Its name."""
    return report.metric.name if report.scores is not None and report.metric is not None else "equivariance error"


def common_scale(reports: list[AuditReport]) -> svg.Scale:
    """One scale for the element means of all reports."""
    values = [v for report in reports for v in value_table(report).mean(1).tolist()]
    return svg.scale_of(values, percent=value_name(reports[0]) == "accuracy")


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


def orbit_plots(reports: list[AuditReport], here: Tensor | None = None) -> list[list[str]]:
    """Rows of plots of the metric over the orbit, for reports of one symmetry and one set of elements.

    The element `here` ``[*shape]``, if any, is marked.
    """
    scale, label = common_scale(reports), value_name(reports[0])
    kind = kind_of_orbit(reports[0].symmetry.group)
    if kind == "circle":
        return [[_polar(reports, scale, label, here)]]
    if kind == "line":
        return [[_line(reports, scale, label, here)]]
    if kind == "plane":
        return [[_plane(report, scale, label, here) for report in reports]]
    if kind == "sphere":
        return [[_by_angle(reports, scale, label, here)], [_sphere(report, scale, label, here) for report in reports]]
    if kind == "shifts" and all(report.orbit.method == "all" for report in reports):
        return [[_shift_map(report, scale, label, here) for report in reports]]
    if kind == "bars" and len(reports[0].orbit) <= BARS_UP_TO:
        return [[_bars(reports, scale, label, here)]]
    return [[_ranked(reports, scale, label)]]


def _polar(reports: list[AuditReport], scale: svg.Scale, label: str, here: Tensor | None) -> str:
    series = []
    for report in reports:
        angles = _plane_angles(linear_parts(report))
        order = angles.argsort()
        means = value_table(report).mean(1)
        series.append((report.model, list(zip(angles[order].tolist(), means[order].tolist(), strict=True))))
    place = None if here is None else float(_plane_angles(linear_parts(reports[0], here)))
    return svg.polar_plot(series, scale, label, here=place)


def _plane_angles(linear: Tensor) -> Tensor:
    """Angles in 0 .. 2 pi of matrices ``[..., 2, 2]``."""
    return torch.atan2(linear[..., 1, 0], linear[..., 0, 0]) % (2 * math.pi)


def _line(reports: list[AuditReport], scale: svg.Scale, label: str, here: Tensor | None) -> str:
    """Values along a group of one dimension: scales in powers of 2, or shifts."""
    group = reports[0].symmetry.group
    unit, name = (
        (math.log(2), "scale (powers of 2, 0 is the identity)") if isinstance(group, Scaling) else (1.0, "shift")
    )
    places = _coordinates(reports[0])[:, 0] / unit
    series = []
    for report in reports:
        upright = 0.0 if report.upright is None else report.upright
        points = [(0.0, upright), *zip(places.tolist(), value_table(report).mean(1).tolist(), strict=True)]
        series.append((report.model, sorted(points)))
    reach = max(float(places.abs().max()), 1e-6)
    axis = svg.Scale(-reach, reach)
    at = None if here is None else float(_coordinates(reports[0], here)[0]) / unit
    return svg.line_plot(series, axis, scale, name, label, axis.ticks(), identity=True, here=at)


def _plane(report: AuditReport, scale: svg.Scale, label: str, here: Tensor | None) -> str:
    """Values at the places of shifts of the plane."""
    places = _coordinates(report)
    means = value_table(report).mean(1).tolist()
    points = [
        (x, y, value, f"({x:.3g}, {y:.3g}): {scale.text(value)}")
        for (x, y), value in zip(places.tolist(), means, strict=True)
    ]
    reach = float(places.abs().max())
    marked = None if here is None else (float(_coordinates(report, here)[0]), float(_coordinates(report, here)[1]))
    caption = f"shift to the right and up, at most {reach:.3g}"
    return svg.scatter_plot(points, scale, label, report.model, caption=caption, identity=True, marked=marked)


def _coordinates(report: AuditReport, here: Tensor | None = None) -> Tensor:
    """Coordinates ``[K, dim]`` of the logarithms of the elements visited, or ``[dim]`` of `here`; float64 on the CPU."""
    elements = (report.orbit.elements if here is None else here).cpu().double()
    return report.symmetry.group.log(elements)


def _by_angle(reports: list[AuditReport], scale: svg.Scale, label: str, here: Tensor | None) -> str:
    """Mean over elements in bins of the rotation angle; the metric as given stands at 0."""
    edges = torch.linspace(0, 180, 13)
    series = []
    for report in reports:
        angles = _rotation_angles(linear_parts(report))
        means = value_table(report).mean(1)
        points = [(0.0, report.upright)] if report.upright is not None else [(0.0, 0.0)]
        for low, high in itertools.pairwise(edges):
            inside = (angles > low) & (angles <= high)
            if bool(inside.any()):
                points.append((float(angles[inside].mean()), float(means[inside].mean())))
        series.append((report.model, points))
    return svg.line_plot(
        series,
        svg.Scale(0, 180),
        scale,
        "angle of the rotation (degrees, 0 is the identity)",
        label,
        range(0, 181, 30),
        identity=True,
        here=None if here is None else float(_rotation_angles(linear_parts(reports[0], here))),
    )


def _sphere(report: AuditReport, scale: svg.Scale, label: str, here: Tensor | None) -> str:
    """Values over the direction to which the rotation sends the z axis, averaged over the twist around it."""
    directions = _where_z_points(linear_parts(report))
    cells, centres = _sphere_cells()
    distance = torch.arccos((centres @ directions.T).clamp(-1, 1))
    weights = torch.softmax(-0.5 * (distance / BANDWIDTH) ** 2, -1)
    values = (weights @ value_table(report).mean(1)).tolist()
    place = None
    if here is not None:
        x, y, z = _where_z_points(linear_parts(report, here)).tolist()
        place = (z >= 0, math.sqrt(max(0.0, 1 - abs(z))), math.atan2(y, x))
    filled = [(*cell, value) for cell, value in zip(cells, values, strict=True)]
    return svg.sphere_plot(filled, scale, report.model, f"{label}, by where z points", here=place)


def _where_z_points(linear: Tensor) -> Tensor:
    """Unit vectors ``[..., 3]``, the images of the z axis under matrices ``[..., 3, 3]``."""
    directions = linear[..., :, 2]
    return directions / directions.norm(dim=-1, keepdim=True)


@functools.cache
def _sphere_cells() -> tuple[list[tuple[bool, float, float, float, float]], Tensor]:
    """Cells of two equal-area hemispheres, see `svg.sphere_plot`, and their centres ``[cells, 3]``, float64."""
    cells: list[tuple[bool, float, float, float, float]] = []
    centres: list[tuple[float, float, float]] = []
    for upper in (True, False):
        for ring in range(RINGS):
            inner, outer = ring / RINGS, (ring + 1) / RINGS
            sectors = 1 if ring == 0 else 6 * ring
            for sector in range(sectors):
                start, stop = 2 * math.pi * sector / sectors, 2 * math.pi * (sector + 1) / sectors
                rho, azimuth = (0.0 if ring == 0 else (inner + outer) / 2), (start + stop) / 2
                polar = math.acos(max(-1.0, 1 - rho**2))  # equal area: rho = 1 is the equator
                height = math.cos(polar) * (1 if upper else -1)
                cells.append((upper, inner, outer, start, stop))
                centres.append((math.sin(polar) * math.cos(azimuth), math.sin(polar) * math.sin(azimuth), height))
    return cells, torch.tensor(centres, dtype=torch.float64)


def _shift_map(report: AuditReport, scale: svg.Scale, label: str, here: Tensor | None) -> str:
    assert isinstance(report.symmetry.group, Shifts)
    rows, columns = report.symmetry.group.sizes
    table = torch.zeros(rows, columns, dtype=torch.float64)
    elements = report.orbit.elements.cpu()
    table[elements[:, 0], elements[:, 1]] = value_table(report).mean(1)
    return svg.heat_map(
        table.tolist(),
        scale,
        "shift of columns (pixels)",
        "shift of rows (pixels)",
        report.model,
        label,
        here=None if here is None else (int(here[0]), int(here[1])),
    )


def _bars(reports: list[AuditReport], scale: svg.Scale, label: str, here: Tensor | None) -> str:
    names = ["identity", *(f"{i}" for i in range(1, len(reports[0].orbit)))]
    if reports[0].orbit.method != "all":
        names[0] = "0"
    series = [(report.model, value_table(report).mean(1).tolist()) for report in reports]
    return svg.bar_plot(series, names, scale, label, here=None if here is None else _index_of(here, reports[0]))


def _index_of(here: Tensor, report: AuditReport) -> int | None:
    """Place of an element among those visited; None where it is not among them."""
    elements = report.orbit.elements.cpu()
    same = (elements == here.cpu()).reshape(len(elements), -1).all(1).nonzero()
    return int(same[0, 0]) if len(same) else None


def _ranked(reports: list[AuditReport], scale: svg.Scale, label: str) -> str:
    series = []
    for report in reports:
        means = value_table(report).mean(1).sort().values
        means = means[torch.linspace(0, len(means) - 1, min(len(means), 101)).round().long()]
        shares = torch.linspace(0, 100, len(means)).tolist()
        series.append((report.model, list(zip(shares, means.tolist(), strict=True))))
    return svg.line_plot(
        series, svg.Scale(0, 100), scale, "share of the elements, sorted by value (%)", label, range(0, 101, 20)
    )


def sample_plot(report: AuditReport, chosen: int | None = None) -> str | None:
    """Samples by the principal components of their orbit curves, the `chosen` one marked; ``None`` below three samples."""
    table = value_table(report)
    if table.shape[1] < 3:
        return None
    curves = (table - table.mean(1, keepdim=True)).T
    u, s, _ = torch.linalg.svd(curves[:, :: max(1, curves.shape[1] // 512)], full_matrices=False)
    plane = u[:, :2] * s[:2]
    if plane.shape[1] < 2:
        plane = torch.cat((plane, torch.zeros(len(plane), 1, dtype=plane.dtype)), 1)
    means = table.mean(0)
    shown = range(0, len(means), max(1, len(means) // 500))
    points = [
        (
            float(plane[i, 0]),
            float(plane[i, 1]),
            float(means[i]),
            f"sample {int(report.samples[i])}: {float(means[i]):.3g}",
        )
        for i in shown
    ]
    scale = svg.scale_of(means.tolist(), percent=value_name(report) == "accuracy")
    keys = [int(report.samples[i]) for i in shown]
    return svg.scatter_plot(points, scale, f"mean {value_name(report)}", report.model, keys=keys, here=chosen)

"""What an explorer knows: a sample, a group element, and what every model answers there. No page, so it can be tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from erlangen import plots
from erlangen.actions import Tree, tree_map
from erlangen.errors import DataError, SymmetryError
from erlangen.explorer.controls import Place, control_of
from erlangen.groups import Group
from erlangen.measure.checks import take
from erlangen.measure.drawings import Dots, Drawing
from erlangen.measure.evaluate import relative_error
from erlangen.measure.pictures import answer_pictures, largest_leaf, pictures
from erlangen.measure.plots import orbit_plots, sample_plot, value_table
from erlangen.measure.report import AuditReport, Source

WORST = 5
"""Elements offered as the worst ones of a sample."""


@dataclass(frozen=True)
class Answer:
    """What one model says about the moved sample.

    Attributes:
        model: its name.
        pictures: pictures of the answer.
        error: relative equivariance error there.
        score: metric against the label, None without labels.
    """

    model: str
    pictures: list[Drawing]
    error: float
    score: float | None


class Exploration:
    """A position on the orbits that one or more audits of the same data have visited.

    Args:
        reports: audits of one symmetry over the same elements and samples, made in this process by `erlangen.audit`.
        classes: names of the classes, for labels.

    Raises:
        SymmetryError: no report, or reports of different symmetries, elements or samples.
        DataError: a report without its model and data (read from a file, or sent between processes).
    """

    def __init__(self, reports: Sequence[AuditReport], classes: Sequence[str] = ()) -> None:
        self.reports, self.classes = list(reports), tuple(classes)
        self.sources = _sources(self.reports)
        first = self.reports[0]
        self.symmetry, self.orbit, self.samples = first.symmetry, first.orbit, first.samples.tolist()
        self.control = control_of(
            self.symmetry.domain, self.orbit.elements.cpu(), _extent(self.sources[0].x, self.symmetry.group)
        )
        self.position = 0
        self.element = self.symmetry.group.identity(dtype=_dtype(self.orbit.elements))

    # --- where we are --------------------------------------------------------------------------------------------
    @property
    def sample(self) -> int:
        """Index of the chosen sample in the data."""
        return self.samples[self.position]

    def choose(self, sample: int) -> None:
        """Choose a sample by its index in the data.

        Raises:
            DataError: the audits have not visited it.
        """
        if sample not in self.samples:
            raise DataError(
                f"sample = {sample}: the audits covered {len(self.samples)} samples, {_range(self.samples)}"
            )
        self.position = self.samples.index(sample)

    def stay(self) -> None:
        """Back to the identity."""
        self.element = self.symmetry.group.identity(dtype=_dtype(self.orbit.elements))

    def turn(self, values: Sequence[float]) -> None:
        """Choose the element of knob values."""
        self.element = self.control.element(values)

    def visit(self, index: int) -> None:
        """Choose an element of the audit by its index.

        Raises:
            DataError: there is no such element.
        """
        if not 0 <= index < len(self.orbit):
            raise DataError(f"element = {index}: the audits visited {len(self.orbit)} elements, numbered from 0")
        self.element = self.orbit.elements[index].cpu()

    def drag(self, begun: Tensor, start: Place, now: Place) -> None:
        """Choose the element that a drag across the picture leads to, from the element where it began."""
        self.element = self.control.drag(begun, start, now)

    @property
    def values(self) -> list[float] | None:
        """Values of the knobs; None where they cannot say where we are."""
        return self.control.values(self.element)

    def describe(self, element: Tensor | None = None, *, short: bool = False) -> str:
        """An element in words, by default the one chosen; `short` leaves the names of the knobs out."""
        element = self.element if element is None else element
        values = self.control.values(element)
        if values is None:
            return f"an element that no knob reaches: {_digits(element)}"
        pairs = zip(self.control.knobs, values, strict=True)
        return ", ".join(knob.text(v) if short else f"{knob.name} {knob.text(v)}" for knob, v in pairs)

    def address(self) -> dict[str, str]:
        """Sample and element as texts, for a link; `go` reads them."""
        values = self.values
        flat = self.element.double().flatten().tolist() if values is None else values
        key, digits = (
            ("element", 10) if values is None else ("at", 6)
        )  # knobs need not be more exact than they are read
        return {"sample": str(self.sample), key: ",".join(f"{v:.{digits}g}" for v in flat)}

    def go(self, address: Mapping[str, str]) -> None:
        """Go where `address` was.

        Raises:
            DataError: something that is no address of these audits; the position stays.
        """
        try:
            sample = int(address.get("sample", self.sample))
            numbers = [float(v) for v in address.get("at", address.get("element", "")).split(",") if v]
        except ValueError as error:
            raise DataError(f"this is no address of a sample and an element: {error}") from None
        element = self._element(numbers, from_knobs="at" in address) if numbers else self.element
        self.choose(sample)
        self.element = element

    def _element(self, numbers: list[float], *, from_knobs: bool) -> Tensor:
        group, knobs = self.symmetry.group, self.control.knobs
        wanted = len(knobs) if from_knobs else math.prod(group.shape)
        if len(numbers) != wanted or not all(map(math.isfinite, numbers)):
            raise DataError(f"the address holds {len(numbers)} numbers for the element; it needs {wanted} finite ones")
        if from_knobs:
            return self.control.element([min(max(v, k.low), k.high) for v, k in zip(numbers, knobs, strict=True)])
        element = torch.tensor(numbers, dtype=torch.float64).reshape(group.shape).to(self.element.dtype)
        self.symmetry.domain.check(element, name="the element of the address")
        return element

    # --- what is there -------------------------------------------------------------------------------------------
    def moved(self) -> Tree:
        """The chosen sample, moved, as a batch of one."""
        return self.symmetry.input.act(self._g(), self._upright(0))

    def answers(self) -> list[Answer]:
        """What every model says about the moved sample."""
        return [self._answer(i) for i in range(len(self.reports))]

    def _answer(self, i: int) -> Answer:
        report, (model, _, y) = self.reports[i], self.sources[i]
        g, x = self._g(), self._upright(i)
        with model.measuring(quiet=True):
            base, answer = model(x), model(self.symmetry.input.act(g, x))
        rows = [tree_map(lambda leaf: leaf[None], tree) for tree in (answer, self.symmetry.output.act(g, base), base)]
        mask = self.symmetry.output.mask(g[None], rows[2])
        error = float(relative_error(rows[0], rows[1], rows[2], mask))
        score = None
        if report.metric is not None and y is not None:
            score = float(report.metric(answer, self.symmetry.output.act(g, take(y, self._window))))
        one, upright = (tree_map(lambda leaf: leaf[0], tree) for tree in (answer, base))
        shown = answer_pictures(
            self.symmetry.output.action,
            one,
            upright,
            report.model,
            labels=report.metric is not None and report.metric.on_labels,
            classes=self.classes,
            group=self.symmetry.group,
        )
        return Answer(report.model, shown, error, score)

    def input_pictures(self) -> list[Drawing]:
        """Pictures of the moved sample."""
        one, upright = (tree_map(lambda leaf: leaf[0], tree) for tree in (self.moved(), self._upright(0)))
        return pictures(self.symmetry.input.action, one, upright, f"sample {self.sample}", self.symmetry.group)

    def label(self) -> str | None:
        """The label of the sample in words; None without labels or where it is no class."""
        y = self.sources[0].y
        if not isinstance(y, Tensor) or y.is_floating_point() or y.ndim != 1:
            return None
        label = int(y[self.sample])
        return self.classes[label] if label < len(self.classes) else str(label)

    def own_orbit(self) -> list[Drawing]:
        """NERO plots of the chosen sample alone, all models in each, with a mark where we are."""
        window = slice(self.position, self.position + 1)
        single = [
            replace(
                report,
                errors=report.errors[:, window],
                scores=None if report.scores is None else report.scores[:, window],
                base=None if report.base is None else report.base[window],
                consensus=report.consensus[:, window],
                samples=report.samples[window],
            )
            for report in self.reports
        ]
        return [plot for row in orbit_plots(single, here=self.element) for plot in row]

    def all_orbits(self) -> list[Drawing]:
        """NERO plots over all samples."""
        return [plot for row in orbit_plots(self.reports) for plot in row]

    def scatter(self) -> list[Dots]:
        """Samples by their orbit curves, one plot per model; the chosen one is marked. Empty below three samples."""
        plots = [sample_plot(report, chosen=self.sample) for report in self.reports]
        return [plot for plot in plots if plot is not None]

    def worst(self) -> list[int]:
        """The elements of the audit under which the first model does worst on the chosen sample, by index.

        Equal scores are told apart by the equivariance error.
        """
        report = self.reports[0]
        value, error = value_table(report)[:, self.position], report.errors[:, self.position]
        higher = report.scores is not None and report.metric is not None and report.metric.higher_is_better
        by_error = error.argsort(descending=True, stable=True)
        return by_error[value[by_error].argsort(descending=not higher, stable=True)][:WORST].tolist()

    def to_worst(self) -> None:
        """The sample on whose orbit the first model does worst, at the element where it does so."""
        self.choose(self.hardest()[0])
        self.visit(self.worst()[0])

    def hardest(self) -> list[int]:
        """Indices of the samples on whose orbits the first model does worst."""
        return [row["sample"] for row in self.reports[0].hardest_samples(8)]

    def figure(self) -> plots.Figure:
        """All that the page shows, in one figure."""
        where = f"sample {self.sample}; {self.describe()}"
        if (label := self.label()) is not None:
            where += f"; label {label}"
        answers = self.answers()
        lines = [", ".join(report.model for report in self.reports), str(self.symmetry), where]
        lines += [f"{answer.model}: {self.verdict(answer)}" for answer in answers]
        shown = [*self.input_pictures(), *(p for answer in answers for p in answer.pictures)]
        shown += [*self.own_orbit(), *self.all_orbits(), *self.scatter()]
        figure, axes = plots.panels(len(shown), columns=4, polar=[i for i, d in enumerate(shown) if d.polar])
        with plots.style():
            figure.text(0, 1, "\n".join(lines))
            for drawing, ax in zip(shown, axes, strict=True):
                drawing.draw(ax)
        return figure

    def verdict(self, answer: Answer) -> str:
        """Error and score of an answer in words."""
        error = f"equivariance error {answer.error:.2g}"
        report = next(r for r in self.reports if r.model == answer.model)
        if answer.score is None or report.metric is None:
            return error
        if (right := self.right(answer)) is not None:
            return f"{'right' if right else 'wrong'}, {error}"
        return f"{report.metric.name} {answer.score:.3g}, {error}"

    def right(self, answer: Answer) -> bool | None:
        """Whether an answer is right; None without labels, and where the metric is not about right and wrong."""
        report = next(r for r in self.reports if r.model == answer.model)
        told = report.metric is not None and report.metric.name == "accuracy" and answer.score in (0.0, 1.0)
        return bool(answer.score) if told else None

    @property
    def _window(self) -> slice:
        return slice(self.sample, self.sample + 1)

    def _upright(self, source: int) -> Tree:
        """The chosen sample as it is, as a batch of one."""
        return take(self.sources[source].x, self._window)

    def _g(self) -> Tensor:
        """The element as a batch of one."""
        return self.element[None]


def _sources(reports: Sequence[AuditReport]) -> list[Source]:
    if not reports:
        raise SymmetryError("reports is empty; give at least one AuditReport")
    first = reports[0]
    for report in reports:
        if report.source is None:
            raise DataError(
                f"the report of {report.model!r} does not hold its model and data; explore what er.audit returns"
            )
        if report.symmetry != first.symmetry:
            raise SymmetryError(f"reports mix {first.symmetry} and {report.symmetry}; explore one symmetry at a time")
        same = len(report.orbit) == len(first.orbit) and torch.equal(report.orbit.elements, first.orbit.elements)
        if not same or not torch.equal(report.samples, first.samples):
            raise SymmetryError(
                "reports differ in elements or samples; audit all models with the same x, elements and seed"
            )
    return [report.source for report in reports if report.source is not None]


def _extent(x: Tree, group: Group) -> float:
    """Size of the data in the units of translations: half an image in pixels, else the root mean square of the data."""
    leaf = largest_leaf(x)
    if group.space_dim == 2 and leaf.ndim >= 3 and min(leaf.shape[-2:]) > 3:
        return max(leaf.shape[-2:]) / 2
    return 2 * float(leaf.double().square().mean().sqrt()) or 1.0


def _dtype(elements: Tensor) -> torch.dtype | None:
    return elements.dtype if elements.is_floating_point() else None


def _digits(element: Tensor) -> str:
    return "[" + ", ".join(f"{v:.3g}" for v in element.double().flatten().tolist()) + "]"


def _range(samples: Sequence[int]) -> str:
    return f"from {min(samples)} to {max(samples)}"

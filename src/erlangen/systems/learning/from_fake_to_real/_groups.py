"""Samples with a label y, a nuisance b and a source g: groups, their counts, what is right within each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, DtypeError, ErlangenError, ErlangenWarning, ShapeError

REAL, SYNTHETIC = 0, 1


@dataclass(frozen=True)
class Grouped:
    """Pictures ``[N, ...]`` with labels, nuisances and sources (0 real, 1 synthetic), each int64 ``[N]``.

    Raises:
        ShapeError, DtypeError: other forms.
        DataError: a negative number.
    """

    x: Tensor
    y: Tensor
    b: Tensor
    g: Tensor

    def __post_init__(self) -> None:
        for name, value in (("y", self.y), ("b", self.b), ("g", self.g)):
            _check_index(name, value, len(self.x))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | slice) -> Grouped:
        """Some of the samples."""
        return Grouped(self.x[rows], self.y[rows], self.b[rows], self.g[rows])

    @property
    def groups(self) -> Tensor:
        """The triple of a sample as one number, in an order that does not depend on that of the samples ``[N]``."""
        return (self.y * (1 + _top(self.b)) + self.b) * (1 + _top(self.g)) + self.g


def mix(real: Grouped, synthetic: Grouped) -> Grouped:
    """Both together, after `check_sources`."""
    check_sources(real, synthetic)
    pairs = ((getattr(real, name), getattr(synthetic, name)) for name in ("x", "y", "b", "g"))
    return Grouped(*(torch.cat(pair) for pair in pairs))


def check_sources(real: Grouped, synthetic: Grouped) -> None:
    """Refuse sources that do not fit each other; warn where one look at the brightness tells them apart.

    Raises:
        ShapeError: pictures of different size.
        DataError: samples whose g is not that of their source, as where both are exchanged; other classes, or a nuisance of the
            real samples that no synthetic one has.

    Warns:
        ErlangenWarning: means differ by more than a standard deviation, or spreads by more than a factor of two.
    """
    for name, data, source in (("real", real, REAL), ("synthetic", synthetic, SYNTHETIC)):
        if bool((data.g != source).any()):
            raise DataError(
                f"{name} holds samples with g = {int(data.g[data.g != source][0])}; give real ones with g = {REAL} and synthetic "
                f"ones with g = {SYNTHETIC}, each in its place"
            )
    if not len(synthetic):
        return
    if real.x.shape[1:] != synthetic.x.shape[1:]:
        raise ShapeError(
            f"real pictures have the shape {tuple(real.x.shape[1:])}, synthetic ones {tuple(synthetic.x.shape[1:])}; resize "
            "both in the same way"
        )
    if set(real.y.tolist()) != set(synthetic.y.tolist()):
        raise DataError(
            f"real samples have the classes {sorted(set(real.y.tolist()))}, synthetic ones "
            f"{sorted(set(synthetic.y.tolist()))}; generate every class and no other"
        )
    absent = sorted(set(real.b.tolist()) - set(synthetic.b.tolist()))
    if absent:
        raise DataError(f"no synthetic sample has b = {absent[0]}; generate every nuisance that real samples have")
    means, spreads = ([float(f(s.x.double())) for s in (real, synthetic)] for f in (torch.mean, torch.std))
    wide, narrow = max(spreads), min(spreads)
    if abs(means[0] - means[1]) > wide or wide > 2 * narrow:
        warnings.warn(
            f"real pixels have mean {means[0]:.3g} and spread {spreads[0]:.3g}, synthetic ones {means[1]:.3g} and "
            f"{spreads[1]:.3g}: the source can be told without looking at what is shown; normalise both alike",
            ErlangenWarning,
            stacklevel=3,
        )


# --- counts ----------------------------------------------------------------------------------------------------------
def contingency(*variables: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """How often each combination occurs: int64 ``[sizes]``, by default up to the largest number of each.

    >>> contingency(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0])).tolist()
    [[0, 2], [1, 0]]

    Raises:
        ShapeError, DtypeError, DataError: no int64 ``[N]`` of equal length, or a number outside of `sizes`.
    """
    for index, variable in enumerate(variables):
        _check_index(f"variable {index}", variable, len(variables[0]))
    sizes = [1 + _top(v) for v in variables] if sizes is None else list(sizes)
    flat = torch.zeros_like(variables[0])
    for index, (variable, size) in enumerate(zip(variables, sizes, strict=True)):
        if _top(variable) >= size:
            raise DataError(f"variable {index} holds {_top(variable)}, but has {size} values, numbered from 0")
        flat = flat * size + variable
    return torch.bincount(flat, minlength=math.prod(sizes)).reshape(tuple(sizes))


def mutual_information(table: Tensor) -> float:
    """I of rows and columns of a table of counts ``[R, C]``, nats; zero to the last bit where they are independent.

    >>> mutual_information(torch.tensor([[3, 6], [1, 2]])), round(mutual_information(torch.tensor([[5, 0], [0, 5]])), 6)
    (0.0, 0.693147)
    """
    n = int(table.sum())
    products = table.sum(1, keepdim=True) * table.sum(0, keepdim=True)
    there = table > 0
    # Whole numbers up to here: the ratio of equal ones is 1.
    ratio = (table * n)[there].double() / products[there].double()
    return float((table[there].double() / max(n, 1) * ratio.log()).sum())


@dataclass(frozen=True)
class GroupReport:
    """Counts ``[Y, B, G]`` of labels, nuisances and sources, and what each tells about the label; in nats.

    Attributes:
        table: the counts.
    """

    table: Tensor

    @property
    def background(self) -> float:
        """I(Y; B)."""
        return mutual_information(self.table.sum(2))

    @property
    def pair(self) -> float:
        """I(Y; B, G)."""
        return mutual_information(self.table.flatten(1))

    @property
    def background_given_source(self) -> float:
        """I(Y; B | G)."""
        n = int(self.table.sum())
        return sum(int(part.sum()) / n * mutual_information(part) for part in self.table.unbind(2))

    @property
    def source_entropy(self) -> float:
        """H(G)."""
        shares = self.table.sum((0, 1)).double() / self.table.sum()
        return float(torch.special.entr(shares).sum())

    def label_given(self, b: int, g: int | None = None) -> Tensor:
        """P(Y | B = b), or P(Y | B = b, G = g): ``[Y]`` float64, NaN where nothing is."""
        counts = self.table[:, b].sum(1) if g is None else self.table[:, b, g]
        return counts.double() / counts.sum()

    def bayes(self) -> Tensor:
        """The most frequent label of each pair ``[B, G]``: the best rule that sees nothing else; of equals the first."""
        return self.table.argmax(0)


def group_report(y: Tensor, b: Tensor, g: Tensor | None = None, *, sizes: Sequence[int] | None = None) -> GroupReport:
    """Exact contingency table and information of labels, nuisances and sources, int64 ``[N]``; one source if not given.

    >>> y, b = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    >>> report = group_report(y, b)
    >>> report.table[..., 0].tolist(), round(report.background, 4), report.label_given(0).tolist()
    ([[2, 1], [0, 1]], 0.2158, [1.0, 0.0])

    Raises:
        ShapeError, DtypeError, DataError: see `contingency`.
    """
    return GroupReport(contingency(y, b, torch.zeros_like(y) if g is None else g, sizes=sizes))


# --- what is right ---------------------------------------------------------------------------------------------------
def group_accuracies(right: Tensor, y: Tensor, b: Tensor, *, sizes: Sequence[int] | None = None) -> Tensor:
    """Share of right answers in each group (y, b): float64 ``[Y, B]``, from bool ``[N]``.

    >>> right, y, b = torch.tensor([True, False, True, True, True]), torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 0, 1])
    >>> found = group_accuracies(right, y, b)
    >>> found.tolist(), float(found.min()), float(found.mean())  # worst group, balanced
    ([[0.5, 1.0], [1.0, 1.0]], 0.5, 0.875)

    Raises:
        DataError: a group without samples, which has no accuracy.
        ShapeError, DtypeError: see `contingency`.
    """
    counts = contingency(y, b, sizes=sizes)
    check_groups(counts, "the data")
    hits = contingency(y[right], b[right], sizes=tuple(counts.shape))
    return hits.double() / counts


def check_groups(counts: Tensor, where: str) -> None:
    """Refuse counts ``[Y, B]`` with a group that has no sample."""
    empty = (counts == 0).nonzero()
    if len(empty):
        y, b = empty[0].tolist()
        raise DataError(f"{where}: no sample of the group y = {y}, b = {b}, which has no accuracy then; add some")


def worst_group_interval(
    right: Tensor, y: Tensor, b: Tensor, *, resamples: int = 1000, generator: Generator | None = None
) -> tuple[float, float]:
    """95 % bootstrap interval of the worst group's share of right answers: each group is drawn anew, and the least taken.

    Raises:
        DataError: a group without samples.
    """
    shares = group_accuracies(right, y, b)
    counts = contingency(y, b).double().expand(resamples, *shares.shape)
    drawn = torch.binomial(counts, shares.expand_as(counts), generator=generator) / counts
    low, high = torch.quantile(drawn.flatten(1).amin(1), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


# --- inside ----------------------------------------------------------------------------------------------------------
def _top(v: Tensor) -> int:
    return int(v.max()) if len(v) else 0


def _check_index(name: str, value: Tensor, length: int) -> None:
    if value.shape != (length,):
        raise ShapeError(f"{name} has the shape {tuple(value.shape)}; give one number for each of {length} samples")
    if value.dtype != torch.int64:
        raise DtypeError(f"{name} has dtype {value.dtype}; give int64")
    if length and int(value.min()) < 0:
        raise DataError(f"{name} holds {int(value.min())}; number from 0")


def check_counts(counts: Tensor) -> None:
    """Refuse what is no table ``[Y, B]`` of whole numbers from 0 on."""
    if counts.ndim != 2 or counts.dtype != torch.int64 or not counts.numel() or bool((counts < 0).any()):
        raise ErlangenError(
            f"counts of shape {tuple(counts.shape)} and dtype {counts.dtype}; give int64 [classes, nuisances], none negative"
        )

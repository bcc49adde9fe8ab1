"""Means and scatters of classes: streamed over batches, merged exactly across workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from erlangen.errors import (
    DataError,
    DtypeError,
    ShapeError,
    check_finite,
    check_floating,
    check_integer,
    first_index,
)


@dataclass(frozen=True)
class ClassStatistics:
    """Counts, means and scatters of K classes of vectors; what two of them hold is added by ``+``, exactly.

    >>> features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0]], dtype=torch.float64)
    >>> labels = torch.tensor([0, 0, 2])
    >>> stats = ClassStatistics.of(features, labels, n_classes=3)
    >>> stats.counts.tolist(), stats.means[0].tolist(), stats.covariances[0].tolist()
    ([2, 0, 1], [1.0, 1.0], [[1.0, 0.0], [0.0, 0.0]])
    >>> parts = [ClassStatistics.of(f, y, n_classes=3) for f, y in zip(features.split(1), labels.split(1))]
    >>> torch.equal(sum(parts[1:], parts[0]).means, stats.means)
    True

    Sums are taken about the means, not about zero, so an offset costs no digits (Chan, Golub and LeVeque 1983). Moving all
    features by Q in O(d) moves means and scatters by Q; a permutation of the classes permutes the first axis.

    Attributes:
        counts: rows per class ``[K]``, int64.
        means: ``[K, d]``; zero where a class has no row.
        scatters: sums of outer products of deviations from the class mean, ``[K, d, d]``, or ``[d, d]`` summed over the
            classes with ``pooled=True``, which is what K = 1,000 classes of 2,048 features fit into.
    """

    counts: Tensor
    means: Tensor
    scatters: Tensor

    @classmethod
    def of(
        cls,
        features: Tensor,
        labels: Tensor,
        n_classes: int,
        *,
        pooled: bool = False,
        dtype: torch.dtype | None = None,
    ) -> ClassStatistics:
        """Statistics of features ``[N, d]`` with int64 labels ``[N]`` in 0, ..., K - 1.

        Args:
            features: rows; none is fine.
            labels: their classes.
            n_classes: K.
            pooled: keep the sum of the scatters alone.
            dtype: of the result, by default that of the features. Products are taken in it.

        Raises:
            ShapeError, DtypeError, NotFiniteError: features or labels of another form.
            DataError: a label outside of the classes.
        """
        check_integer("n_classes", n_classes, 1)
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise ShapeError(
                f"features has shape {tuple(features.shape)} and labels {tuple(labels.shape)}; give [N, d] and [N]"
            )
        check_floating(features, "features")
        check_finite(features, "features")
        if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
            raise DtypeError(f"labels has dtype {labels.dtype}; give class numbers, for example labels.long()")
        labels = labels.long()
        outside = (labels < 0) | (labels >= n_classes)
        if bool(outside.any()):
            index = first_index(outside)
            raise DataError(
                f"labels[{index[0]}] = {int(labels[index])}: with n_classes = {n_classes}, classes are 0 to {n_classes - 1}"
            )
        features = features.to(dtype or features.dtype)
        counts = torch.bincount(labels, minlength=n_classes)
        sums = features.new_zeros(n_classes, features.shape[1]).index_add_(0, labels, features)
        means = sums / counts.clamp(min=1).to(sums)[:, None]
        centered = features - means[labels]
        if pooled:
            return cls(counts, means, centered.mT @ centered)
        order = labels.argsort(stable=True)
        rows = centered[order].split(counts.tolist())
        return cls(counts, means, torch.stack([part.mT @ part for part in rows]))

    @classmethod
    def empty(
        cls, n_classes: int, dim: int, *, pooled: bool = False, dtype: torch.dtype = torch.float64
    ) -> ClassStatistics:
        """Statistics of no rows: what a sum starts from."""
        check_integer("dim", dim, 1)
        return cls.of(torch.zeros(0, dim, dtype=dtype), torch.zeros(0, dtype=torch.int64), n_classes, pooled=pooled)

    @classmethod
    def streamed(
        cls, batches: Iterable[tuple[Tensor, Tensor]], n_classes: int, *, pooled: bool = False
    ) -> ClassStatistics:
        """Statistics of batches (features, labels) that need not fit into memory together, in float64.

        Raises:
            DataError: no batch at all.
        """
        total: ClassStatistics | None = None
        for features, labels in batches:
            part = cls.of(features, labels, n_classes, pooled=pooled, dtype=torch.float64)
            total = part if total is None else total + part
        if total is None:
            raise DataError("batches is empty; give at least one pair (features, labels)")
        return total

    def __add__(self, other: ClassStatistics) -> ClassStatistics:
        """Statistics of the rows of both; associative and commutative up to rounding, `empty` is neutral."""
        if self.means.shape != other.means.shape or self.scatters.shape != other.scatters.shape:
            raise ShapeError(
                f"statistics of {_describe(self)} and {_describe(other)} have no sum; take the same classes, features and "
                "`pooled`"
            )
        counts = self.counts + other.counts
        share = other.counts.to(self.means) / counts.clamp(min=1).to(self.means)
        step = other.means - self.means
        # An empty side has the mean zero, so the step must not start from there.
        means = torch.where((self.counts == 0)[:, None], other.means, self.means + share[:, None] * step)
        between = self.counts.to(share) * share
        scatters = self.scatters + other.scatters + self._outer(between, step)
        return ClassStatistics(counts, means, scatters)

    def _outer(self, weights: Tensor, rows: Tensor) -> Tensor:
        if self.scatters.ndim == 2:
            return (weights[:, None] * rows).mT @ rows
        return weights[:, None, None] * rows[:, :, None] * rows[:, None, :]

    @property
    def n_classes(self) -> int:
        """K."""
        return self.means.shape[0]

    @property
    def dim(self) -> int:
        """d."""
        return self.means.shape[1]

    @property
    def covariances(self) -> Tensor:
        """Scatter of each class over its count ``[K, d, d]`` (divided by n, as a maximum likelihood estimate is).

        Zero for classes without rows; `DataError` where only the sum of the scatters was kept.
        """
        if self.scatters.ndim == 2:
            raise DataError("these statistics hold the sum of the scatters alone; take them with pooled=False")
        return self.scatters / self.counts.clamp(min=1).to(self.scatters)[:, None, None]

    @property
    def within(self) -> Tensor:
        """Within-class covariance ``[d, d]``: scatters of all classes over the number of all rows."""
        total = self.scatters if self.scatters.ndim == 2 else self.scatters.sum(0)
        return total / self._rows()

    @property
    def mean(self) -> Tensor:
        """Mean of all rows ``[d]``."""
        return self.counts.to(self.means) @ self.means / self._rows()

    def between(self, weights: Literal["classes", "rows"] = "classes") -> Tensor:
        """Between-class covariance ``[d, d]``: outer products of the class means about `mean`, averaged.

        Args:
            weights: "classes" averages over classes that have rows, each alike, as measures of neural collapse do; "rows" weighs
                by counts, so that ``within + between("rows")`` is the covariance of all rows.
        """
        if weights not in ("classes", "rows"):
            raise DataError(f"weights = {weights!r}: choose 'classes' or 'rows'")
        there = self.counts > 0
        weight = self.counts.to(self.means) if weights == "rows" else there.to(self.means)
        centered = torch.where(there[:, None], self.means - self.mean, 0.0)
        return (weight[:, None] * centered).mT @ centered / weight.sum()

    def pool(self, *, between: bool = True) -> ClassStatistics:
        """All classes as one: ``[1]``, ``[1, d]`` and ``[1, d, d]``.

        Args:
            between: whether the scatter holds the distances of the class means too (the law of total covariance), or the
                spread about them alone.
        """
        total = self.within + self.between("rows") if between else self.within
        return ClassStatistics(self.counts.sum()[None], self.mean[None], (total * self._rows())[None])

    def _rows(self) -> Tensor:
        rows = self.counts.sum()
        if int(rows) == 0:
            raise DataError("these statistics hold no rows")
        return rows.to(self.means)


def _describe(stats: ClassStatistics) -> str:
    """Size of statistics, for messages."""
    return f"{stats.n_classes} classes of {stats.dim} features{' (pooled)' * (stats.scatters.ndim == 2)}"

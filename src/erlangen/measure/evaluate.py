"""The inner loop of every measurement: a model on the orbits of a block of samples, in chunks of elements."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from erlangen.actions import GroupAction, Tree, tree_leaves, tree_map
from erlangen.errors import NotFiniteError, first_index, is_finite
from erlangen.measure.metrics import Metric, labels_of
from erlangen.measure.models import Model
from erlangen.measure.rows import plain
from erlangen.symmetry import Symmetry

GAIN = 0.8
"""A larger chunk must take at most this share of the time per element."""

CALL_SECONDS = 1.0
"""A model call that takes longer is long enough: what is done is kept between calls."""

SLAB_BYTES = 2 << 20
"""Moved inputs of one slab of elements, in bytes: they stay in the cache until the model has read them."""


# --- errors ----------------------------------------------------------------------------------------------------------
def squares(tree: Tree, other: Tree | None = None, mask: Tree | None = None) -> Tensor:
    """Sum of squares of a tree ``[C, B, ...]`` (or of its difference to another) per element and sample, ``[C, B]``.

    Integer leaves (labels) count differing entries instead; alone, each entry counts one. Squares are taken in float64:
    in float32 those of answers below 1e-22 (energies in joule) would vanish, and with them the error.
    """
    total: Tensor | None = None
    leaves = tree_leaves(tree)
    others = [None] * len(leaves) if other is None else tree_leaves(other)
    masks = [None] * len(leaves) if mask is None else tree_leaves(mask)
    for a, b, m in zip(leaves, others, masks, strict=True):
        if a.is_floating_point():
            value = (a if b is None else a - b.to(a)).double().square()
        else:
            value = (torch.ones_like(a) if b is None else a != b.to(a.device)).double()
        if m is not None:
            value = value * m
        value = value.flatten(2).sum(-1) if value.ndim > 2 else value
        total = value if total is None else total + value
    assert total is not None
    return total


def relative_error(
    moved: Tree, expected: Tree, base: Tree, mask: Tree | None = None, *, size: Tensor | None = None
) -> Tensor:
    """``||f(gx) - g f(x)|| / ||f(x)||`` per element and sample, float64 ``[C, B]``; absolute where f(x) is zero.

    With a mask (resampled outputs) both norms run over the known entries, and the lower one is of ``g f(x)``. `size` is
    ``squares(base)`` where a caller with many elements has it already.
    """
    if mask is not None:
        size = squares(expected, mask=mask)
    elif size is None:
        size = squares(base)
    return (squares(moved, expected, mask) / torch.where(size > 0, size, 1.0)).sqrt()


def entry_errors(moved: Tree, expected: Tree, base: Tree, mask: Tree | None = None) -> dict[str, Tensor]:
    """`relative_error` of every tensor of a tree by itself ``[C, B]``, by its path; empty for a tensor alone."""
    moved, expected, base, mask = plain(moved), plain(expected), plain(base), plain(mask)
    if isinstance(base, Tensor):
        return {}
    leaves = [tree_leaves(tree) for tree in (moved, expected, base)]
    masks = [None] * len(leaves[0]) if mask is None else tree_leaves(mask)
    rows = zip(tree_paths(base), *leaves, masks, strict=True)
    return {path: relative_error(a, b, row, m) for path, a, b, row, m in rows}


def tree_paths(tree: Tree) -> list[str]:
    """Names of the leaves of a tree, in order: keys and places, joined by dots."""
    if not isinstance(tree, (dict, list, tuple)):
        return [""]
    items: list[tuple[object, Tree]] = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    return [f"{key}.{path}" if path else str(key) for key, value in items for path in tree_paths(value)]


# --- chunks ----------------------------------------------------------------------------------------------------------
_TUNED: WeakKeyDictionary[object, dict[tuple[object, ...], Chunk]] = WeakKeyDictionary()


@dataclass
class Chunk:
    """How many elements go into one model call: fixed, or found by timing growing sizes on the work itself.

    The sizes 1, 4, 16, ... are tried on the first elements, two calls each of which the faster counts, until two sizes in
    a row bring no clear gain. The search is kept per model and input shape for the life of the model, so a short audit
    leaves the rest of it to the next one. In doubt the smaller size wins: a chunk that leaves the cache costs more than
    a small one loses.
    """

    fixed: int | None = None
    slab: int = 1
    """Elements moved and compared at once, around several model calls; also the largest chunk that is tried."""
    _trial: int = 1
    _best: tuple[float, int] = (float("inf"), 1)
    _misses: int = 0
    _calls: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, model: Model, x: Tree, chunk: int | None) -> Chunk:
        """For one model and one block of samples `x`."""
        size = sum(leaf.nbytes for leaf in tree_leaves(x))
        slab = max(1, SLAB_BYTES // max(size, 1))
        if chunk is not None:
            return cls(fixed=chunk, slab=slab)
        memory = _TUNED.setdefault(model.target, {}) if hasattr(model.target, "__weakref__") else {}
        key = tuple((tuple(leaf.shape), leaf.dtype, leaf.device) for leaf in tree_leaves(x))
        return memory.setdefault(key, cls(slab=slab))

    @property
    def size(self) -> int:
        """Elements of the next call."""
        return self.fixed or min(self._trial, self.slab)

    def record(self, count: int, seconds: float) -> None:
        """Learn from a call of `count` elements; the rest of an orbit counts when it is larger than what was tried."""
        if self.fixed is not None or 4 * count <= self._trial:
            return
        self._calls.append(seconds / count)
        if len(self._calls) < 2:
            return
        per_element = min(self._calls)
        self._calls.clear()
        if per_element < GAIN * self._best[0]:
            self._best, self._misses = (per_element, count), 0
        else:
            self._misses += 1
        if self._misses == 2 or count >= self.slab or per_element * count > CALL_SECONDS:
            self.fixed = self._best[1]
        self._trial = 4 * count


# --- what is answered so far -----------------------------------------------------------------------------------------
class Answers:
    """Answers on the orbits of one block, as leaves ``[c, b, ...]`` in the order of elements, for those who keep them.

    Args:
        leaves: answers of an earlier run on the first elements.
        after: called after every call of the model.
    """

    def __init__(self, leaves: list[Tensor] | None = None, after: Callable[[], None] = lambda: None) -> None:
        self._pieces: list[list[Tensor]] = [] if leaves is None else [leaves]
        self._after = after

    @property
    def count(self) -> int:
        """Elements that are answered."""
        return sum(len(piece[0]) for piece in self._pieces)

    def leaves(self) -> list[Tensor]:
        """All answers."""
        return [torch.cat(column) for column in zip(*self._pieces, strict=True)]

    def add(self, answer: Tree) -> None:
        """Take in the answers ``[c, b, ...]`` to the next elements."""
        self._pieces.append(tree_leaves(answer))
        self._after()

    def join(self, start: int, answer: Tree) -> None:
        """Hold what came after the first `start` elements as one piece, which others hold as well.

        Nothing changes where the pieces do not end there, as those of an earlier run.
        """
        if self.count != start + len(tree_leaves(answer)[0]):
            return
        first = 0
        while start > 0:
            start -= len(self._pieces[first][0])
            first += 1
        if start == 0:
            self._pieces = [*self._pieces[:first], tree_leaves(answer)]


# --- one block of samples --------------------------------------------------------------------------------------------
@dataclass
class Block:
    """What the orbits of b samples gave, all float64 on the CPU; ``K`` elements."""

    errors: Tensor
    """Relative equivariance error ``[K, b]``."""
    base: Tensor | None
    """Metric of the samples as they are, ``[b]``."""
    scores: Tensor | None
    """Metric on the orbit against labels, ``[K, b]``."""
    consensus: Tensor | None
    """Metric on the orbit against the consensus, or without a metric the relative distance to it, ``[K, b]``."""
    entries: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Relative equivariance errors of the tensors of an answer that is a dict or tuple, ``[K, b]`` each."""


def evaluate_block(
    model: Model,
    symmetry: Symmetry,
    elements: Tensor,
    x: Tree,
    y: Tree | None,
    metric: Metric | None,
    chunk: Chunk,
    *,
    consensus: bool = True,
    first: int = 0,
    kept: Answers | None = None,
    base: Tree | None = None,
) -> Block:
    """Run the model on all ``g x`` and compare with ``g f(x)``, with the labels and, if asked, with the consensus.

    `first` is the index of the block's first sample, for messages; `base` the answer to x, where it is known. What `kept`
    holds is not computed again, and what is computed is added.
    """
    base = model(x) if base is None else base
    upright = metric(base, y).cpu() if metric is not None and y is not None else None
    base_row = tree_map(lambda leaf: leaf[None], base)
    x_row = tree_map(lambda leaf: leaf[None], x)
    size = squares(base_row)
    errors, scores, answers = [], [], []
    entries: dict[str, list[Tensor]] = {path: [] for path in tree_paths(plain(base)) if path}
    known = None if kept is None else _known(kept, base)
    start = 0
    while start < len(elements):
        g = elements[start : start + max(chunk.size, chunk.slab), None]
        window = slice(start, start + len(g))
        here = None if known is None else tree_map(lambda leaf, window=window: leaf[window], known)
        answer = on_orbit(model, symmetry, g, x_row, chunk, known=here, note=None if kept is None else kept.add)
        if kept is not None:
            kept.join(start, answer)
        g = g.to(tree_leaves(base)[0].device)
        expected = symmetry.output.act(g, base_row)
        mask = symmetry.output.mask(g, base_row)
        error = relative_error(answer, expected, base_row, mask, size=size)
        _check_errors(error, start, first, model)
        errors.append(error.cpu())
        for path, values in entry_errors(answer, expected, base_row, mask).items():
            entries[path].append(values.cpu())
        if metric is not None and y is not None:
            scores.append(
                _score(metric, answer, moved_labels(symmetry.output, g, tree_map(lambda leaf: leaf[None], y)))
            )
        if consensus:
            answers.append((g, answer))
        start += len(g)
    return Block(
        torch.cat(errors),
        upright,
        torch.cat(scores) if scores else None,
        _consensus_scores(symmetry, answers, metric, vote=_votes(metric, y)) if consensus else None,
        {path: torch.cat(values) for path, values in entries.items()},
    )


def _known(kept: Answers, base: Tree) -> Tree | None:
    """Answers that are kept already, as trees like `base`."""
    if kept.count == 0:
        return None
    leaves = iter(kept.leaves())
    return tree_map(lambda leaf: next(leaves).to(leaf.device), base)


def on_orbit(
    model: Model,
    symmetry: Symmetry,
    g: Tensor,
    x_row: Tree,
    chunk: Chunk | None = None,
    *,
    known: Tree | None = None,
    note: Callable[[Tree], None] | None = None,
) -> Tree:
    """``f(g x)`` as ``[C, b, ...]`` for elements ``[C, 1, *shape]`` and samples ``[1, b, ...]``.

    The model is called on ``chunk.size`` elements at a time, and the chunk learns from the time; without one, once. Of the
    first elements the answers may be `known`; `note` gets those of every call.
    """
    start = 0 if known is None else tree_leaves(known)[0].shape[0]
    if known is not None and start == len(g):
        return known
    moved = symmetry.input.act(g, x_row)
    count, samples = tree_leaves(moved)[0].shape[:2]
    answers = [] if known is None or start == 0 else [known]
    while start < count:
        window = slice(start, start + (chunk.size if chunk else count))
        # A copy of its own: equal inputs lie equally in memory wherever they stand on the orbit, so answers are bit-equal.
        part = tree_map(lambda leaf, window=window: _own(leaf[window].flatten(0, 1)), moved)
        began = time.perf_counter()
        answer = model(part)
        elements = tree_leaves(part)[0].shape[0] // samples
        if chunk is not None:
            chunk.record(elements, time.perf_counter() - began)
        answers.append(tree_map(lambda leaf, n=elements: leaf.unflatten(0, (n, samples)), answer))
        if note is not None:
            note(answers[-1])
        start += elements
    return answers[0] if len(answers) == 1 else tree_map(lambda *leaves: torch.cat(leaves), *answers)


def _own(leaf: Tensor) -> Tensor:
    """A contiguous copy: most models would make one themselves, and others look at a tensor through `view`."""
    return leaf.clone(memory_format=torch.contiguous_format)


def moved_labels(output: GroupAction, g: Tensor, y: Tree) -> Tree:
    """Labels under the output action: by its own `labels`, where it has such a function, else as the answers."""
    labels = getattr(output.action, "labels", None)
    return output.act(g, y) if labels is None else labels(g, y)


def _check_errors(error: Tensor, start: int, first: int, model: Model) -> None:
    if not is_finite(error):
        element, sample = first_index(~torch.isfinite(error))
        raise NotFiniteError(
            f"{model.name} returned NaN or Inf for sample {first + sample} under element {start + element} of the orbit; "
            "check the model on that input"
        )


def _score(metric: Metric, answer: Tree, target: Tree) -> Tensor:
    """Metric ``[C, b]`` of answers ``[C, b, ...]``."""
    count, samples = tree_leaves(answer)[0].shape[:2]

    def flat(tree: Tree) -> Tree:
        return tree_map(lambda leaf: leaf.expand(count, *leaf.shape[1:]).reshape(-1, *leaf.shape[2:]), tree)

    device = tree_leaves(answer)[0].device
    target = tree_map(lambda leaf: leaf.to(device), flat(target))
    return metric(flat(answer), target).reshape(count, samples).cpu()


def _votes(metric: Metric | None, y: Tree | None) -> bool:
    """Whether the consensus is a label: the metric compares with labels, or the targets given are integers."""
    return metric is not None and (metric.on_labels or (isinstance(y, Tensor) and not y.is_floating_point()))


def _consensus_scores(
    symmetry: Symmetry, answers: list[tuple[Tensor, Tree]], metric: Metric | None, *, vote: bool
) -> Tensor:
    """Every answer against the consensus of all: a majority vote for labels, the mean of ``g^-1 f(gx)`` otherwise."""
    consensus = consensus_of(symmetry, answers, vote=vote)
    row = tree_map(lambda leaf: leaf[None], consensus)
    rows = []
    for g, answer in answers:
        if vote and metric is not None:  # a label stays where it is; the answer is brought back to it
            back = symmetry.output.act(symmetry.group.inverse(g), answer)
            rows.append(_score(metric, back, row))
            continue
        target = symmetry.output.act(g, row)
        rows.append(
            relative_error(answer, target, row, symmetry.output.mask(g, row)).cpu()
            if metric is None
            else _score(metric, answer, target)
        )
    return torch.cat(rows)


def consensus_of(symmetry: Symmetry, answers: list[tuple[Tensor, Tree]], *, vote: bool) -> Tree:
    """What the answers on an orbit agree on, brought back to the sample: ``[b, ...]``.

    Entries that a view cannot know (what came from outside of the picture, a box that was cut) take no part in the mean;
    what no view knows is 0.

    Args:
        symmetry: the declared symmetry.
        answers: pairs of elements ``[C, 1, *shape]`` and answers ``[C, b, ...]``.
        vote: majority of the class labels instead of the mean of the answers.
    """
    output = symmetry.output
    inverses = [output.group.inverse(g) for g, _ in answers]
    back = [output.act(g, answer) for g, (_, answer) in zip(inverses, answers, strict=True)]
    joined = tree_map(lambda *leaves: torch.cat(leaves), *back)
    if vote:
        return tree_map(lambda leaf: labels_of(leaf).mode(0).values, joined)
    masks = [output.mask(g, answer) for g, (_, answer) in zip(inverses, answers, strict=True)]
    if masks[0] is None:  # whether anything can be unknown is up to the action, so one stands for all
        return tree_map(lambda leaf: _mean(leaf, None), joined)
    known = tree_map(lambda *leaves: None if leaves[1] is None else torch.cat(leaves[1:]), joined, *masks)
    return tree_map(_mean, joined, known)


def _mean(answers: Tensor, known: Tensor | None) -> Tensor:
    """Mean of the known entries over the first axis; the most frequent value of integers."""
    if not answers.is_floating_point():
        return answers.mode(0).values
    if known is None:
        return answers.mean(0)
    known = known.expand(answers.shape)
    return (answers * known).sum(0) / known.sum(0).clamp_min(1)

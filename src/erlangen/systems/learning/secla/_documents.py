"""Documents, each a set of faces and a set of names: how they are put together, cut, and how answers are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from erlangen.errors import DataError, ShapeError, check_finite

NONAME = 0
"""Id of the token that stands for "this face has no name": row 0 of the table of names."""

WRONG_NAME = -1
"""Truth of a face whose annotation is wrong: no answer is right, and none is asked for."""

PADDING = -2


class Documents(NamedTuple):
    """A batch of documents, padded to the same numbers of faces and names, with masks of what is there.

    Attributes:
        faces: ``[B, R, ...]``, features or pictures.
        face_mask: ``[B, R]`` boolean.
        names: ``[B, S, q]``.
        name_mask: ``[B, S]`` boolean.
        ids: ``[B, S]`` int64, which name stands where; 0 is NONAME, -2 padding.
    """

    faces: Tensor
    face_mask: Tensor
    names: Tensor
    name_mask: Tensor
    ids: Tensor

    def take(self, rows: Tensor) -> Documents:
        """Some of the documents: their numbers, or a boolean ``[B]``."""
        return Documents(*(part[rows] for part in self))

    def trim(self) -> Documents:
        """Without the columns at the end that are padding in every document, so that these cannot change anything."""
        R, S = width(self.face_mask), width(self.name_mask)
        cut = self.faces[:, :R], self.face_mask[:, :R], self.names[:, :S], self.name_mask[:, :S], self.ids[:, :S]
        # One layout in memory, so that products are rounded alike whatever was cut off.
        return Documents(*(part.contiguous() for part in cut))


class Gathered(NamedTuple):
    """Result of `gather`: the documents, the numbers of those that were kept, and how many were left out."""

    documents: Documents
    kept: list[int]
    skipped: int


def width(mask: Tensor) -> int:
    """Columns up to the last one in which anything is there."""
    used = mask.any(0).nonzero()
    return int(used[-1]) + 1 if len(used) else 0


def gather(faces: Sequence[Tensor], captions: Sequence[Sequence[int]], table: Tensor) -> Gathered:
    """Documents of lists of faces and of names; NONAME is added to every caption that lacks it.

    >>> found = gather([torch.ones(2, 3), torch.ones(0, 3)], [[1, 1], [2]], torch.eye(3))
    >>> found.documents.ids, found.kept, found.skipped
    (tensor([[1, 0]]), [0], 1)

    Args:
        faces: of each document ``[R, ...]``.
        captions: numbers of the names of each document; one that occurs twice counts once.
        table: features of all names ``[n, q]``, NONAME in row 0.

    Returns:
        See `Gathered`: documents without a face, or without a name beside NONAME, are left out and counted.

    Raises:
        ShapeError: other numbers of faces and captions, faces of different shapes.
        DataError: a number outside of the table, a face or a name whose features are all zero, nothing left.
        NotFiniteError: NaN or Inf.
    """
    if len(faces) != len(captions) or table.ndim != 2:
        raise ShapeError(
            f"{len(faces)} documents of faces, {len(captions)} captions and a table of shape {tuple(table.shape)}; give as "
            "many captions as documents and a table [n, q]"
        )
    shapes = sorted({tuple(rows.shape[1:]) for rows in faces})
    if len(shapes) > 1:
        raise ShapeError(f"faces have the shapes {shapes}; embed all alike")
    check_finite(table, "table")
    _check_not_zero(table, "name")
    kept: list[int] = []
    lists: list[list[int]] = []
    for number, (rows, caption) in enumerate(zip(faces, captions, strict=True)):
        outside = [name for name in caption if not 0 <= name < len(table)]
        if outside:
            raise DataError(f"document {number} names {outside[0]}; the table has the names 0 to {len(table) - 1}")
        names = [name for name in dict.fromkeys(caption) if name != NONAME]
        if len(rows) and names:
            check_finite(rows, f"faces of document {number}")
            _check_not_zero(rows, f"document {number}: face")
            kept.append(number)
            lists.append([*names, NONAME])
    if not kept:
        raise DataError(f"none of {len(faces)} documents has both a face and a name")
    R, S = max(len(faces[number]) for number in kept), max(map(len, lists))
    ids = torch.full((len(kept), S), PADDING)
    x = faces[kept[0]].new_zeros(len(kept), R, *shapes[0])
    face_mask = torch.zeros(len(kept), R, dtype=torch.bool)
    for row, (number, names) in enumerate(zip(kept, lists, strict=True)):
        ids[row, : len(names)] = torch.tensor(names)
        x[row, : len(faces[number])] = faces[number]
        face_mask[row, : len(faces[number])] = True
    mask = ids != PADDING
    z = table[ids.clamp(min=0)] * mask[..., None]
    return Gathered(Documents(x, face_mask, z, mask, ids), kept, len(faces) - len(kept))


def _check_not_zero(x: Tensor, what: str) -> None:
    empty = ~x.flatten(1).any(1)
    if bool(empty.any()):
        raise DataError(f"{what} {int(empty.nonzero()[0])} has features that are all zero; leave it out")


# --- the score -------------------------------------------------------------------------------------------------------
class Score(NamedTuple):
    """How well faces are named.

    Attributes:
        precision: rows that are right over all rows; a row is a face, or a name of the caption that no face has.
        recall: the same over rows whose annotation is not wrong.
        f1: their harmonic mean. Names without a face count as right whatever is answered, as in the authors' scorer.
        accuracy: faces that are right over faces with a true answer, a name or NONAME; nothing in it is given away.
    """

    precision: float
    recall: float
    f1: float
    accuracy: float


def score(answer: Tensor, truth: Tensor, documents: Documents, wrong_faces: int = 0) -> Score:
    """The score of the names ``[B, R]`` that faces were given.

    Args:
        answer, truth: ids of names ``[B, R]``, 0 for NONAME; truth is -1 where the annotation is wrong.
        documents: whose faces and names these are.
        wrong_faces: how many names without a face are errors of the annotation; they count as rows that are wrong.

    Raises:
        ShapeError: answers or truths of another shape.
        DataError: more wrong faces than names without a face.
    """
    mask = documents.face_mask
    if answer.shape != mask.shape or truth.shape != mask.shape:
        raise ShapeError(
            f"answer {tuple(answer.shape)} and truth {tuple(truth.shape)}; documents have faces {tuple(mask.shape)}"
        )
    asked = mask & (truth != WRONG_NAME)
    right = int((asked & (answer == truth)).sum())
    seen = (documents.ids[:, :, None] == truth.masked_fill(~mask, PADDING)[:, None]).any(-1)
    absent = int((documents.name_mask & (documents.ids != NONAME) & ~seen).sum())
    if not 0 <= wrong_faces <= absent:
        raise DataError(f"wrong_faces = {wrong_faces}: {absent} names have no face")
    free = absent - wrong_faces
    rows = int(mask.sum()) + absent
    due = int(asked.sum()) + free
    precision, recall = (right + free) / rows, (right + free) / max(due, 1)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return Score(precision, recall, f1, right / max(int(asked.sum()), 1))

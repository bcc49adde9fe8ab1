"""SECLA: faces and names of one document match better than those of different ones, in both directions, and these agree.

Qu, Tuytelaars and Moens (WACV 2023). The losses compare sets with sets; SECLA-B, in `_easy_to_hard`, starts from documents with
one face and one name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from erlangen.errors import (
    DataError,
    DtypeError,
    ErlangenError,
    ShapeError,
    UnknownNameError,
    check_finite,
    check_sizes,
)
from erlangen.systems.learning.secla._documents import NONAME, PADDING, Documents, width

Directions = Literal["both", "names", "faces"]
Agree = Literal["diag", "full"]
Norm = Literal["sides", "names"]


# --- similarities of sets --------------------------------------------------------------------------------------------
def directed(queries: Tensor, query_mask: Tensor, keys: Tensor, key_mask: Tensor, smooth: float = 0.0) -> Tensor:
    """How well each set of queries is met by each set of keys: the mean over queries of the best product with a key.

    >>> names, faces = torch.eye(2)[:, None], torch.eye(2)[:, None]
    >>> there = torch.ones(2, 1, dtype=torch.bool)
    >>> directed(names, there, 3 * faces, there).tolist()
    [[3.0, 0.0], [0.0, 3.0]]

    Args:
        queries, keys: ``[A, n, d]`` and ``[B, m, d]``.
        query_mask, key_mask: ``[A, n]`` and ``[B, m]`` boolean, what is there.
        smooth: temperature of a log-sum-exp in place of the maximum; 0 for the maximum.

    Returns:
        ``[A, B]``.

    Raises:
        ShapeError, DtypeError: features of different width, masks of another shape, or masks that are not boolean.
        DataError: an empty set.
    """
    if queries.ndim != 3 or keys.ndim != 3 or queries.shape[-1] != keys.shape[-1]:
        raise ShapeError(
            f"sets have the shapes {tuple(queries.shape)} and {tuple(keys.shape)}; give [A, n, d] and [B, m, d]"
        )
    if query_mask.shape != queries.shape[:2] or key_mask.shape != keys.shape[:2]:
        raise ShapeError(
            f"masks have the shapes {tuple(query_mask.shape)} and {tuple(key_mask.shape)}; give [A, n], [B, m]"
        )
    for mask in (query_mask, key_mask):
        if mask.dtype != torch.bool:
            raise DtypeError(f"a mask has dtype {mask.dtype}; give booleans, True for what is there")
        if not bool(mask.any(1).all()):
            raise DataError(f"set {int((~mask.any(1)).nonzero()[0])} is empty; leave the document out")
    queries, query_mask = queries[:, : width(query_mask)], query_mask[:, : width(query_mask)]
    keys, key_mask = keys[:, : width(key_mask)], key_mask[:, : width(key_mask)]
    products = queries.flatten(0, 1) @ keys.flatten(0, 1).mT
    products = products.unflatten(1, key_mask.shape).unflatten(0, query_mask.shape).masked_fill(~key_mask, -torch.inf)
    best = smooth * (products / smooth).logsumexp(-1) if smooth else products.amax(-1)
    return best.masked_fill(~query_mask[..., None], 0).sum(1) / query_mask.sum(1, keepdim=True)


class Similarities(NamedTuple):
    """Result of `set_similarities`: ``names[a, b]`` is s(a -> b), ``faces[a, b]`` is t(a -> b)."""

    names: Tensor
    faces: Tensor


def set_similarities(z: Documents, *, temperature: float | None = None, smooth: float = 0.0) -> Similarities:
    """Similarities of documents ``[B, B]``: how well the names of a are met by the faces of b, and its faces by names.

    Args:
        z: documents with projected faces ``[B, R, d]`` and names ``[B, S, d]``.
        temperature: None for plain products; else cosines over this temperature.
        smooth: see `directed`.

    Raises:
        ErlangenError: a temperature that is not positive, a negative smoothing.
        DataError: with a temperature, an embedding that is all zero.
    """
    if temperature is not None and not temperature > 0:
        raise ErlangenError(f"temperature = {temperature}; give a positive number, or None for plain products")
    if not smooth >= 0:
        raise ErlangenError(f"smooth = {smooth}; give a positive number, or 0 for the maximum")
    faces, names = z.faces, z.names
    if temperature is not None:
        for x, mask, what in ((faces, z.face_mask, "face"), (names, z.name_mask, "name")):
            empty = mask & ~x.any(-1)
            if bool(empty.any()):
                row, place = empty.nonzero()[0].tolist()
                raise DataError(
                    f"{what} {place} of document {row} has an embedding that is all zero: it has no direction"
                )
        faces, names = normalize(faces, dim=-1) / temperature, normalize(names, dim=-1)
    return Similarities(
        directed(names, z.name_mask, faces, z.face_mask, smooth),
        directed(faces, z.face_mask, names, z.name_mask, smooth),
    )


# --- the loss --------------------------------------------------------------------------------------------------------
class Losses(NamedTuple):
    """The parts of the loss: names ask for faces, faces ask for names, both agree."""

    names: Tensor
    faces: Tensor
    agreement: Tensor


@dataclass(frozen=True)
class SetLoss:
    """The loss of a batch of documents, ``L_nf + L_fn + alpha L_agree``.

    >>> one = torch.ones(3, 1, dtype=torch.bool)
    >>> z = Documents(torch.eye(3)[:, None], one, torch.eye(3)[:, None], one, torch.ones(3, 1, dtype=torch.int64))
    >>> loss = SetLoss(alpha=0)(z)
    >>> torch.allclose(loss, 2 * torch.nn.functional.cross_entropy(torch.eye(3), torch.arange(3)))
    True

    Attributes:
        alpha: weight of the agreement.
        directions: "both"; "names" for L_nf alone (names ask for faces), "faces" for L_fn alone.
        agree: squares of s(a -> a) - t(a -> a) ("diag"), or of s(a -> b) - t(b -> a) over all pairs ("full").
        agree_norm: t is a mean over faces ("sides"), or its sum is divided by the number of names, as in the authors' code,
            which breaks the symmetry between the two ("names").
        temperature, smooth: see `set_similarities`.

    Raises:
        UnknownNameError, ErlangenError: an option that is not known, a negative weight.
    """

    alpha: float = 0.15
    directions: Directions = "both"
    agree: Agree = "diag"
    agree_norm: Norm = "sides"
    temperature: float | None = None
    smooth: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("directions", Directions), ("agree", Agree), ("agree_norm", Norm)):
            if getattr(self, name) not in get_args(known):
                raise UnknownNameError(f"{name} = {getattr(self, name)!r}; known are {', '.join(get_args(known))}")
        if not self.alpha >= 0:
            raise ErlangenError(f"alpha = {self.alpha}; give a weight that is not negative")

    def parts(self, z: Documents) -> Losses:
        """The three losses of projected documents.

        Raises:
            DataError: fewer than two documents: there is nothing to tell apart.
            NotFiniteError: embeddings with NaN or Inf.
        """
        if len(z.faces) < 2:
            raise DataError(f"a batch of {len(z.faces)} documents has no others to tell them from; give at least two")
        check_finite(z.faces, "projected faces")
        check_finite(z.names, "projected names")
        s, t = set_similarities(z, temperature=self.temperature, smooth=self.smooth)
        target = torch.arange(len(s), device=s.device)
        mine = t if self.agree_norm == "sides" else t * (z.face_mask.sum(1) / z.name_mask.sum(1))[:, None]
        apart = s.diagonal() - mine.diagonal() if self.agree == "diag" else s - mine.mT
        return Losses(cross_entropy(s, target), cross_entropy(t, target), apart.square().mean())

    def __call__(self, z: Documents) -> Tensor:
        """The loss, a scalar; see `parts`."""
        found = self.parts(z)
        match = {"both": found.names + found.faces, "names": found.names, "faces": found.faces}[self.directions]
        return match + self.alpha * found.agreement if self.alpha else match


# --- networks --------------------------------------------------------------------------------------------------------
class Network(Protocol):
    """What gives faces and names embeddings in one space."""

    def project_faces(self, faces: Tensor) -> Tensor:
        """Embeddings ``[..., d]`` of faces, whose leading axes stay."""
        ...

    def project_names(self, names: Tensor) -> Tensor:
        """Embeddings ``[..., d]`` of names ``[..., q]``."""
        ...


class Projectors(nn.Module):
    """The authors' projectors "two5" on frozen features: products of what they give are similarities.

    Args:
        face_width, name_width: of the features; 512 and 768 in the paper.
        hidden, out: widths of the layers.
        encoder: of pictures ``[n, ...]`` to features ``[n, face_width]``, trained along; None for faces that are features.
    """

    def __init__(
        self, face_width: int, name_width: int, hidden: int = 512, out: int = 128, encoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        check_sizes(face_width=face_width, name_width=name_width, hidden=hidden, out=out)
        self.encoder = encoder
        self.name_layer = nn.Linear(name_width, hidden, bias=False)
        self.face_projector = _projector(face_width, hidden, out)
        self.name_projector = _projector(hidden, hidden, out)

    def project_faces(self, faces: Tensor) -> Tensor:
        """Embeddings ``[B, R, d]`` of faces ``[B, R, ...]``."""
        if self.encoder is not None:
            faces = self.encoder(faces.flatten(0, 1)).unflatten(0, faces.shape[:2])
        return self.face_projector(faces)

    def project_names(self, names: Tensor) -> Tensor:
        """Embeddings ``[B, S, d]`` of names ``[B, S, q]``."""
        return self.name_projector(self.name_layer(names).relu())

    def forward(self, documents: Documents) -> Documents:
        """The documents with embeddings in place of features."""
        return embed(self, documents)


def _projector(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, out), nn.ReLU(), nn.Linear(out, out)
    )


class Mixed(nn.Module):
    """A new network mixed with that of stage one, ``(1 - beta) z_new + beta z_old``, which the authors' scripts leave out.

    Args:
        new, old: networks of the same sizes; `old` is frozen.
        beta: share of the old one, from 0 to 1. As in the authors' code names are mixed after both of their layers.
    """

    def __init__(self, new: Projectors, old: Projectors, beta: float = 0.5) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ErlangenError(f"beta = {beta}; give a share from 0 to 1")
        self.new, self.old, self.beta = new, old.requires_grad_(False), beta

    def project_faces(self, faces: Tensor) -> Tensor:
        """Embeddings of faces."""
        return self._mix(self.new.project_faces(faces), self.old.project_faces(faces))

    def project_names(self, names: Tensor) -> Tensor:
        """Embeddings of names."""
        z = self._mix(self.new.name_layer(names).relu(), self.old.name_layer(names).relu())
        return self._mix(self.new.name_projector(z), self.old.name_projector(z))

    def forward(self, documents: Documents) -> Documents:
        """The documents with embeddings in place of features."""
        return embed(self, documents)

    def _mix(self, new: Tensor, old: Tensor) -> Tensor:
        return torch.lerp(new, old, self.beta)


def embed(network: Network, documents: Documents) -> Documents:
    """The documents, without padding at their ends, with embeddings in place of features."""
    documents = documents.trim()
    return documents._replace(
        faces=network.project_faces(documents.faces), names=network.project_names(documents.names)
    )


# --- decisions -------------------------------------------------------------------------------------------------------
def similarity(z: Documents) -> Tensor:
    """Products ``[B, R, S]`` of the faces and names of each document; minus infinity where there is no name."""
    if z.faces.shape[-1] != z.names.shape[-1]:
        raise ShapeError(f"faces have {z.faces.shape[-1]} dimensions, names {z.names.shape[-1]}; project both alike")
    return (z.faces @ z.names.mT).masked_fill(~z.name_mask[:, None], -torch.inf)


def decode(
    scores: Tensor, documents: Documents, how: Literal["best", "one to one"] = "best", *, positive: bool = False
) -> Tensor:
    """The name ``[B, R]`` of each face, 0 for none.

    Args:
        scores: of `similarity`, ``[B, R, S]``.
        documents: whose faces and names these are.
        how: every face has the best name of its caption, NONAME among them; or no two faces share a name, NONAME apart, and
            the sum of the scores is the largest (Hungarian method).
        positive: faces whose score is not above 0 have no name, the authors' second mode.

    Returns:
        Ids of names; -2 where there is no face.

    Raises:
        ShapeError, UnknownNameError: scores of another shape, another way.
        NotFiniteError: the score of a face and a name that are there is NaN or infinite.
        DataError: one to one, and a caption without NONAME has fewer names than faces.
    """
    scores = checked_scores(scores, documents)
    if how == "best":
        place = scores.argmax(-1)
    elif how == "one to one":
        place = torch.stack([_assigned(*row) for row in zip(scores, *documents[1::2], documents.ids, strict=True)])
    else:
        raise UnknownNameError(f"how = {how!r}; known are best, one to one")
    names = documents.ids.gather(1, place)
    if positive:
        names = names.masked_fill(scores.gather(-1, place[..., None])[..., 0] <= 0, NONAME)
    return names.masked_fill(~documents.face_mask, PADDING)


def checked_scores(scores: Tensor, documents: Documents) -> Tensor:
    """Scores ``[B, R, S]`` of these documents, minus infinity where there is no name, 0 where there is no face.

    Raises:
        ShapeError: scores of another shape.
        NotFiniteError: the score of a face and a name that are there is NaN or infinite.
    """
    if scores.shape != (*documents.face_mask.shape, documents.ids.shape[1]):
        raise ShapeError(
            f"scores have the shape {tuple(scores.shape)}; documents have faces {tuple(documents.face_mask.shape)} and names "
            f"{tuple(documents.ids.shape)}"
        )
    scores = scores.masked_fill(~documents.face_mask[..., None], 0)
    check_finite(scores.masked_fill(~documents.name_mask[:, None], 0), "scores")
    return scores.masked_fill(~documents.name_mask[:, None], -torch.inf)


def _assigned(scores: Tensor, face_mask: Tensor, name_mask: Tensor, ids: Tensor) -> Tensor:
    """Places ``[R]`` of the names of one document; NONAME, where it is, may be taken by all faces."""
    place = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    names = (name_mask & (ids != NONAME)).nonzero()[:, 0]
    none = (name_mask & (ids == NONAME)).nonzero()[:, 0]
    columns = torch.cat([names, none.repeat(int(face_mask.sum()))])
    faces = face_mask.nonzero()[:, 0]
    if len(columns) < len(faces):
        raise DataError(f"{len(faces)} faces and {len(columns)} names without NONAME; one to one needs as many names")
    rows, chosen = linear_sum_assignment(scores[faces][:, columns].detach().double().cpu().numpy(), maximize=True)
    place[faces[torch.from_numpy(rows)]] = columns[torch.from_numpy(chosen)]
    return place

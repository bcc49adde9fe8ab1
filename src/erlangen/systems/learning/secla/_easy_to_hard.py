"""SECLA-B: the network that documents with one face and one name have taught finds pairs in the others, and learns from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from erlangen.errors import DataError, ShapeError
from erlangen.systems.learning.secla._documents import NONAME, Documents
from erlangen.systems.learning.secla.method import Network, SetLoss, checked_scores, directed, embed, similarity


def is_easy(documents: Documents) -> Tensor:
    """Which documents ``[B]`` have one face and one name beside NONAME."""
    names = documents.name_mask & (documents.ids != NONAME)
    return (documents.face_mask.sum(1) == 1) & (names.sum(1) == 1)


class Gallery(NamedTuple):
    """The faces of easy documents by name; `Gallery.of` makes one.

    Attributes:
        faces: ``[G, ...]``, those of one name beside each other.
        first, size: where the faces of every name begin ``[n]``, and how many there are.
    """

    faces: Tensor
    first: Tensor
    size: Tensor

    @classmethod
    def of(cls, documents: Documents, n_names: int) -> Gallery:
        """The faces of the documents among these that are easy.

        Raises:
            DataError: none is, or a name lies outside of `n_names`.
        """
        easy = documents.take(is_easy(documents))
        if not len(easy.ids):
            raise DataError("no document has one face and one name; stage two needs some of them")
        ids = easy.ids.masked_fill(~easy.name_mask, NONAME).amax(1)
        if int(ids.max()) >= n_names:
            raise DataError(f"documents name {int(ids.max())}; n_names = {n_names}")
        place = easy.face_mask.int().argmax(1)
        order = ids.argsort(stable=True)
        size = torch.bincount(ids, minlength=n_names)
        return cls(easy.faces[order, place[order]], size.cumsum(0) - size, size)

    def draw(self, ids: Tensor, generator: Generator | None = None) -> Tensor:
        """A random face ``[..., *]`` of each name that has one; the first of all for another."""
        u = torch.rand(ids.shape, generator=generator, dtype=torch.float64).to(self.faces.device)
        inside = ids.clamp(min=0)
        place = self.first[inside] + (u * self.size[inside]).long()
        return self.faces[torch.where(self.known(ids), place, 0)]

    def known(self, ids: Tensor) -> Tensor:
        """Whether a name occurs in the easy documents."""
        return (ids >= 0) & (self.size[ids.clamp(min=0)] > 0)


def match(scores: Tensor, documents: Documents, known: Tensor) -> Tensor:
    """The face ``[B, S]`` that each name is matched with, -1 for none.

    A name that is known from easy documents is matched with the best of the faces that prefer it to all other names of the
    caption, with a score above 0. Documents with one face and one name are left as they are.

    Args:
        scores: of `similarity`, ``[B, R, S]``.
        documents: whose faces and names these are.
        known: names that occur in easy documents ``[B, S]``.

    Raises:
        ShapeError, NotFiniteError: see `decode`.
    """
    scores = checked_scores(scores, documents)
    value, best = scores.max(-1)
    prefers = (value > 0) & documents.face_mask
    wanted = prefers[..., None] & (best[..., None] == torch.arange(scores.shape[-1], device=scores.device))
    wanted = wanted & (known & documents.name_mask & (documents.ids != NONAME) & ~is_easy(documents)[:, None])[:, None]
    face = scores.masked_fill(~wanted, -torch.inf).argmax(1)
    return face.masked_fill(~wanted.any(1), -1)


class Parts(NamedTuple):
    """A batch after matching.

    Attributes:
        face_mask, name_mask: ``[B, R]`` and ``[B, S]``, the faces and names that are left.
        rows: documents ``[B]`` with a matched pair.
    """

    face_mask: Tensor
    name_mask: Tensor
    rows: Tensor


def unmatched(documents: Documents, pairs: Tensor) -> Parts:
    """What `match` has left of each document."""
    taken = torch.zeros_like(documents.face_mask)
    row, name = (pairs >= 0).nonzero(as_tuple=True)
    taken[row, pairs[row, name]] = True
    return Parts(documents.face_mask & ~taken, documents.name_mask & (pairs < 0), (pairs >= 0).any(1))


def combined_loss(faces: Tensor, partners: Tensor, face_mask: Tensor, names: Tensor, name_mask: Tensor) -> Tensor:
    """L_comb: documents against themselves with their matched faces ``[B, n, d]``, against others with partners of these."""
    own = torch.eye(len(faces), dtype=torch.bool, device=faces.device)
    target = torch.arange(len(faces), device=faces.device)
    total = faces.new_zeros(())
    for far, near in (
        (directed(names, name_mask, partners, face_mask), directed(names, name_mask, faces, face_mask)),
        (directed(partners, face_mask, names, name_mask), directed(faces, face_mask, names, name_mask)),
    ):
        total = total + cross_entropy(torch.where(own, near, far), target)
    return total


def face_loss(faces: Tensor, partners: Tensor, face_mask: Tensor) -> Tensor:
    """L_face: matched faces and their partners find each other among those of other documents, in both directions."""
    target = torch.arange(len(faces), device=faces.device)
    return cross_entropy(directed(faces, face_mask, partners, face_mask), target) + cross_entropy(
        directed(partners, face_mask, faces, face_mask), target
    )


@dataclass(frozen=True)
class EasyToHard:
    """The loss of stage two, ``SECLA(unmatched) + L_comb + L_face``.

    Attributes:
        loss: of what is not matched, and of batches without a match.
        gallery: faces of the easy documents.
        null: a face ``[...]`` of nobody, a fixed normal vector, which stands beside all matched faces.

    Raises:
        ShapeError: a null face of another shape than those of the gallery.
    """

    loss: SetLoss
    gallery: Gallery
    null: Tensor

    def __post_init__(self) -> None:
        if self.null.shape != self.gallery.faces.shape[1:]:
            raise ShapeError(
                f"null has the shape {tuple(self.null.shape)}, faces {tuple(self.gallery.faces.shape[1:])}; give one face"
            )

    def __call__(self, network: Network, documents: Documents, generator: Generator | None = None) -> Tensor:
        """The loss of a batch of documents with features, a scalar; partners are drawn from the generator.

        Raises:
            DataError: fewer than two documents: there is nothing to tell apart.
        """
        if len(documents.ids) < 2:
            raise DataError(
                f"a batch of {len(documents.ids)} documents has no others to tell them from; give at least two"
            )
        documents = documents.trim()
        z = embed(network, documents)
        known = self.gallery.known(z.ids)
        pairs = match(similarity(z).detach(), z, known)
        left = unmatched(z, pairs)
        total = z.faces.sum() * 0
        both = left.face_mask.any(1) & left.name_mask.any(1)
        if int(both.sum()) > 1:
            total = total + self.loss(z._replace(face_mask=left.face_mask, name_mask=left.name_mask).take(both))
        if int(left.rows.sum()) > 1:
            total = total + self._matched(network, z.take(left.rows), pairs[left.rows], generator)
        return total

    def _matched(self, network: Network, z: Documents, pairs: Tensor, generator: Generator | None) -> Tensor:
        """L_comb + L_face of documents with a match: one place for every name, and one for the face of nobody."""
        found = pairs >= 0
        drawn = self.gallery.draw(z.ids, generator)
        nobody = self.null.to(drawn).expand(len(drawn), 1, *self.null.shape)
        partners = network.project_faces(torch.cat([drawn, nobody], 1))
        own = z.faces.gather(1, pairs.clamp(min=0)[..., None].expand(-1, -1, z.faces.shape[-1]))
        faces = torch.cat([own, partners[:, -1:]], 1)
        face_mask = torch.cat([found, torch.ones_like(found[:, :1])], 1)
        name_mask = found | (z.name_mask & (z.ids == NONAME))
        return combined_loss(faces, partners, face_mask, z.names, name_mask) + face_loss(faces, partners, face_mask)

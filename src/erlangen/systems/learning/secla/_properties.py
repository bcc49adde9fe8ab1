"""What holds exactly of set losses, of the second stage, of decisions and of the score."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, pad

from erlangen.survey import Run, bound, exact, largest, number
from erlangen.systems.learning.secla._documents import NONAME, PADDING, Documents, score
from erlangen.systems.learning.secla._easy_to_hard import EasyToHard, Gallery, combined_loss, is_easy, match, unmatched
from erlangen.systems.learning.secla.method import (
    Projectors,
    SetLoss,
    decode,
    embed,
    similarity,
)

LOSSES = (
    SetLoss(), SetLoss(agree="full"), SetLoss(directions="names"), SetLoss(directions="faces"), SetLoss(temperature=0.1),
    SetLoss(smooth=0.5),
)  # fmt: skip
D = 6


def drawn(
    g: Generator, count: int = 8, dtype: torch.dtype = torch.float64, people: int = 20, noname: bool = True
) -> Documents:
    """Random documents with one to three faces and one to four names, the last of them NONAME."""
    R = torch.randint(1, 4, (count,), generator=g)
    S = torch.randint(1, 4, (count,), generator=g) + noname
    face_mask, name_mask = torch.arange(3) < R[:, None], torch.arange(4) < S[:, None]
    ids = torch.stack([torch.randperm(people, generator=g)[:4] + 1 for _ in range(count)])
    if noname:
        ids = ids.masked_fill(torch.arange(4) == S[:, None] - 1, NONAME)
    faces, names = (torch.randn(count, n, D, generator=g, dtype=torch.float64).to(dtype) for n in (3, 4))
    return Documents(faces, face_mask, names, name_mask, ids.masked_fill(~name_mask, PADDING))


def network(g: Generator) -> Projectors:
    """Small projectors in double precision, whose signals keep their size and whose biases are not small."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(g.initial_seed())
        net = Projectors(D, D, 8, D).double()
        for parameter in net.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)
            else:
                nn.init.normal_(parameter)
        return net.requires_grad_(False)


def exchanged(z: Documents) -> Documents:
    """Faces as names and names as faces."""
    return Documents(z.names, z.name_mask, z.faces, z.face_mask, z.face_mask.long() - 1)


def shuffled(z: Documents, g: Generator) -> Documents:
    """Faces and names of each document in another order, padding among them."""
    faces, names = (torch.rand(mask.shape, generator=g).argsort(1) for mask in (z.face_mask, z.name_mask))
    rows = torch.arange(len(faces))[:, None]
    return Documents(
        z.faces[rows, faces],
        z.face_mask[rows, faces],
        z.names[rows, names],
        z.name_mask[rows, names],
        z.ids[rows, names],
    )


def padded(z: Documents, value: float = 7.0) -> Documents:
    """Two more columns of padding on both sides, which hold a number."""
    wider: dict[str, Any] = {name: pad(getattr(z, name), (0, 0, 0, 2), value=value) for name in ("faces", "names")}
    masks = {name: pad(getattr(z, name), (0, 2), value=False) for name in ("face_mask", "name_mask")}
    return Documents(**wider, **masks, ids=pad(z.ids, (0, 2), value=PADDING))


def off(a: Tensor, b: Tensor) -> float:
    """The largest difference, over the size of the second or 1."""
    return float(((a - b).abs() / b.abs().clamp(min=1)).max())


def _worst(z: Documents, other: Documents) -> float:
    return largest(off(loss(other), loss(z)) for loss in LOSSES)


# --- sets ------------------------------------------------------------------------------------------------------------
@exact(tol=1e-12, float32=1e-6)
def documents_are_sets(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest change of six losses when faces and names of every document are put in another order."""
    g = run.generator()
    z = drawn(g, dtype=dtype)
    return _worst(z, shuffled(z, g))


@bound(at_least=1e-3)
def padding_without_masks_changes_the_loss(run: Run[Any]) -> float:
    """Change of the loss when zeros are appended to features and taken for faces and names, as in the authors' batches."""
    g = run.generator()
    x, net = drawn(g), network(g)
    zeros = padded(x, 0.0)
    taken = zeros._replace(
        face_mask=torch.ones_like(zeros.face_mask),
        name_mask=torch.ones_like(zeros.name_mask),
        ids=zeros.ids.clamp(min=0),
    )
    return float((SetLoss()(embed(net, taken)) - SetLoss()(embed(net, x))).abs())


@exact(tol=1e-12, float32=1e-6)
def a_batch_is_a_set(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest change of six losses when the documents of a batch are put in another order."""
    g = run.generator()
    z = drawn(g, dtype=dtype)
    return _worst(z, z.take(torch.randperm(len(z.ids), generator=g)))


def _exchange(z: Documents, loss: SetLoss) -> float:
    here, there = loss.parts(z), loss.parts(exchanged(z))
    gaps = (here.names - there.faces, here.faces - there.names, here.agreement - there.agreement)
    return largest(float(gap.abs()) for gap in (*gaps, loss(z) - loss(exchanged(z))))


@exact(tol=1e-12, float32=1e-6)
def exchanging_faces_and_names_exchanges_the_losses(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest change of L_nf into L_fn and back, of both forms of agreement and of the total, when the sides are exchanged."""
    z = drawn(run.generator(), dtype=dtype)
    return largest(_exchange(z, SetLoss()), _exchange(z, SetLoss(agree="full")))


@bound(at_least=1e-3)
def dividing_by_names_alone_breaks_the_exchange(run: Run[Any]) -> float:
    """Change of the loss when sides are exchanged, both sums of the agreement divided by the number of names as in the code."""
    z = drawn(run.generator())
    return min(_exchange(z, SetLoss(agree=agree, agree_norm="names")) for agree in ("diag", "full"))


@exact(tol=1e-12)
def single_pairs_give_symmetric_infonce(run: Run[Any]) -> float:
    """Difference to the cross-entropies of rows and columns of one matrix at any weight alpha; one face, one name a document."""
    g = run.generator()
    faces, names = (torch.randn(7, 1, D, generator=g, dtype=torch.float64) for _ in range(2))
    there = torch.ones(7, 1, dtype=torch.bool)
    z = Documents(faces, there, names, there, torch.arange(1, 8)[:, None])
    products, target = names[:, 0] @ faces[:, 0].mT, torch.arange(7)
    due = cross_entropy(products, target) + cross_entropy(products.mT, target)
    return largest(float((SetLoss(alpha)(z) - due).abs()) for alpha in (0.0, 0.15, 10.0))


@exact(tol=1e-12)
def the_batched_loss_is_the_loop(run: Run[Any]) -> float:
    """Largest relative difference of four losses to loops over documents, names and faces that know no padding."""
    z = drawn(run.generator())
    faces = [rows[mask] for rows, mask in zip(z.faces, z.face_mask, strict=True)]
    names = [rows[mask] for rows, mask in zip(z.names, z.name_mask, strict=True)]
    count = len(faces)

    def mean_best(queries: Tensor, keys: Tensor) -> Tensor:
        return torch.stack([torch.stack([q @ k for k in keys]).max() for q in queries]).mean()

    s = [[mean_best(names[a], faces[b]) for b in range(count)] for a in range(count)]
    t = [[mean_best(faces[a], names[b]) for b in range(count)] for a in range(count)]

    def entropy(rows: list[list[Tensor]]) -> Tensor:
        return torch.stack([torch.stack(row).logsumexp(0) - row[a] for a, row in enumerate(rows)]).mean()

    own = torch.stack([(s[a][a] - t[a][a]) ** 2 for a in range(count)]).mean()
    all_pairs = torch.stack([(s[a][b] - t[b][a]) ** 2 for a in range(count) for b in range(count)]).mean()
    due = {
        SetLoss(): entropy(s) + entropy(t) + 0.15 * own,
        SetLoss(agree="full"): entropy(s) + entropy(t) + 0.15 * all_pairs,
        SetLoss(0, "names"): entropy(s),
        SetLoss(0, "faces"): entropy(t),
    }
    return largest(off(loss(z), value) for loss, value in due.items())


@exact(tol=1e-12)
def agreement_is_at_rest_where_sides_agree(run: Run[Any]) -> float:
    """Largest entry of the gradient of the agreement where s equals t: documents whose names are their faces."""
    z = drawn(run.generator(), noname=False)
    faces = z.faces.clone().requires_grad_()
    same = z._replace(faces=faces, names=z.faces, name_mask=z.face_mask)
    (gradient,) = torch.autograd.grad(SetLoss().parts(same).agreement, faces)
    return float(gradient.abs().max())


@exact(tol=1e-6)
def clear_documents_have_no_loss(run: Run[Any]) -> float:
    """Sum of both cross-entropies of block-diagonal products at margin 20, plus how often it rises as the margin grows."""
    there = torch.ones(5, 2, dtype=torch.bool)
    base = torch.eye(5, dtype=torch.float64)[:, None].expand(5, 2, 5)
    z = Documents(base, there, base, there, torch.ones(5, 2, dtype=torch.int64))
    values = [float(SetLoss(0)(z._replace(faces=margin * base))) for margin in (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)]
    return values[-1] + sum(later >= sooner for sooner, later in pairwise(values))


# --- easy to hard ----------------------------------------------------------------------------------------------------
def stage_two(g: Generator) -> tuple[Documents, EasyToHard, Projectors]:
    """Documents, easy ones among them, and the loss of the second stage."""
    x = drawn(g, 200, people=5)
    null = torch.randn(D, generator=g, dtype=torch.float64)
    return x, EasyToHard(SetLoss(), Gallery.of(x, 21), null), network(g)


@exact(tol=0)
def without_matches_stage_two_is_secla(run: Run[Any]) -> float:
    """Difference of the loss of the second stage to SECLA where no score is above zero, so that nothing is matched."""
    x, hard, net = stage_two(run.generator())

    class Below(Projectors):
        def project_faces(self, faces: Tensor) -> Tensor:
            return super().project_faces(faces).abs()

        def project_names(self, names: Tensor) -> Tensor:
            return -super().project_names(names).abs()

    below = Below(D, D, 8, D).double().requires_grad_(False)
    below.load_state_dict(net.state_dict())
    return float((hard(below, x, run.generator()) - SetLoss()(embed(below, x))).abs())


@exact(tol=0)
def matched_and_unmatched_are_a_partition(run: Run[Any]) -> float:
    """Faces and names in both parts or in none, pairs that share a face, and documents too few to be a test."""
    z, hard, _ = stage_two(run.generator())  # features stand for embeddings
    pairs = match(similarity(z), z, hard.gallery.known(z.ids))
    left = unmatched(z, pairs)
    taken = torch.zeros(z.face_mask.shape, dtype=torch.int64)
    for row, name in (pairs >= 0).nonzero().tolist():
        taken[row, pairs[row, name]] += 1
    wrong = int((taken + left.face_mask.long() != z.face_mask.long()).sum())
    wrong += int(((pairs >= 0).long() + left.name_mask.long() != z.name_mask.long()).sum())
    wrong += int(left.rows[is_easy(z)].sum())  # easy documents stay as they are
    return wrong + float(int(left.rows.sum()) < 3)


@exact(tol=1e-12)
def own_faces_as_partners_give_the_plain_loss(run: Run[Any]) -> float:
    """Difference of L_comb, matched faces standing for their partners, to both directions of the plain loss on them."""
    z = drawn(run.generator())
    ours = combined_loss(z.faces, z.faces, z.face_mask, z.names, z.name_mask)
    return off(ours, SetLoss(0)(z))


# --- decisions and the score -----------------------------------------------------------------------------------------
@exact(tol=1e-12)
def one_to_one_is_the_best_assignment(run: Run[Any]) -> float:
    """Names that two faces of a document share, plus how far a greedy assignment's sum of scores exceeds ours."""
    z = drawn(run.generator(), 200)
    scores = similarity(z)
    answer = decode(scores, z, "one to one")
    worst = 0.0
    for row in range(len(answer)):
        mine = answer[row][z.face_mask[row]].tolist()
        people = [name for name in mine if name != NONAME]
        worst += len(people) - len(set(people))
        places = [z.ids[row].tolist().index(name) for name in mine]
        total = sum(float(scores[row, face, place]) for face, place in enumerate(places))
        worst = largest(worst, _greedy(scores[row][z.face_mask[row]], z.ids[row]) - total)
    return worst


def _greedy(scores: Tensor, ids: Tensor) -> float:
    """The sum of scores when the best pair is taken again and again; NONAME stays."""
    scores, total = scores.clone(), 0.0
    for _ in range(len(scores)):
        face, name = divmod(int(scores.argmax()), scores.shape[1])
        total += float(scores[face, name])
        scores[face] = -torch.inf
        if ids[name] != NONAME:
            scores[:, name] = -torch.inf
    return total


LINKED, NOFACE, WRONGFACE, UNNAMED, WRONGNAME = 12646, 7230, 2024, 1761, 267
"""Rows of each kind in the authors' dictionaries of Labeled Faces in the Wild with captions."""


def counted(answer: Callable[[Tensor], Tensor]) -> float:
    """F1 of an answer, a function of the truth, on as many rows of each kind."""
    truth = torch.tensor([1] * LINKED + [0] * UNNAMED + [-1] * WRONGNAME)[:, None]
    absent = NOFACE + WRONGFACE - UNNAMED - WRONGNAME  # faces without a name have a caption, too
    second = torch.arange(len(truth)) < absent
    ids = torch.stack([torch.ones(len(truth)), torch.where(second, 2, PADDING), torch.zeros(len(truth))], 1).long()
    there = torch.ones(len(truth), 1, dtype=torch.bool)
    z = Documents(torch.zeros(len(truth), 1, 1), there, torch.zeros(len(truth), 3, 1), ids != PADDING, ids)
    return score(answer(truth), truth, z, WRONGFACE).f1


@number(0.317, tol=5e-4)
def the_floor_of_the_score(run: Run[Any]) -> float:
    """F1 on the counts of Labeled Faces in the Wild with captions when no face is named right."""
    return counted(lambda truth: torch.full_like(truth, 3))


@number(0.950, tol=5e-4)
def the_ceiling_of_the_score(run: Run[Any]) -> float:
    """F1 on the counts of Labeled Faces in the Wild with captions when every face is named right."""
    return counted(lambda truth: truth)


PROPERTIES = (
    documents_are_sets,
    padding_without_masks_changes_the_loss,
    a_batch_is_a_set,
    exchanging_faces_and_names_exchanges_the_losses,
    dividing_by_names_alone_breaks_the_exchange,
    single_pairs_give_symmetric_infonce,
    the_batched_loss_is_the_loop,
    agreement_is_at_rest_where_sides_agree,
    clear_documents_have_no_loss,
    without_matches_stage_two_is_secla,
    matched_and_unmatched_are_a_partition,
    own_faces_as_partners_give_the_plain_loss,
    one_to_one_is_the_best_assignment,
    the_floor_of_the_score,
    the_ceiling_of_the_score,
)

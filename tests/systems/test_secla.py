"""SECLA: documents by hand, losses and scores by hand, the second stage by hand and by loops, rivals, what is refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import vonmises_fisher
from torch import Generator, Tensor, nn
from torch.nn.functional import one_hot

from erlangen.errors import DataError, DtypeError, ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.systems.learning.secla import (
    Documents,
    EasyToHard,
    Gallery,
    Mixed,
    Projectors,
    SetLoss,
    decode,
    directed,
    embed,
    gather,
    is_easy,
    match,
    score,
    set_similarities,
    similarity,
)
from erlangen.systems.learning.secla._easy_to_hard import unmatched
from erlangen.systems.learning.secla._properties import LOSSES, drawn, network, off, padded
from erlangen.systems.learning.secla.data import (
    hashed_names,
    news,
    simulated_faces,
)
from erlangen.systems.learning.secla.rivals import (
    SET_LOSSES,
    Expectation,
    Guess,
    Hinge,
    decayed_groups,
    log_constant,
    supervised,
    train,
)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def made(faces: list[list[int]], captions: list[list[int]], n: int = 9) -> tuple[Documents, Tensor]:
    """Documents whose faces and names are unit vectors of the person, and the truth."""
    table = torch.eye(n)
    x = [torch.eye(n)[[person if person > 0 else n - 1 for person in row]] for row in faces]
    documents = gather(x, captions, table).documents
    truth = torch.full(documents.face_mask.shape, -2)
    for row, people in enumerate(faces):
        truth[row, : len(people)] = torch.tensor(people)
    return documents, truth


# --- documents -------------------------------------------------------------------------------------------------------
def test_captions_get_noname_once_and_lose_what_is_double() -> None:
    found = gather([torch.ones(1, 2), torch.ones(2, 2)], [[3, 3, 0, 1], [2]], torch.arange(1, 9.0).reshape(4, 2))
    assert found.documents.ids.tolist() == [[3, 1, 0], [2, 0, -2]]
    assert found.documents.name_mask.tolist() == [[True] * 3, [True, True, False]]
    assert found.documents.names[0, 0].tolist() == [7.0, 8.0]
    assert found.documents.face_mask.tolist() == [[True, False], [True, True]]
    assert found.skipped == 0


def test_documents_without_faces_or_names_are_counted() -> None:
    faces = [torch.ones(1, 2), torch.ones(0, 2), torch.ones(1, 2), torch.ones(1, 2)]
    found = gather(faces, [[1], [1], [], [0]], torch.ones(2, 2))
    assert (found.kept, found.skipped) == ([0], 3)


def test_trimmed_documents_end_with_the_longest() -> None:
    z = drawn(seeded())
    short = z.take(z.face_mask.sum(1) < 3).trim()
    assert short.faces.shape[1] == short.face_mask.shape[1] == int(short.face_mask.sum(1).max()) == 2
    assert short.names.shape[1] == int(short.name_mask.sum(1).max())


# --- losses ----------------------------------------------------------------------------------------------------------
def test_similarities_by_hand() -> None:
    """Two names and one face against one name and two faces."""
    there = torch.tensor([[True, True], [True, False]])
    faces = torch.tensor([[[1.0], [9.0]], [[2.0], [3.0]]])
    names = torch.tensor([[[1.0], [-1.0]], [[4.0], [9.0]]])
    z = Documents(faces, there.flip(0), names, there, torch.where(there, 1, -2))
    s, t = set_similarities(z)
    assert s.tolist() == [[0.0, (3 - 2) / 2], [4.0, 12.0]]
    assert t.tolist() == [[1.0, 4.0], [2.5, 10.0]]


def test_smooth_maxima_go_to_the_maximum_from_above() -> None:
    z = drawn(seeded())
    hard = set_similarities(z).names
    gaps = [set_similarities(z, smooth=smooth).names - hard for smooth in (1.0, 0.1, 0.001)]
    assert all(bool((gap >= -1e-12).all()) for gap in gaps)
    assert float(gaps[0].max()) > float(gaps[1].max()) > float(gaps[2].max()) >= 0
    assert float(gaps[2].max()) <= 0.001 * math.log(3) + 1e-12


def test_cosines_know_no_length() -> None:
    z = drawn(seeded())
    longer = z._replace(faces=5 * z.faces, names=z.names * torch.rand(z.ids.shape, generator=seeded(1))[..., None] + 0)
    torch.testing.assert_close(SetLoss(temperature=0.2)(longer), SetLoss(temperature=0.2)(z))
    warm, cold = (set_similarities(z, temperature=t).names for t in (1.0, 0.5))
    torch.testing.assert_close(cold, 2 * warm)


def test_the_norm_of_the_code_by_hand() -> None:
    """One document with three names and one face: the sum over its face is divided by three."""
    z = drawn(seeded(3))
    s, t = set_similarities(z)
    share = z.face_mask.sum(1) / z.name_mask.sum(1)
    due = (s.diagonal() - t.diagonal() * share).square().mean()
    assert not torch.allclose(share, torch.ones(len(share), dtype=share.dtype))
    torch.testing.assert_close(SetLoss(agree_norm="names").parts(z).agreement, due)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_differs_by_its_rounding(dtype: torch.dtype) -> None:
    z = drawn(seeded())
    half = z._replace(faces=z.faces.to(dtype), names=z.names.to(dtype))
    for loss in (SetLoss(), SetLoss(agree="full", smooth=0.5), SetLoss(temperature=0.5)):
        found = loss(half)
        assert found.dtype == dtype
        assert float(found) == pytest.approx(float(loss(z)), rel=20 * torch.finfo(dtype).eps)


def test_hinge_by_hand() -> None:
    there = torch.ones(2, 1, dtype=torch.bool)
    faces = torch.tensor([[[2.0, 0.0]], [[0.6, 0.8]]])
    names = torch.tensor([[[1.0, 0.0]], [[0.0, 3.0]]])
    z = Documents(faces, there, names, there, torch.tensor([[1], [2]]))
    # Cosines of names (rows) with faces: [[1, .6], [0, .8]].
    names_ask = (max(0, 0.2 + 0.6 - 1) + max(0, 0.2 + 0 - 0.8)) / 2
    faces_ask = (max(0, 0.2 + 0 - 1) + max(0, 0.2 + 0.6 - 0.8)) / 2
    assert float(Hinge(0.2)(z)) == pytest.approx(names_ask + faces_ask)
    assert float(Hinge(0.5)(z)) == pytest.approx((0.1 + 0.3) / 2)


def test_projectors_are_those_of_the_paper() -> None:
    net = Projectors(512, 768)
    shapes = sorted(tuple(p.shape) for p in net.parameters())
    side = [(512, 512), (128, 512), (128,), (128, 128), (128,)]
    assert shapes == sorted([(512, 768), *side, *side])
    x = drawn(seeded())
    small = Projectors(6, 6, 8, 5).double()
    z = small(x)
    rows = nn.Sequential(small.name_layer, nn.ReLU(), small.name_projector)(x.names)
    torch.testing.assert_close(z.names, rows[:, : z.names.shape[1]])


def test_padding_changes_no_bit() -> None:
    """Padded faces and names are appended to features, before the projectors, which have biases."""
    x, net = drawn(seeded()), network(seeded())
    for loss in LOSSES:
        assert torch.equal(loss(embed(net, padded(x))), loss(embed(net, x)))


def test_options_are_the_four_ablations() -> None:
    z = drawn(seeded())
    names, faces, agreement = SetLoss().parts(z)
    due = {
        SetLoss(0, "names"): names,
        SetLoss(0, "faces"): faces,
        SetLoss(0): names + faces,
        SetLoss(0.15): names + faces + 0.15 * agreement,
    }
    assert min(float(part) for part in (names, faces, agreement)) > 0.01
    assert all(torch.equal(loss(z), value) for loss, value in due.items())


@pytest.mark.parametrize("agree", ["diag", "full"])
def test_agreement_is_a_square(agree: Any) -> None:
    """It grows c squared times where all products grow c times."""
    z, loss = drawn(seeded()), SetLoss(agree=agree)
    larger = z._replace(faces=3 * z.faces)
    assert off(loss.parts(larger).agreement, 9 * loss.parts(z).agreement) < 1e-12


def test_mixing_reaches_both_networks() -> None:
    x, new, old = drawn(seeded()), network(seeded(1)), network(seeded(2))
    for beta, alone in ((0.0, new), (1.0, old)):
        for here, due in zip(
            set_similarities(embed(Mixed(new, old, beta), x)), set_similarities(embed(alone, x)), strict=True
        ):
            assert torch.equal(here, due)
    between = set_similarities(embed(Mixed(new, old, 0.5), x)).names
    assert not torch.allclose(between, set_similarities(embed(new, x)).names)


# --- decisions and the score -----------------------------------------------------------------------------------------
def test_decisions_by_hand() -> None:
    documents, _ = made([[1, 2, 1]], [[1, 2]])
    scores = torch.tensor([[[5.0, 1.0, 0.0], [4.0, 3.0, 0.0], [-1.0, -2.0, -3.0]]])
    assert decode(scores, documents).tolist() == [[1, 1, 1]]
    assert decode(scores, documents, positive=True).tolist() == [[1, 1, 0]]
    assert decode(scores, documents, "one to one").tolist() == [[1, 2, 0]]


def test_what_is_padding_decides_nothing() -> None:
    """Scores that nobody masked: names and faces that are not there, however large or broken."""
    documents, _ = made([[1, 2], [1]], [[1, 2], [1]])
    scores = torch.tensor([[[5.0, 1.0, 0.0], [1.0, 3.0, 0.0]], [[2.0, 1.0, 99.0], [math.nan, 9.0, 9.0]]])
    for how in ("best", "one to one"):
        assert decode(scores, documents, how).tolist() == [[1, 2], [1, -2]]  # pyright: ignore[reportArgumentType]


def test_noname_may_be_taken_by_all() -> None:
    documents, _ = made([[0, 0], [1]], [[1], [1]])
    scores = torch.tensor([[[0.0, 9.0], [1.0, 8.0]], [[1.0, 0.0], [9.0, 9.0]]])
    assert decode(scores, documents, "one to one").tolist() == [[0, 0], [1, -2]]


def test_the_score_by_hand() -> None:
    """A person, a name without a face, an unnamed face, a wrong annotation, two faces with one name."""
    documents, truth = made([[1], [0], [-1, 3], [4, 4]], [[1, 2], [5], [3], [4, 6]])
    answer = torch.tensor([[1, -2], [5, -2], [3, 3], [4, 0]])
    found = score(answer, truth, documents)
    # Rows: 6 faces and the names 2, 5, 6 without a face; right: 1, 3, 4 and the three names.
    assert found.precision == pytest.approx(6 / 9)
    assert found.recall == pytest.approx(6 / 8)
    assert found.f1 == pytest.approx(2 * 6 / (9 + 8))
    assert found.accuracy == pytest.approx(3 / 5)
    wrong = score(answer, truth, documents, wrong_faces=2)
    assert (wrong.precision, wrong.recall) == (pytest.approx(4 / 9), pytest.approx(4 / 6))


def test_guesses_are_uniform() -> None:
    documents, _ = made([[1]] * 6000, [[1, 2]] * 6000)
    found = decode(Guess().scores(documents, seeded()), documents)
    shares = torch.bincount(found[:, 0], minlength=3) / 6000
    assert float((shares - 1 / 3).abs().max()) < 0.025  # four standard errors


# --- easy to hard ----------------------------------------------------------------------------------------------------
def test_pairs_by_hand() -> None:
    """The better of two faces; names that are not known; scores below zero; documents with one face and one name."""
    documents, _ = made([[1, 1, 2], [1], [1, 2], [1, 2]], [[1, 2], [1], [3, 2], [1, 2]])
    assert is_easy(documents).tolist() == [False, True, False, False]
    scores = torch.full((4, 3, 3), -5.0)
    scores[0] = torch.tensor([[4.0, 0.0, 0.0], [6.0, 1.0, 0.0], [7.0, 8.0, 9.0]])
    scores[1, 0, 0] = 9.0
    scores[2, :2] = torch.tensor([[9.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
    scores[3, :2] = torch.tensor([[-1.0, -2.0, -3.0], [-2.0, 0.0, -3.0]])
    known = (documents.ids == 1) | (documents.ids == 2)
    pairs = match(scores, documents, known)
    assert pairs.tolist() == [[1, -1, -1], [-1] * 3, [-1, 1, -1], [-1] * 3]
    left = unmatched(documents, pairs)
    assert left.face_mask.tolist() == [
        [True, False, True],
        [True, False, False],
        [True, False, False],
        [True, True, False],
    ]
    assert left.rows.tolist() == [True, False, True, False]


def test_the_gallery_has_the_easy_faces_alone() -> None:
    documents, _ = made([[1], [2, 3], [3], [1], [0]], [[1], [2, 3], [3, 4], [1], [5]])
    documents = documents._replace(faces=documents.faces + 10 * torch.arange(5)[:, None, None])
    gallery = Gallery.of(documents, 9)
    assert gallery.size.tolist() == [0, 2, 0, 0, 0, 1, 0, 0, 0]
    ids = torch.tensor([[1, 5], [3, 0]])
    assert gallery.known(ids).tolist() == [[True, True], [False, False]]
    faces = torch.stack([gallery.draw(torch.ones(1, 1, dtype=torch.int64), seeded(i))[0, 0] for i in range(20)])
    assert {round(float(face.min())) for face in faces} == {0, 30}


def test_stage_two_by_loops() -> None:
    """The loss, put together pair by pair from unpadded lists, with one face of each name so that partners are known."""
    g = seeded(5)
    n, d = 6, 4
    centres = torch.randn(n, d, generator=g, dtype=torch.float64)
    table = centres + 0.1
    table[0] = 0.2
    easy = [centres[[k]] + 0.05 * torch.randn(1, d, generator=g, dtype=torch.float64) for k in range(1, n)]
    people = [[1, 2], [3, 4], [5, 1, 2], [2, 3]]
    hard = [centres[row] + 0.1 * torch.randn(len(row), d, generator=g, dtype=torch.float64) for row in people]
    gallery = Gallery.of(gather(easy, [[k] for k in range(1, n)], table).documents, n)
    x = gather(hard, [[1, 2], [3, 4, 5], [5, 1], [2, 3]], table).documents
    null = torch.randn(d, generator=g, dtype=torch.float64)

    class Same(nn.Module):
        def project_faces(self, faces: Tensor) -> Tensor:
            return 2 * faces

        def project_names(self, names: Tensor) -> Tensor:
            return 3 * names

    net = Same()
    ours = EasyToHard(SetLoss(), gallery, null)(net, x, seeded())

    z = embed(net, x)
    pairs = match(similarity(z), z, z.ids > 0)
    assert int((pairs >= 0).sum()) >= 4
    own: list[Tensor] = []
    partner: list[Tensor] = []
    named: list[Tensor] = []
    rest: list[tuple[Tensor, Tensor]] = []
    for row in range(4):
        slots = (pairs[row] >= 0).nonzero()[:, 0].tolist()
        taken = pairs[row, slots].tolist()
        faces = [f for f in range(int(x.face_mask[row].sum())) if f not in taken]
        names = [s for s in range(int(x.name_mask[row].sum())) if s not in slots]
        if faces:
            rest.append((z.faces[row, faces], z.names[row, names]))
        if slots:
            own.append(torch.cat([z.faces[row, taken], 2 * null[None]]))
            partner.append(torch.cat([torch.cat([2 * easy[int(x.ids[row, s]) - 1] for s in slots]), 2 * null[None]]))
            named.append(torch.cat([z.names[row, slots], 3 * table[:1]]))

    def best(queries: Tensor, keys: Tensor) -> Tensor:
        return (queries @ keys.mT).amax(1).mean()

    def entropy(rows: list[list[Tensor]]) -> Tensor:
        matrix = torch.stack([torch.stack(row) for row in rows])
        return (matrix.logsumexp(1) - matrix.diagonal()).mean()

    def cross(a: list[Tensor], b: list[Tensor]) -> list[list[Tensor]]:
        return [[best(p, q) for q in b] for p in a]

    def swapped(far: list[list[Tensor]], near: list[list[Tensor]]) -> list[list[Tensor]]:
        return [[near[i][j] if i == j else far[i][j] for j in range(len(far))] for i in range(len(far))]

    faces, names = [f for f, _ in rest], [n for _, n in rest]
    s, t = cross(names, faces), cross(faces, names)
    due = entropy(s) + entropy(t) + 0.15 * torch.stack([(s[i][i] - t[i][i]) ** 2 for i in range(len(s))]).mean()
    due = due + entropy(swapped(cross(named, partner), cross(named, own)))
    due = due + entropy(swapped(cross(partner, named), cross(own, named)))
    due = due + entropy(cross(own, partner)) + entropy(cross(partner, own))
    torch.testing.assert_close(ours, due)


# --- rivals ----------------------------------------------------------------------------------------------------------
def test_decay_spares_biases() -> None:
    weights, biases = decayed_groups(Projectors(4, 5, 6, 3))
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 2 for p in weights["params"])
    assert [p.ndim for p in biases["params"]] == [1] * 4


def test_the_rate_swings(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its value to zero and back in 64 batches."""
    seen: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: Any, *args: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    documents, truth = made([[1], [2], [3]], [[1], [2], [3]])
    net = Projectors(9, 9, 4, 3)
    train(net, lambda n, d, y, g: SetLoss()(embed(n, d)), (documents, truth), 97, 20, 0.5, seeded())
    due = [0.25 * (1 + math.cos(math.pi * k / 32)) for k in range(97)]
    assert seen == pytest.approx(due, abs=1e-9)


def test_the_constant_of_a_direction() -> None:
    """Against scipy's density, over that of the uniform distribution on the sphere."""
    dim, concentration = 16, 7.0
    pole = torch.eye(dim, dtype=torch.float64)[0].numpy()
    area = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)
    due = vonmises_fisher(pole, concentration).logpdf(pole) + math.log(area) - concentration  # pyright: ignore
    assert log_constant(dim, concentration) == pytest.approx(due)


def test_expectation_finds_what_a_person_can_find() -> None:
    """Two people whose documents say who they are, then a document with both; a stranger beside them."""
    g = seeded()
    faces = [[1]] * 10 + [[2]] * 10 + [[2, 1]] * 5
    people = [person for row in faces for person in row]
    x = simulated_faces(people, 16, 60.0, g)
    documents = gather(
        x.split([len(row) for row in faces]), [[1]] * 10 + [[2]] * 10 + [[1, 2]] * 5, torch.eye(3)
    ).documents
    model = Expectation()
    model.fit(documents, 60.0)
    assert decode(model.scores(documents), documents)[20:].tolist() == [[2, 1]] * 5
    stranger = documents._replace(faces=-documents.faces)
    assert decode(model.scores(stranger), stranger)[0, 0] == 0
    unseen = documents._replace(ids=documents.ids.masked_fill(documents.ids > 0, 7))
    assert bool(model.scores(unseen)[unseen.name_mask[:, None].expand(-1, 2, -1)].isfinite().all())


def test_supervision_asks_for_the_name_in_the_batch_and_in_the_caption() -> None:
    documents, truth = made([[1, 0], [2], [-1, 1]], [[1], [2, 3], [1]])

    class Same(nn.Module):
        def project_faces(self, faces: Tensor) -> Tensor:
            return faces

        def project_names(self, names: Tensor) -> Tensor:
            return 2 * names

    # Names 0 to 3 in the batch; the unnamed face is the last unit vector, like none of them.
    logits = torch.stack([2 * one_hot(torch.tensor(k), 9)[:4].float() for k in (1, 8, 2, 1)])
    due = nn.functional.cross_entropy(logits, torch.tensor([1, 0, 2, 1]))
    # Captions with NONAME: [1, 0], [1, 0], [2, 3, 0], [1, 0]; products are 2 with the own name.
    own = [math.log(math.exp(2) + 1) - 2, math.log(2), math.log(math.exp(2) + 2) - 2, math.log(math.exp(2) + 1) - 2]
    due = due + sum(own) / 4
    torch.testing.assert_close(supervised(Same(), documents, truth, seeded()), due)


def test_all_arms_are_in_the_tables(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("secla")["rows"]
    known = ["guess", "counts, EM", "counts and faces, EM", *SET_LOSSES, "SECLA-B", "supervised"]
    assert [row["model"] for row in rows if row["part"] == "simulated faces"] == known
    known.remove("counts and faces, EM")
    assert [row["model"] for row in rows if row["part"] == "characters"] == known
    assert {row["epochs"] for row in rows if row.get("model") in SET_LOSSES or row.get("model") == "SECLA-B"} == {1, 2}


# --- bad input -------------------------------------------------------------------------------------------------------
X = drawn(seeded())
NET = Projectors(6, 6, 4, 3)
SMALL = Projectors(2, 2, 4, 3)
PAIR = gather([torch.ones(1, 2)] * 2, [[1], [2]], torch.ones(3, 2)).documents
GALLERY = Gallery.of(PAIR, 3)
ONE = torch.ones(1, 2)


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: gather([ONE], [[1], [1]], ONE), ShapeError, "1 documents of faces, 2 captions"),
        (lambda: gather([ONE, torch.ones(1, 3)], [[1], [1]], torch.ones(2, 2)), ShapeError, "embed all alike"),
        (
            lambda: gather([ONE], [[2]], torch.ones(2, 2)),
            DataError,
            "document 0 names 2; the table has the names 0 to 1",
        ),
        (lambda: gather([ONE], [[-1]], torch.ones(2, 2)), DataError, "document 0 names -1"),
        (
            lambda: gather([0 * ONE], [[1]], torch.ones(2, 2)),
            DataError,
            "document 0: face 0 has features that are all zero",
        ),
        (lambda: gather([ONE], [[1]], torch.zeros(2, 2)), DataError, "name 0 has features that are all zero"),
        (lambda: gather([ONE / 0], [[1]], torch.ones(2, 2)), NotFiniteError, "faces of document 0"),
        (lambda: gather([ONE], [[1]], torch.ones(2, 2) / 0), NotFiniteError, "table"),
        (lambda: gather([ONE], [[]], torch.ones(2, 2)), DataError, "none of 1 documents"),
        (lambda: SetLoss()(X.take(torch.tensor([0]))), DataError, "a batch of 1 documents"),
        (
            lambda: EasyToHard(SetLoss(), GALLERY, ONE[0])(SMALL, PAIR.take(torch.tensor([0]))),
            DataError,
            "a batch of 1 documents",
        ),
        (lambda: SetLoss()(X._replace(faces=X.faces[..., :3])), ShapeError, "features|sets have the shapes"),
        (lambda: SetLoss()(X._replace(faces=X.faces / 0)), NotFiniteError, "projected faces"),
        (lambda: SetLoss(temperature=1.0)(X._replace(faces=0 * X.faces)), DataError, "face 0 of document 0"),
        (lambda: SetLoss()(X._replace(face_mask=X.face_mask & False)), DataError, "set 0 is empty"),
        (lambda: SetLoss(temperature=0.0)(X), ErlangenError, "temperature = 0"),
        (lambda: SetLoss(smooth=-1.0)(X), ErlangenError, "smooth = -1"),
        (lambda: SetLoss(-1), ErlangenError, "alpha = -1"),
        (lambda: SetLoss(math.nan), ErlangenError, "alpha = nan"),
        (lambda: SetLoss(temperature=math.nan)(X), ErlangenError, "temperature = nan"),
        (lambda: SetLoss(smooth=math.nan)(X), ErlangenError, "smooth = nan"),
        (lambda: SetLoss(agree="none"), UnknownNameError, "agree = 'none'"),  # pyright: ignore[reportArgumentType]
        (lambda: SetLoss(directions="up"), UnknownNameError, "directions"),  # pyright: ignore[reportArgumentType]
        (lambda: directed(X.faces, X.name_mask, X.names, X.name_mask), ShapeError, "masks have the shapes"),
        (
            lambda: directed(X.faces, X.face_mask.int(), X.names, X.name_mask),
            DtypeError,
            "a mask has dtype torch.int32",
        ),
        (lambda: similarity(X._replace(faces=X.faces[..., :3])), ShapeError, "project both alike"),
        (lambda: decode(torch.ones(2, 2, 2), X), ShapeError, "scores have the shape"),
        (lambda: decode(similarity(X) * math.nan, X), NotFiniteError, "scores has"),
        (lambda: decode(similarity(X) * math.nan, X, "one to one"), NotFiniteError, "scores has"),
        (lambda: match(torch.ones(2, 2, 2), X, X.ids > 0), ShapeError, "scores have the shape"),
        (lambda: match(similarity(X) * math.nan, X, X.ids > 0), NotFiniteError, "scores has"),
        (lambda: decode(similarity(X), X, "worst"), UnknownNameError, "how = 'worst'"),  # pyright: ignore
        (
            lambda: decode(torch.ones(8, 3, 4), X._replace(ids=X.ids + 1, name_mask=X.ids > 10), "one to one"),
            DataError,
            "needs as many names",
        ),
        (lambda: score(torch.ones(1, 1), torch.ones(1, 1), X), ShapeError, "documents have faces"),
        (lambda: score(X.face_mask.long(), X.face_mask.long(), X, wrong_faces=999), DataError, "wrong_faces = 999"),
        (lambda: Mixed(NET, NET, 1.5), ErlangenError, "beta = 1.5"),
        (lambda: Projectors(0, 6), ErlangenError, "face_width = 0"),
        (lambda: Gallery.of(X.take(~is_easy(X)), 30), DataError, "no document has one face and one name"),
        (lambda: Gallery.of(made([[5]], [[5]])[0], 4), DataError, "n_names = 4"),
        (lambda: EasyToHard(SetLoss(), Gallery.of(made([[5]], [[5]])[0], 9), ONE[0]), ShapeError, "null has the shape"),
        (lambda: hashed_names(["bela", " "]), DataError, "' ' is empty"),
        (lambda: news(0, 20, generator=seeded()), ErlangenError, "count = 0"),
        (lambda: news(5, 3, generator=seeded()), ErlangenError, "people = 3"),
    ],
)
def test_what_is_refused(call: Callable[[], object], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        call()


def test_a_loss_that_is_not_finite_names_the_rate() -> None:
    documents, truth = made([[1], [2]], [[1], [2]])
    with pytest.raises(NotFiniteError, match=r"rate 0\.5"):
        train(
            Projectors(9, 9, 4, 3),
            lambda n, d, y, g: embed(n, d).faces.sum() / 0,
            (documents, truth),
            3,
            2,
            0.5,
            seeded(),
        )

"""What is measured of SECLA: what holds exactly, simulated faces, characters that stand for faces; a real collection's links."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import avg_pool2d

from erlangen.data import digits, glyphs
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Training, compare, properties
from erlangen.systems.learning.secla._documents import PADDING, Documents, gather, score
from erlangen.systems.learning.secla._properties import PROPERTIES
from erlangen.systems.learning.secla.data import Corpus, name_table, news, read_links, simulated_faces
from erlangen.systems.learning.secla.method import Projectors, SetLoss, decode
from erlangen.systems.learning.secla.rivals import (
    SET_LOSSES,
    Guess,
    counting,
    expectation,
    plain,
    scores,
    staged,
    supervised,
    trained,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONCENTRATION = 114.0
"""Of simulated faces about their centre: the nearest other face is the same person's in about 95 of 100 cases."""

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZaeghnr"
"""Forty people with the ten digits, which are written by hand; I and O look like digits."""

STRANGERS = "αβδλπφψωБДЖЩЮЯ#&@%"
"""Faces without a name."""

JUDGED = "accuracy, new documents"
"""Claims are about documents on which nothing was trained and nothing chosen."""

WRONG = -9
"""An answer that is never right."""

SIDE = 14
"""Pixels of a character."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        documents: that train, which are named and scored themselves; that choose rates; new ones.
        epochs: passes over the documents, of all stages together.
        face_width, name_width: of the features.
        hidden, out: widths of the projectors.
        characters, character_epochs: the same for characters.
        per_class: pictures of each letter.
    """

    seeds: int
    documents: Sizes
    epochs: int
    face_width: int
    name_width: int
    hidden: int
    out: int
    characters: Sizes
    character_epochs: int
    per_class: int


BUDGETS = {
    "smoke": Budget(1, Sizes(120, 40, 40), 2, 32, 64, 32, 16, Sizes(80, 40, 40), 1, 3),
    "full": Budget(3, Sizes(2400, 400, 800), 20, 128, 256, 128, 64, Sizes(1120, 300, 600), 20, 100),
    "paper": Budget(3, Sizes(10976, 1000, 1000), 60, 512, 768, 512, 128, Sizes(10976, 1000, 1000), 60, 500),
}


# --- data ------------------------------------------------------------------------------------------------------------
def splits(run: Run[Any], sizes: Sizes, source: Callable[[int, Generator], tuple[Corpus, Tensor]], width: int) -> Any:
    """``draw(seed)`` of documents; those that train are scored too, and new ones beside them.

    Args:
        run: scale and seeds.
        sizes: of the parts.
        source: ``source(count, generator)``: a corpus and its faces, one after another.
        width: of the features of names.
    """
    sizes = run.sizes(sizes)
    if run.dry:  # a few samples have no easy documents among them
        sizes = Sizes(60, 20, 20)

    def draw(seed: int) -> Split:
        g = Generator().manual_seed(seed)
        corpus, x = source(sizes.total, g)
        found = gather(
            x.split([len(faces) for faces in corpus.faces]), corpus.captions, name_table(corpus.n_names, width, g)
        )
        documents = found.documents
        truth = torch.full(documents.face_mask.shape, PADDING)
        for row, number in enumerate(found.kept):
            truth[row, : len(corpus.faces[number])] = torch.tensor(corpus.faces[number])
        first, second = sizes.train, sizes.train + sizes.validation
        rows = torch.arange(len(truth))
        new = rows >= second
        parts = rows < first, (rows >= first) & ~new, (rows < first) | new
        train, held, test = ((documents.take(part)._asdict(), truth[part]) for part in parts)
        return Split(train, held, ({**test[0], "new": new[parts[2]]}, test[1]))

    return draw


def simulated(run: Run[Budget], count: int, g: Generator) -> tuple[Corpus, Tensor]:
    """A corpus like the news collection, with vectors for faces."""
    corpus = news(count, max(10, count // 7), generator=g)
    return corpus, _vectors(corpus, run.budget.face_width, g)


def linked(run: Run[Budget], path: str, count: int, g: Generator) -> tuple[Corpus, Tensor]:
    """So many documents of a real collection in random order, with vectors for faces."""
    whole = read_links(path)
    chosen = torch.randperm(len(whole.faces), generator=g)[:count].tolist()
    corpus = Corpus([whole.faces[i] for i in chosen], [whole.captions[i] for i in chosen], whole.n_names)
    return corpus, _vectors(corpus, run.budget.face_width, g)


def _vectors(corpus: Corpus, width: int, g: Generator) -> Tensor:
    people = [person for faces in corpus.faces for person in faces]
    return simulated_faces(people, width, CONCENTRATION * width / 128, g)


def characters(per_class: int, count: int, g: Generator) -> tuple[Corpus, Tensor]:
    """A corpus of forty people whose faces are pictures of a digit or a letter each ``[n, 1, 14, 14]``."""
    corpus = news(count, 10 + len(LETTERS), newcomers=False, generator=g)
    written = digits("train")
    printed = glyphs(LETTERS + STRANGERS, per_class, generator=g)
    x, y = torch.cat([written.x, printed.x]), torch.cat([written.y, printed.y + 10])
    order = y.argsort(stable=True)
    sizes = torch.bincount(y)
    first = sizes.cumsum(0) - sizes
    who = torch.tensor([person for faces in corpus.faces for person in faces]) - 1
    stranger = 10 + len(LETTERS) + torch.randint(len(STRANGERS), who.shape, generator=g)
    kind = torch.where(who >= 0, who, stranger)
    place = (torch.rand(kind.shape, generator=g) * sizes[kind]).long() + first[kind]
    return corpus, avg_pool2d(x[order[place]], 28 // SIDE)


class Reader(nn.Sequential):
    """Pictures ``[n, 1, 14, 14]`` to features ``[n, 64]``, trained along with the projectors."""

    WIDTH = 64

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 16, self.WIDTH), nn.ReLU(),
        )  # fmt: skip


# --- what is compared ------------------------------------------------------------------------------------------------
def named(model: Any, x: Mapping[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
    """Share of faces with the right name, for the choice of rates."""
    documents = Documents(**x)
    return {"accuracy": score(decode(scores(model, documents, generator), documents), y, documents).accuracy}


def row(model: Any, x: Mapping[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
    """Share of faces with the right name, by two decisions, on documents that trained and on new ones; the authors' F1."""
    new = x["new"]
    documents = Documents(**{name: part for name, part in x.items() if name != "new"})
    found = scores(model, documents, generator)
    old = documents.take(~new)
    best = score(decode(found[~new], old), y[~new], old)
    alone = score(decode(found[~new], old, "one to one"), y[~new], old)
    fresh = documents.take(new)
    unseen = score(decode(found[new], fresh), y[new], fresh)
    return {
        "accuracy": best.accuracy,
        "accuracy, one name to a face": alone.accuracy,
        "accuracy, new documents": unseen.accuracy,
        "F1": best.f1,
        "F1, no face right": score(y.new_full(y[~new].shape, WRONG), y[~new], old).f1,
    }


def arms(make: Callable[[], nn.Module], *, vectors: bool) -> dict[str, Rival]:
    """All rivals, by name; mixtures of directions need faces that are vectors."""
    return {
        "guess": Rival(Guess, trains=False),
        "counts, EM": counting(),
        **({"counts and faces, EM": expectation((30.0, 60.0))} if vectors else {}),
        **{name: trained(make, plain(loss)) for name, loss in SET_LOSSES.items()},
        "SECLA-B": staged(make, SetLoss()),
        "supervised": trained(make, supervised),
    }


def table_part(
    run: Run[Budget],
    name: str,
    key: str,
    make: Callable[[], nn.Module],
    draw: Callable[[int], Split],
    epochs: int,
    *,
    vectors: bool,
) -> Part:
    """A table of all arms and the three comparisons that are asked of it."""
    how = Training(_nothing, epochs, 20, rates=(1e-3, 3e-4), schedule=None, widen=3)
    rivals = arms(make, vectors=vectors)
    table = compare(name, rivals, draw, how, row, best="accuracy", run=run, larger=("accuracy", "F1"), validate=named)
    one = ["names ask", "faces ask"]
    return table.part(
        table.not_worse(f"{key}-two-directions-are-as-good-as-one", "SECLA", one, JUDGED),
        table.not_worse(f"{key}-agreement-does-no-harm", "SECLA", "both", JUDGED),
        table.not_worse(f"{key}-easy-to-hard-does-no-harm", "SECLA-B", "SECLA", JUDGED),
    )


def _nothing(*_: Any) -> Tensor:
    raise AssertionError("every rival brings its own loss")


def faces_part(run: Run[Budget], name: str, key: str, source: Any) -> Part:
    """Faces that are vectors."""
    b = run.budget
    make = partial(Projectors, b.face_width, b.name_width, b.hidden, b.out)
    return table_part(run, name, key, make, splits(run, b.documents, source, b.name_width), b.epochs, vectors=True)


def characters_part(run: Run[Budget]) -> Part:
    """Faces that are pictures of characters, seen by a small network that is trained along."""
    b = run.budget

    def make() -> Projectors:
        return Projectors(Reader.WIDTH, b.name_width, b.hidden, b.out, Reader())

    per_class = 3 if run.dry else b.per_class
    draw = splits(run, b.characters, partial(characters, per_class), b.name_width)
    return table_part(run, "characters", "characters", make, draw, b.character_epochs, vectors=False)


# --- all -------------------------------------------------------------------------------------------------------------
ELSEWHERE = (
    Claim.not_measurable(
        "labeled-faces-in-the-wild",
        "F1 of SECLA-B on the captioned news photographs of Labeled Faces in the Wild, augmented, over that of earlier methods.",
        published="state of the art",
        reason="the photographs with their captions are not here",
    ),
    Claim.not_measurable(
        "celebrity-together",
        "F1 of SECLA-B on Celebrity Together over that of earlier methods.",
        published="state of the art",
        reason="the photographs are not here",
    ),
)


def experiment(run: Run[Budget], links: str | None = None) -> Result:
    """Properties, simulated faces, characters; with the file `links` also the documents of a real collection.

    Args:
        run: scale, seeds, budget.
        links: path of ``links.json``, see `read_links`; simulated faces stand for the photographs.
    """
    parts = [
        properties(run, *PROPERTIES),
        faces_part(run, "simulated faces", "faces", partial(simulated, run)),
        characters_part(run),
    ]
    if links is not None:
        parts.append(faces_part(run, "real links", "links", partial(linked, run, links)))
    return Result.of(*parts, Part(claims=ELSEWHERE))


def figure(result: Result) -> Figure:
    """Share of faces that every arm names right, one group of bars for each kind of faces."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] != "properties"]
    arms = list(dict.fromkeys(str(row["model"]) for row in rows))
    found = {(str(row["part"]), str(row["model"])): 100 * float(str(row["accuracy"])) for row in rows}
    kinds = dict.fromkeys(part for part, _ in found)
    return plots.barh(
        {kind: [found.get((kind, arm)) for arm in arms] for kind in kinds}, arms, "faces named right", percent=True
    )

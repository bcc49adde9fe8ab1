"""What is measured of piecewise equivariant networks: properties and the bound, segmented bodies, segmented rooms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.enforce import symmetrize
from erlangen.geometry import mixed_points
from erlangen.groups import SO
from erlangen.simulate import FURNITURE, PARTS, Humanoid, room_clouds
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Training, compare, properties
from erlangen.symmetry import Symmetry
from erlangen.systems.points.apen._properties import PROPERTIES, moved_rows
from erlangen.systems.points.apen.method import APEN, apen_loss, vote_targets
from erlangen.systems.points.apen.rivals import Blind, point_net

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGID = Symmetry("E(3)", input="points", output="invariant")
SEEN, UNSEEN, TURNED = "mIoU, seen", "mIoU, unseen", "mIoU, unseen and turned"


@dataclass(frozen=True)
class Budget:
    """What a run spends: random clouds and moved bodies of the properties, then clouds of the two tasks."""

    seeds: int
    clouds: int
    moved: int
    points: int
    bodies: Sizes
    body_epochs: int
    rooms: Sizes
    room_epochs: int


BUDGETS = {
    "smoke": Budget(1, 10, 12, 256, Sizes(24, 6, 12), 2, Sizes(24, 6, 12), 2),
    "full": Budget(3, 100, 60, 512, Sizes(200, 60, 60), 36, Sizes(150, 60, 60), 8),
    "paper": Budget(5, 100, 500, 1024, Sizes(2000, 200, 500), 100, Sizes(2000, 200, 500), 100),
}


# --- tasks -----------------------------------------------------------------------------------------------------------
class Clouds(NamedTuple):
    """Clouds ``[B, n, 3]``, the class and the rigid part of every point, int64 ``[B, n]``."""

    pos: Tensor
    label: Tensor
    part: Tensor


class Task(NamedTuple):
    """A data set and what the networks need to know of it: number of classes, counts of parts, size of a part and of all."""

    name: str
    classes: int
    counts: tuple[int, ...]
    reach: float
    size: float
    draw: Callable[[int, int, bool, Generator], Clouds]
    """Clouds: how many, points of each, whether in positions that training has not seen, randomness."""


def _bodies() -> Task:
    human = Humanoid()

    def draw(count: int, points: int, unseen: bool, generator: Generator) -> Clouds:
        clouds = human.clouds(count, points, 1.0 if unseen else 0.15, generator=generator)
        return Clouds(clouds.pos, clouds.part, clouds.body)

    return Task("bodies", len(PARTS), (48, 24, 16), 0.1, 0.4, draw)


def _rooms() -> Task:
    def draw(count: int, points: int, unseen: bool, generator: Generator) -> Clouds:
        clouds = room_clouds(count, points, upright=not unseen, generator=generator)
        return Clouds(clouds.pos, clouds.kind, clouds.piece)

    return Task("rooms", len(FURNITURE), (16, 8, 5), 0.5, 2.0, draw)


# --- training and scores ---------------------------------------------------------------------------------------------
def class_loss(out: Tensor, y: dict[str, Tensor]) -> Tensor:
    """Cross entropy of logits ``[B, n, C]``."""
    return cross_entropy(out.transpose(1, 2), y["label"])


def turned(pos: Tensor, generator: Generator) -> Tensor:
    """Clouds ``[B, n, 3]``, each turned as a whole."""
    return pos @ SO(3).sample(len(pos), generator=generator, dtype=pos.dtype).mT.to(pos.device)


def anyhow(
    x: dict[str, Tensor], y: dict[str, Tensor], *, generator: Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The training batch of the augmented network, whose targets do not turn."""
    return {**x, "pos": turned(x["pos"], generator)}, y


@torch.no_grad()
def predicted(model: nn.Module, x: dict[str, Tensor]) -> Tensor:
    """The likeliest class of each point, ``[B, n]``."""
    answers: list[Tensor] = []
    for start in range(0, len(x["pos"]), 25):
        out = model({key: value[start : start + 25] for key, value in x.items()})
        answers.append((out["logits"] if isinstance(out, dict) else out).argmax(-1))
    return torch.cat(answers)


def mean_iou(predictions: Tensor, labels: Tensor, classes: int) -> float:
    """Intersection over union of each class over all points, mean over the classes that occur, in percent."""
    counts = torch.bincount((labels * classes + predictions).flatten(), minlength=classes**2).view(classes, classes)
    union = counts.sum(0) + counts.sum(1) - counts.diag()
    occurs = counts.sum(1) > 0
    return 100 * float((counts.diag()[occurs] / union[occurs]).mean())


@torch.no_grad()
def partition_scores(model: nn.Module, x: dict[str, Tensor]) -> dict[str, float]:
    """Shares of points, in percent, whose part in the first and last layer is mixed; the uncertainty of the last merging."""
    out, part = model(x), x["labels"]
    return {
        "mixed, first layer": 100 * float(mixed_points(out["labels"][:, 0], part).double().mean()),
        "mixed, last layer": 100 * float(mixed_points(out["labels"][:, -1], part).double().mean()),
        "uncertainty": 100 * float(out["uncertainty"][:, -1].mean()),
    }


def make_rivals(task: Task) -> dict[str, Rival]:
    """The networks of a task; only the last one is told the true parts."""

    def plain() -> nn.Module:
        return Blind(point_net(task.classes, task.size))

    # Cells and signs have the seed of the weights, which `compare` gives to torch.
    def framed() -> nn.Module:
        net, seed = point_net(task.classes, task.size), torch.initial_seed()
        return Blind(symmetrize(net, RIGID, samples=1, on_degenerate="allow", seed=seed))

    def apen() -> APEN:
        return APEN(task.classes, task.counts, reach=task.reach, seed=torch.initial_seed())

    return {
        "plain": Rival(plain),
        "augmented": Rival(plain, anyhow),
        "global FA": Rival(framed),
        "APEN": Rival(lambda: Blind(apen()), loss=apen_loss),
        "APEN, true parts": Rival(apen, loss=apen_loss),
    }


def task_part(run: Run[Budget], task: Task, sizes: Sizes, epochs: int) -> Part:
    """Segmented clouds: learned from seen ones, tested on seen and unseen ones, and on unseen ones turned as a whole."""
    sizes, points = run.sizes(sizes), run.budget.points

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(seed)

        def pair(count: int, *, unseen: bool = False) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            clouds = task.draw(count, points, unseen, generator)
            votes = vote_targets(clouds.pos, clouds.part, task.reach)
            return {"pos": clouds.pos, "labels": clouds.part}, {"label": clouds.label, "vote": votes}

        train, seen, unseen = pair(sizes.train), pair(sizes.test), pair(sizes.test, unseen=True)
        both: Any = tuple({"seen": old, "unseen": new} for old, new in zip(seen, unseen, strict=True))
        return Split(train, pair(sizes.validation), both)

    def validate(
        model: nn.Module, x: dict[str, Tensor], y: dict[str, Tensor], generator: Generator
    ) -> Mapping[str, float]:
        return {SEEN: mean_iou(predicted(model, x), y["label"], task.classes)}

    def measure(model: nn.Module, x: Any, y: Any, generator: Generator) -> Mapping[str, float]:
        unseen = x["unseen"]
        tests = {
            SEEN: x["seen"],
            UNSEEN: unseen,
            TURNED: {**unseen, "pos": turned(unseen["pos"], generator)},
        }
        labels = {key: y["seen" if key == SEEN else "unseen"]["label"] for key in tests}
        row = {key: mean_iou(predicted(model, test), labels[key], task.classes) for key, test in tests.items()}
        finds_parts = isinstance(model, Blind) and isinstance(model.net, APEN)
        return row | (partition_scores(model, unseen) if finds_parts else {})

    how = Training(class_loss, epochs, 4, rates=(1e-2, 3e-3, 1e-3), clip=1.0)
    table = compare(
        task.name, make_rivals(task), draw, how, measure, best=SEEN, run=run, larger=("mIoU",), validate=validate
    )

    def ahead(rival: str, points: float) -> Claim:
        return table.bound(
            f"{task.name}-beats-{rival.lower().replace(' ', '-')}",
            f"Points of mean IoU by which APEN beats PointNet ({rival}) on unseen {task.name}.",
            table["APEN", UNSEEN] - table[rival, UNSEEN],
            at_least=points,
        )

    return table.part(
        ahead("global FA", 5),
        ahead("plain", 10),
        table.beats(f"{task.name}-beats-augmented", "APEN", "augmented", UNSEEN),
        table.beats(f"{task.name}-beats-all-turned", "APEN", ("plain", "augmented", "global FA"), TURNED),
        table.beats(f"{task.name}-true-parts", "APEN, true parts", "APEN", UNSEEN),
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """The four parts.

    Raises:
        MissingExtraError: the bodies need the extra "scenes".
    """
    unmeasured = Claim.not_measurable(
        "published-benchmarks",
        "Generalises better than earlier methods on real scans of rooms and on recorded human motion.",
        published="reported as a distinct improvement for classification and segmentation",
        reason="needs the paper's scans and recordings, which are not here; simulated bodies and rooms are above",
    )
    budget = run.budget
    return Result.of(
        properties(run, *PROPERTIES),
        Part(moved_rows(run)),
        task_part(run, _bodies(), budget.bodies, budget.body_epochs),
        task_part(run, _rooms(), budget.rooms, budget.room_epochs),
        Part(claims=[unmeasured]),
    )


def figure(result: Result) -> Figure:
    """Mean IoU of every model on bodies and rooms, seen, unseen, and unseen and turned."""
    from erlangen import plots

    drawn, axes = plots.panels(2)
    for ax, task in zip(axes, ("bodies", "rooms"), strict=True):
        rows = [row for row in result.rows if row["part"] == task]
        scores = {key.removeprefix("mIoU, "): [float(row[key]) / 100 for row in rows] for key in (SEEN, UNSEEN, TURNED)}
        plots.barh(scores, [str(row["model"]) for row in rows], f"mean IoU, {task}", percent=True, ax=ax)
    return drawn

"""What is measured of GGEUR: exact aggregation, drawn rows, how alike shapes are, digits with three kinds of skew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from erlangen.geometry import orthogonal_frame, subspace_similarity
from erlangen.learn import ClassStatistics, dirichlet_partition
from erlangen.measure import accuracy
from erlangen.survey import Part, Result, Run, Sizes, Split, Training, bound, compare, exact, largest, properties, sweep
from erlangen.systems.learning.ggeur._clients import METHODS, FedAvg
from erlangen.systems.learning.ggeur._embeddings import DOMAINS, WIDTH, embedded
from erlangen.systems.learning.ggeur.method import aggregate, collect, draw, fill, shapes
from erlangen.systems.learning.ggeur.rivals import Arms, Head, domain_arms, federated, label_arms, local_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLIENTS = 10


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        letters, letter_epochs: pictures per letter and epochs that the encoder is trained with.
        skews: concentrations of the Dirichlet distribution of labels.
        digits: over all clients.
        rounds, steps: of averaging, and of Adam per round and client.
        target: rows per class that clients fill up to.
        share: of a domain's digits that its client has.
    """

    seeds: int
    letters: int
    letter_epochs: int
    skews: tuple[float, ...]
    digits: Sizes
    rounds: int
    steps: int
    target: int
    share: float


BUDGETS = {
    "smoke": Budget(1, 6, 2, (0.05,), Sizes(600, 100, 200), 2, 5, 60, 0.1),
    "full": Budget(5, 60, 8, (0.05, 0.2, 50.0), Sizes(7000, 1000, 2000), 15, 40, 300, 0.1),
    "paper": Budget(5, 60, 8, (0.05, 0.2, 50.0), Sizes(7000, 1000, 2000), 100, 800, 5000, 0.1),
}


# --- what holds exactly ----------------------------------------------------------------------------------------------
def _clients(run: Run[Budget], dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    """Six clients with a thousand rows of three classes, one of them with one row, one with none."""
    g = run.generator()
    y = torch.randint(3, (1000,), generator=g)
    mix = torch.randn(3, 8, 8, generator=g, dtype=torch.float64)
    z = torch.einsum("nij,nj->ni", mix[y], torch.randn(1000, 8, generator=g, dtype=torch.float64)) + 5.0 * y[:, None]
    parts = dirichlet_partition(y[1:], 4, 0.3, generator=g)
    rows = [parts[0] + 1, torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)]
    rows += [part + 1 for part in parts[1:]]
    return [(z[part].to(dtype), y[part]) for part in rows]


@exact(tol=1e-12, float32=1e-5)
def aggregates_are_pooled_statistics(run: Run[Budget], dtype: torch.dtype) -> float:
    """Relative difference of counts, means and covariances put together from six clients to those of all rows, either order."""
    data = _clients(run, dtype)
    whole = ClassStatistics.of(torch.cat([z for z, _ in data]).double(), torch.cat([y for _, y in data]), 3)
    worst = 0.0
    for rows in (data, data[::-1]):
        parts = [ClassStatistics.of(z, y, 3) for z, y in rows]
        total = aggregate(parts, share=1)
        assert torch.equal(total.counts, whole.counts)
        for ours, due in ((total.means, whole.means), (total.covariances, whole.covariances)):
            worst = largest(worst, float((ours.double() - due).norm() / due.norm()))
    return worst


@exact(tol=1e-12)
def factors_are_covariances(run: Run[Budget]) -> float:
    """Relative difference of the product of the factors with themselves to the covariances."""
    total = aggregate(collect(_clients(run), 3), share=1)
    factors = shapes(total)
    return float((factors @ factors.mT - total.covariances).norm() / total.covariances.norm())


@bound(at_most=0.02)
def drawn_rows_have_the_shape(run: Run[Budget]) -> float:
    """Relative difference (Frobenius) of the covariance of 1,000,000 rows drawn around one anchor to the class's."""
    total = aggregate(collect(_clients(run), 3), share=1)
    z = draw(torch.ones(1, 8, dtype=torch.float64).expand(1_000_000, 8), shapes(total)[0], generator=run.generator())
    return float((torch.cov(z.mT) - total.covariances[0]).norm() / total.covariances[0].norm())


@exact(tol=1e-10)
def drawn_rows_stay_in_the_range(run: Run[Budget]) -> float:
    """How far rows leave the plane through their anchor that a covariance of rank three spans."""
    g = run.generator()
    z = torch.randn(50, 3, generator=g, dtype=torch.float64) @ torch.randn(3, 8, generator=g, dtype=torch.float64)
    factor = shapes(ClassStatistics.of(z, torch.zeros(50, dtype=torch.int64), 1))[0]
    moved = draw(torch.zeros(100, 8, dtype=torch.float64), factor, generator=g)
    plane = torch.linalg.svd(z.mT)[0][:, 3:]  # what is orthogonal to all rows
    return float((moved @ plane).abs().max())


@exact(tol=1e-12)
def turned_embeddings_are_drawn_turned(run: Run[Budget]) -> float:
    """Largest difference of rows drawn from turned anchors and factors to the turned rows, for one Q in O(8)."""
    q = orthogonal_frame(8, generator=run.generator(1))
    factor, anchors = shapes(aggregate(collect(_clients(run), 3), share=1))[0], _clients(run)[0][0]
    plain, turned = (draw(anchors @ r.mT, r @ factor, generator=run.generator(2)) for r in (torch.eye(8).double(), q))
    return float((turned - plain @ q.mT).abs().max() / plain.abs().max())


@exact(tol=0)
def own_rows_stay(run: Run[Budget]) -> float:
    """How many of a client's rows are not the first ones, bit for bit, of what it trains on."""
    (z, y), factors = _clients(run)[0], shapes(aggregate(collect(_clients(run), 3), share=1))
    more, names = fill(z, y, factors, 500, generator=run.generator())
    return float((more[: len(z)] != z).any(1).sum() + (names[: len(y)] != y).sum())


@exact(tol=0)
def one_client_with_all_rows_is_centralised(run: Run[Budget]) -> float:
    """Largest difference of a head averaged over one client, whose classes are full, to one trained without a server."""
    z, y = (torch.cat(parts) for parts in zip(*_clients(run, torch.float32), strict=True))
    heads: list[Head] = []
    for served in (True, False):
        torch.manual_seed(0)
        head = Head(8, 3)
        if served:
            rival = federated(lambda: Head(8, 3), label_arms(10)["FedAvg + GGEUR"][0], 7)
            split = Split(*[({"z": z, "client": torch.zeros_like(y)}, y)] * 3)
            assert rival.fit is not None
            rival.fit(head, split, 0.01, Training(torch.nn.functional.cross_entropy, 2, 64, (0.01,)), run.generator())
        else:
            for step in range(2):
                local_steps(head, z, y, 7, 64, 0.01, run.generator().initial_seed() + 1000 * step, FedAvg())
        heads.append(head)
    pairs = zip(heads[0].parameters(), heads[1].parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


PROPERTIES = (
    aggregates_are_pooled_statistics,
    factors_are_covariances,
    drawn_rows_have_the_shape,
    drawn_rows_stay_in_the_range,
    turned_embeddings_are_drawn_turned,
    own_rows_stay,
    one_client_with_all_rows_is_centralised,
)


# --- shapes ----------------------------------------------------------------------------------------------------------
def shapes_part(run: Run[Budget], source: Callable[[str, str], tuple[Tensor, Tensor]]) -> Part:
    """How much the leading directions of classes agree: one class in two domains, and two classes in two domains."""

    def likeness(seed: int) -> Mapping[str, Any]:
        g, planes = Generator().manual_seed(seed), list[Tensor]()
        for domain in DOMAINS:
            z, y = source(domain, "train")
            half = torch.randperm(len(z), generator=g)[: len(z) // 2]  # other digits for other seeds
            planes.append(shapes(ClassStatistics.of(z[half].double(), y[half], 10), rank=5))
        same: list[float] = []
        other: list[float] = []
        for a in range(len(DOMAINS)):
            for b in range(a + 1, len(DOMAINS)):
                alike = subspace_similarity(planes[a][:, None], planes[b][None])
                same.append(float(alike.diagonal().mean()))
                other.append(float(alike[~torch.eye(10, dtype=torch.bool)].mean()))
        return {"one class, two domains": np.mean(same), "two classes, two domains": np.mean(other)}

    table = sweep("shapes", {"subspaces of five directions": likeness}, run=run, larger=("one", "two"))
    return table.part(
        table.ratio(
            "shapes-are-shared-across-domains",
            "Shapes: mean squared cosine between the leading five directions of one class in two domains, over that of two "
            "classes in two domains.",
            table["subspaces of five directions", "one class, two domains"],
            table["subspaces of five directions", "two classes, two domains"],
            above=1,
        )
    )


# --- digits ----------------------------------------------------------------------------------------------------------
def row(model: Any, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
    """Right answers, as the mean over domains; and the best round on test data, which is what the authors report."""
    domains = x["domain"].unique().tolist()
    parts = [accuracy(model, x["z"][x["domain"] == d], y[x["domain"] == d]) for d in domains]
    return {"accuracy": float(np.mean(parts)), "accuracy, best round on the test": model.best_round}


def _small(run: Run[Budget]) -> Budget:
    """The budget, and in a dry run the smallest: rows that are drawn and steps are no sizes that it shrinks."""
    return BUDGETS["smoke"] if run.dry else run.budget


def _compared(name: str, run: Run[Budget], arms: Arms, draw_split: Callable[[int], Split]) -> Any:
    b, make = run.budget, partial(Head, WIDTH, 10)
    steps = _small(run).steps
    rivals = {arm: federated(make, fill, steps, method) for arm, (fill, method) in arms.items()}
    how = Training(torch.nn.functional.cross_entropy, b.rounds, 64, rates=(1e-2, 3e-3), schedule=None, widen=3)
    return compare(name, rivals, draw_split, how, row, best="accuracy", run=run)


def label_part(run: Run[Budget], alpha: float, source: Callable[[str, str], tuple[Tensor, Tensor]]) -> Part:
    """Ten clients with handwritten digits, classes dealt out unevenly, at least one row of each at every client."""
    sizes = run.sizes(run.budget.digits)

    def draw_split(seed: int) -> Split:
        g = Generator().manual_seed(seed)
        z, y = source("written", "train")
        order = torch.randperm(len(z), generator=g)
        # A dry run has a few samples; ten classes at ten clients need a hundred.
        first, count = order[: max(sizes.train, 200)], max(sizes.validation, 10)
        client = torch.zeros(len(first), dtype=torch.int64)
        for number, rows in enumerate(dirichlet_partition(y[first], CLIENTS, alpha, minimum=1, generator=g)):
            client[rows] = number
        held = order[len(first) : len(first) + count]
        test, labels = (part[: max(sizes.test, 10)] for part in source("written", "test"))
        one = {"z": z[first], "client": client, "domain": torch.zeros_like(client)}
        return Split((one, y[first]), (_plain(z[held]), y[held]), (_plain(test), labels))

    name = f"labels, alpha {alpha:g}"
    even = alpha > 0.2  # nearly: nothing is asked, and two methods are enough
    methods = ("FedAvg", "FedProx") if even else tuple(METHODS)
    table = _compared(name, run, label_arms(_small(run).target, methods), draw_split)
    if even:
        return table.part()
    return table.part(*_claims(table, f"labels-{alpha:g}".replace(".", "-")))


def domain_part(run: Run[Budget], alpha: float | None, source: Callable[[str, str], tuple[Tensor, Tensor]]) -> Part:
    """Four clients with digits of four kinds, a tenth of each; with `alpha`, every kind has its own share of the classes."""
    b = run.budget

    def draw_split(seed: int) -> Split:
        g = Generator().manual_seed(seed)
        train: list[tuple[Tensor, Tensor, Tensor]] = []
        held: list[tuple[Tensor, Tensor, Tensor]] = []
        test: list[tuple[Tensor, Tensor, Tensor]] = []
        shares = torch.ones(len(DOMAINS), 10)
        if alpha is not None:
            shares = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(len(DOMAINS), alpha), 10).T)
        for number, domain in enumerate(DOMAINS):
            z, y = source(domain, "train")
            order = torch.randperm(len(z), generator=g)
            mine = order[: int(b.share * len(z))]
            if alpha is not None:
                kept = [
                    rows[: max(1, int(float(shares[number, k]) * len(rows)))]
                    for k in range(10)
                    for rows in [mine[y[mine] == k]]
                ]
                mine = torch.cat(kept)
            rest = order[int(b.share * len(z)) :][: max(b.digits.validation // 4, 10)]
            train.append((z[mine], y[mine], torch.full_like(mine, number)))
            held.append((z[rest], y[rest], torch.full_like(rest, number)))
            z, y = source(domain, "test")
            z, y = z[: max(b.digits.test // 4, 10)], y[: max(b.digits.test // 4, 10)]
            test.append((z, y, torch.full_like(y, number)))
        parts: list[tuple[dict[str, Tensor], Tensor]] = []
        for piece in (train, held, test):
            z, y, domain = (torch.cat(values) for values in zip(*piece, strict=True))
            parts.append(({"z": z, "client": domain, "domain": domain}, y))
        return Split(*parts)

    name, key = ("domains", "domains") if alpha is None else (f"domains and labels, alpha {alpha:g}", "both")
    table = _compared(name, run, domain_arms(_small(run).target), draw_split)
    return table.part(*_claims(table, key))


def _claims(table: Any, key: str) -> list[Any]:
    published = "significantly better than without"
    return [
        table.not_worse(f"{key}-helps-{method.lower()}", f"{method} + GGEUR", method, "accuracy", published=published)
        for method in METHODS
    ]


def _plain(z: Tensor) -> dict[str, Tensor]:
    nothing = torch.zeros(len(z), dtype=torch.int64)
    return {"z": z, "client": nothing, "domain": nothing}


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, shapes, label skew at all concentrations, domain skew, both."""
    small = _small(run)
    source = partial(embedded, per_class=small.letters, epochs=small.letter_epochs)
    labels = [label_part(run, alpha, source) for alpha in run.budget.skews]
    domains = [domain_part(run, alpha, source) for alpha in (None, 0.1)]
    return Result.of(properties(run, *PROPERTIES), shapes_part(run, source), *labels, *domains)


def figure(result: Result) -> Figure:
    """Accuracy of every arm, one group of bars for each kind of skew."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] not in ("properties", "shapes")]
    arms = list(dict.fromkeys(str(row["model"]) for row in rows))
    found = {(str(row["part"]), str(row["model"])): float(str(row["accuracy"])) for row in rows}
    kinds = dict.fromkeys(part for part, _ in found)
    return plots.barh({kind: [found.get((kind, arm)) for arm in arms] for kind in kinds}, arms, "accuracy, %")

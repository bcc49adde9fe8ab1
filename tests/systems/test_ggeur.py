"""GGEUR: guide sets by hand, moments of what is drawn, counts, what is sent, what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from erlangen.errors import DataError, ErlangenError, NotFiniteError, ShapeError
from erlangen.learn import ClassStatistics, run_federated
from erlangen.systems.learning.ggeur import (
    aggregate,
    collect,
    draw,
    fill,
    fill_across_domains,
    guide_set,
    method,
    shapes,
)
from erlangen.systems.learning.ggeur._embeddings import DOMAINS, pictures
from erlangen.systems.learning.ggeur.rivals import domain_arms, filled, label_arms, round_shape


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=Generator().manual_seed(seed), dtype=torch.float64)


def client(counts: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return randn(len(labels), 4, seed=seed) + 3 * labels[:, None], labels


# --- the server ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("counts", "share", "chosen"),
    [
        ([10, 50, 40], 0.8, [False, True, True]),
        ([10, 80, 10], 0.8, [False, True, False]),
        ([25, 25, 25, 25], 0.5, [True, True, False, False]),  # of equals the first
        ([0, 3, 7], 1.0, [False, True, True]),  # who has nothing is not asked
        ([1, 1, 8], 0.81, [True, False, True]),
    ],
)
def test_guide_sets_by_hand(counts: list[int], share: float, chosen: list[bool]) -> None:
    assert guide_set(torch.tensor(counts)[:, None], share)[:, 0].tolist() == chosen


def test_only_the_guide_set_counts() -> None:
    data = [client([90, 5], 1), client([10, 95], 2)]
    total = aggregate(collect(data, 2), 0.8)
    due = ClassStatistics.of(data[0][0][:90], data[0][1][:90], 2)
    assert total.counts.tolist() == [90, 95]
    assert torch.allclose(total.covariances[0], due.covariances[0], atol=1e-12)


def test_without_the_distances_of_the_clients() -> None:
    """Two clients whose classes differ in place alone: the shape is that of each."""
    z, y = client([200])
    far = [(z, y), (z + 50, y)]
    inside = aggregate(collect(far, 1), 1, between=False)
    outside = aggregate(collect(far, 1), 1)
    assert torch.allclose(inside.covariances[0], torch.cov(z.mT, correction=0), atol=1e-10)
    shift = 25 * torch.ones(4, dtype=torch.float64)
    assert torch.allclose(outside.covariances[0], inside.covariances[0] + torch.outer(shift, shift), atol=1e-8)


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, means and scatters: no tensor with as many rows as a client has samples."""
    sent: list[dict[str, tuple[int, ...]]] = []

    def spied(server: Any, client: Any, **options: Any) -> Any:
        def told(number: int, parcel: Any) -> Any:
            answer = client(number, parcel)
            sent.append({name: tuple(t.shape) for name, t in answer.tensors.items()})
            return answer

        return run_federated(server, told, **options)

    monkeypatch.setattr(method, "run_federated", spied)
    collect([client([7, 6]), client([5, 8])], 2)
    assert sent == [{"counts": (2,), "means": (2, 4), "scatters": (2, 4, 4)}] * 2


def test_shapes_of_low_rank_and_of_a_single_row() -> None:
    z = randn(30, 2) @ randn(2, 4, seed=1)
    factor = shapes(ClassStatistics.of(z, torch.zeros(30, dtype=torch.int64), 1))[0]
    assert int((factor.norm(dim=0) > 0).sum()) == 2
    best = shapes(ClassStatistics.of(z, torch.zeros(30, dtype=torch.int64), 1), rank=1)[0]
    values = torch.linalg.eigvalsh(torch.cov(z.mT, correction=0))
    assert float(best.square().sum()) == pytest.approx(float(values[-1]))
    assert not shapes(ClassStatistics.of(z[:1], torch.zeros(1, dtype=torch.int64), 1)).any()


# --- a client --------------------------------------------------------------------------------------------------------
def test_rows_around_rows_have_both_covariances() -> None:
    """Over a set of anchors the covariance is that of the anchors plus that of the draws."""
    anchors = 2 * randn(200_000, 3)
    factor = randn(3, 2, seed=1)
    z = draw(anchors, factor, scale=0.5, generator=Generator().manual_seed(2))
    due = torch.cov(anchors.mT) + 0.5 * factor @ factor.mT
    assert float((torch.cov(z.mT) - due).norm() / due.norm()) < 0.02


def test_counts_after_filling() -> None:
    z, y = client([3, 50, 0, 12])
    factors = shapes(ClassStatistics.of(z, y, 4))
    _, names = fill(z, y, factors, 20, generator=Generator().manual_seed(0))
    assert torch.bincount(names, minlength=4).tolist() == [20, 50, 0, 20]
    copies, _ = fill(z, y, torch.zeros(4, 4, 1, dtype=torch.float64), 20, generator=Generator().manual_seed(0))
    assert torch.isin(copies, z).all()
    uses = torch.stack([(copies[names == 0] == row).all(1).sum() for row in z[:3]])
    assert int(uses.max() - uses.min()) <= 1  # every row as often as the others


def test_counts_across_domains() -> None:
    z, y = client([3, 50, 0])
    factors = shapes(ClassStatistics.of(z, y, 3))
    prototypes = torch.zeros(2, 3, 4, dtype=torch.float64)
    prototypes[:, 2] = torch.tensor([100.0, torch.nan])[:, None]  # one domain lacks class 2 too
    more, names = fill_across_domains(
        z, y, factors, prototypes, 20, own=20, each=20, generator=Generator().manual_seed(0)
    )
    assert torch.bincount(names).tolist() == [20, 20, 20]
    assert torch.equal(more[:3], z[:3])
    assert float((more[names == 2] - 100).abs().max()) == 0  # no own row, so no shape: copies of the prototype
    assert torch.isin(more[names == 1], z).all()  # a part of its own rows


def test_round_shapes_have_the_same_trace() -> None:
    factors = randn(3, 5, 2)
    ball = round_shape(factors.float()).double()
    assert torch.allclose(ball.square().sum((1, 2)), factors.square().sum((1, 2)), rtol=1e-5)


def test_ways_of_filling_differ_in_the_shape_alone() -> None:
    rows = [(z.float(), y) for z, y in (client([3, 9], 1), client([20, 2], 2))]
    made = {
        how: filled(how, 15, rows, 2, Generator().manual_seed(0))
        for how in ("copies", "isotropic", "own covariance", "GGEUR")
    }
    for how, clients in made.items():
        assert [torch.bincount(y).tolist() for _, y in clients] == [[15, 15], [20, 15]], how
    values = [clients[0][0] for clients in made.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])


@pytest.mark.parametrize("domain", DOMAINS)
def test_domains_are_digits_of_their_own(domain: str) -> None:
    x, y = pictures(domain, "test")
    assert x.shape[1:] == (1, 28, 28)
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    assert set(y.tolist()) == set(range(10))
    assert torch.equal(x, pictures(domain, "test")[0])


def test_all_arms_are_in_the_tables(smoke: Callable[[str], dict[str, Any]]) -> None:
    rows = smoke("ggeur")["rows"]
    assert [row["model"] for row in rows if row["part"] == "labels, alpha 0.05"] == list(label_arms(1))
    for part in ("domains", "domains and labels, alpha 0.1"):
        assert [row["model"] for row in rows if row["part"] == part] == list(domain_arms(1))


# --- bad input -------------------------------------------------------------------------------------------------------
def _stats(scatter: float) -> ClassStatistics:
    return ClassStatistics(torch.tensor([5]), torch.zeros(1, 2), scatter * torch.eye(2)[None])


Z, Y = client([4, 4])
F = shapes(ClassStatistics.of(Z, Y, 2))


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda: guide_set(torch.tensor([[0, 1]])), DataError, "class 0 has no rows"),
        (lambda: guide_set(torch.tensor([[3, 1]]), 0.0), ErlangenError, "share = 0"),
        (lambda: guide_set(torch.tensor([3.0])), ShapeError, "clients, classes"),
        (lambda: aggregate([]), ErlangenError, "at least one client"),
        (lambda: aggregate([_stats(1), _stats(-1)]), DataError, "client 1 sent a scatter of class 0"),
        (lambda: collect([(Z, Y), (Z[:, :3], Y)], 2), ShapeError, r"\[3, 4\] dimensions"),
        (lambda: shapes(ClassStatistics.of(Z, Y, 2), rank=5), ErlangenError, "rank = 5"),
        (lambda: draw(Z, F[0][:3]), ShapeError, "factor"),
        (lambda: draw(Z, F[0], scale=-1), ErlangenError, "scale = -1"),
        (lambda: fill(Z, Y, F, 0), ErlangenError, "target = 0"),
        (lambda: fill(Z, Y + 1, F, 9), DataError, "labels go from 1 to 2"),
        (lambda: fill(Z[:, :3], Y, F, 9), ShapeError, "3 dimensions"),
        (lambda: fill(Z / 0, Y, F, 9), NotFiniteError, "features"),
        (lambda: fill_across_domains(Z, Y, F, torch.zeros(1, 3, 4), 9), ShapeError, "prototypes"),
        (
            lambda: fill_across_domains(Z, Y, F, torch.zeros(1, 2, 4, dtype=torch.float64), 90, own=5, each=5),
            DataError,
            "raise own or each",
        ),
    ],
)
def test_what_is_refused(call: Callable[[], object], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        call()

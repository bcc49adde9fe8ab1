"""er.discover on rows that are not independent: clusters, near copies, and what they do to the verdict."""

import warnings

import pytest
import torch

import erlangen as er
from erlangen.errors import DataError, ErlangenError, RepeatedRowsWarning

TURNS = [er.Symmetry("SO(3)", input="vectors", output="invariant")]


def drawn(n, seed, noise=0.3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator)
    return x, x.norm(dim=1, keepdim=True) + noise * torch.randn(n, 1, generator=generator)


def verdicts(repeats, groups, seeds=40):
    """How often a symmetry that holds is kept, for 60 draws that stand there so many times."""
    kept = 0
    for seed in range(seeds):
        x, y = drawn(60, seed)
        labels = torch.arange(60).repeat(repeats) if groups else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RepeatedRowsWarning)
            data = (x.repeat(repeats, 1), y.repeat(repeats, 1))
            kept += er.discover(data=data, candidates=TURNS, groups=labels, seed=seed)[0].holds
    return kept


def test_repeated_rows_need_groups():
    """A symmetry that holds is rejected one time in forty: at most 4 of 40 (more have a chance of 1 in 300)."""
    assert verdicts(1, groups=False) >= 36
    assert verdicts(4, groups=True) >= 36
    assert verdicts(4, groups=False) < 20


def test_frames_of_one_recording_that_only_look_different():
    """Ten positions along a line from the same place with the same offset: what breaks the symmetry is seen by groups."""
    kept = seen = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        start, offset = torch.randn(60, 1, 3, generator=generator), torch.randn(60, 1, 1, generator=generator)
        x = (start + 0.1 * torch.randn(60, 6, 3, generator=generator)).flatten(0, 1)
        y = (x.norm(dim=1).view(60, 6, 1) + 0.5 * offset).flatten(0, 1)
        labels = torch.arange(60).repeat_interleave(6)
        kept += er.discover(data=(x, y), candidates=TURNS, groups=labels, seed=seed)[0].holds
        broken = er.discover(data=(x, y + 2 * x[:, 2:]), candidates=TURNS, groups=labels, seed=seed)[0]
        seen += not broken.holds
    assert kept >= 17
    assert seen >= 18


def test_groups_of_one_row_change_nothing():
    x, y = drawn(100, 0)
    alone = er.discover(data=(x, y + x[:, 2:]), candidates=TURNS)[0]
    assert er.discover(data=(x, y + x[:, 2:]), candidates=TURNS, groups=list(range(7, 107)))[0] == alone


def test_near_copies_are_named():
    x, y = drawn(80, 0)
    for size in (0.0, 1e-4):
        noise = size * torch.randn(160, 3, generator=torch.Generator().manual_seed(1))
        with pytest.warns(RepeatedRowsWarning, match=r"100% of the rows have a near copy.*groups="):
            er.discover(data=(x.repeat(2, 1) + noise, y.repeat(2, 1)), candidates=TURNS)
        er.discover(data=(x.repeat(2, 1) + noise, y.repeat(2, 1)), candidates=TURNS, groups=torch.arange(80).repeat(2))


@pytest.mark.parametrize("n", [20, 200, 3500])
@pytest.mark.parametrize("symmetry", ["Cyclic(2)", "O(2)"])
def test_independent_rows_raise_no_warning(n, symmetry):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    candidates = [er.Symmetry(symmetry, input="vectors", output="invariant")]
    er.discover(data=(x, x.square().sum(1, keepdim=True)), candidates=candidates, elements=1)


def test_large_groups_leave_room_for_the_others():
    """One group of 4,000 rows beside 40 of ten."""
    x, y = drawn(4400, 0)
    labels = torch.cat((torch.zeros(4000, dtype=torch.long), 1 + torch.arange(40).repeat(10)))
    assert er.discover(data=(x, y), candidates=TURNS, groups=labels, elements=2)[0].holds


def test_bad_groups():
    x, y = drawn(40, 0)
    with pytest.raises(DataError, match="one integer for each of the 40 samples"):
        er.discover(data=(x, y), candidates=TURNS, groups=torch.zeros(39, dtype=torch.long))
    with pytest.raises(DataError, match="one integer for each"):
        er.discover(data=(x, y), candidates=TURNS, groups=torch.zeros(40))
    with pytest.raises(DataError, match="names 10 groups; give at least 20"):
        er.discover(data=(x, y), candidates=TURNS, groups=torch.arange(40) // 4)
    with pytest.raises(ErlangenError, match="a model has no rows"):
        er.discover(lambda v: v, TURNS, x, groups=torch.arange(40))  # pyright: ignore[reportCallIssue]

"""Peaks of programs whose memory is known, and times by a clock that is known."""

import itertools

import pytest
import torch

from erlangen.errors import ErlangenError
from erlangen.measure import Allocations, median_times, peak_memory


def test_peaks_of_known_programs() -> None:
    x = torch.ones(1000, requires_grad=True)
    with Allocations() as found:
        y = x.detach().exp()
        z = y + 1
        del y
        w = z.view(10, 100).T
        z = w.contiguous()
    assert found.peak == 2 * 4000
    assert z.shape == (100, 10)
    assert 2 * 4000 <= peak_memory(lambda: x.exp().sum().backward()) <= 3 * 4000 + 64


def test_peak_counts_what_lives_at_once() -> None:
    kept = torch.ones(1000)

    def call() -> None:
        a = kept * 2  # 4000 bytes
        b = a + kept  # 8000
        del a
        c = b.view(10, 100)[:5] * 1  # 6000
        del b, c
        kept.add_(1)

    assert peak_memory(call) == 8000


def test_medians_are_those_of_the_rounds_that_count() -> None:
    now = 0.0
    lengths = {"first": itertools.count(10), "second": itertools.chain([500, 400], itertools.repeat(7))}
    order: list[str] = []

    def call(name: str) -> None:
        nonlocal now
        order.append(name)
        now += next(lengths[name])

    calls = {"first": lambda: call("first"), "second": lambda: call("second")}
    # The first is called with 10, 11, 12, ...: rounds 2 to 6 take 12 to 16.
    assert median_times(calls, 5, clock=lambda: now) == {"first": 14, "second": 7}
    rounds = [tuple(order[k : k + 2]) for k in range(0, 14, 2)]
    assert {frozenset(pair) for pair in rounds} == {frozenset(("first", "second"))}
    assert len(set(rounds)) == 2  # neither always comes after the other
    order.clear()
    assert median_times({"only": lambda: call("first")}, 1, warmup=0).keys() == {"only"}
    assert order == ["first"]
    median_times(calls)  # two rounds that do not count, and seven that do
    assert (order.count("first"), order.count("second")) == (10, 9)
    with pytest.raises(ErlangenError, match="repeats = 0"):
        median_times(calls, 0)

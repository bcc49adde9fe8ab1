"""What a computation costs: the most memory at one time, and times that are taken in turns."""

from __future__ import annotations

import random
import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from erlangen.errors import ErlangenError

Name = TypeVar("Name")


class Allocations(TorchDispatchMode):
    """Counts what tensors hold that are made inside of the block, forward and backward, on any device.

    What an operation uses while it runs is not seen, nor what is made outside of torch.

    >>> import torch
    >>> with Allocations() as found:
    ...     x = torch.ones(1000) + 1
    >>> found.peak
    8000

    Attributes:
        peak: bytes of the tensors that were alive at the same time, at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and note the storages of its results; views share that of their source."""
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._note(leaf, ours=False)  # what is seen here first was made outside of the block
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(leaf, ours=True)
        return out

    def _note(self, tensor: Tensor, ours: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # pyright: ignore[reportPrivateUsage] - what makes it this storage has no public name
        size = storage.nbytes() if ours else 0
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def peak_memory(call: Callable[[], object]) -> int:
    """Most bytes of tensors that a call holds at the same time, beside those made before; see `Allocations`.

    The number does not depend on what else the process holds.

    >>> import torch
    >>> x = torch.ones(1000)
    >>> peak_memory(lambda: x.exp())
    4000

    Args:
        call: a computation, and its backward pass where that is to be counted.
    """
    with Allocations() as found:
        call()
    return found.peak


def median_times(
    calls: Mapping[Name, Callable[[], object]],
    repeats: int = 7,
    *,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, float]:
    """Median seconds of each call; the calls take turns, in another order every round.

    So a slow spell of the machine falls on all of them, and none always finds the caches as the same other one left them.

    >>> import torch
    >>> x = torch.ones(100, 100)
    >>> median_times({"product": lambda: x @ x, "sum": lambda: x + x}).keys()
    dict_keys(['product', 'sum'])

    Args:
        calls: what is timed, by any names.
        repeats: rounds that count.
        warmup: rounds before them that do not.
        clock: gives seconds: `time.perf_counter`, or `time.process_time`, which leaves out what other programs use.

    Raises:
        ErlangenError: `repeats` is not positive.
    """
    if repeats < 1:
        raise ErlangenError(f"repeats = {repeats}: a median needs at least one round")
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        order = list(calls)
        random.Random(turn).shuffle(order)
        for name in order:
            begin = clock()
            calls[name]()
            if turn >= warmup:
                seconds[name].append(clock() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}

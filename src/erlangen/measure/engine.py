"""Where blocks of samples are evaluated: in this process, or on Ray workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from erlangen.measure.evaluate import Answers, Block, Chunk, evaluate_block
from erlangen.measure.models import Model
from erlangen.measure.plan import Plan
from erlangen.measure.targets import FROM_FILES
from erlangen.remote import Failure, ray_session, require_ray, results

Keep = Callable[[int], Answers]
"""Gives the place for the answers of the block that starts at a sample, with those that are there already."""


def local_blocks(plan: Plan, starts: Iterable[int], keep: Keep) -> Iterator[tuple[int, Block]]:
    """(first sample, result) of each block, one after the other."""
    for start in starts:
        yield start, one_block(plan, plan.elements, start, keep(start))


def one_block(plan: Plan, elements: Tensor, start: int, kept: Answers) -> Block:
    """The result of the block that starts at a sample, in this process."""
    x, y = plan.block(start)
    policy = Chunk.of(plan.model, x, plan.chunk)
    return evaluate_block(plan.model, plan.symmetry, elements, x, y, plan.metric, policy, first=start, kept=kept)


def ray_blocks(plan: Plan, starts: Iterable[int], keep: Keep) -> Iterator[tuple[int, Block]]:
    """The same blocks on Ray workers, in the order in which they finish.

    The chunk is found on the first block in this process and then sent along, so that all blocks are cut alike. Answers are
    kept for the first block alone; of the others only the results come back.
    """
    ray = require_ray("engine='ray'")
    rest = list(starts)
    if not rest:
        return
    first = rest.pop(0)
    yield first, one_block(plan, plan.elements, first, keep(first))
    policy = Chunk.of(plan.model, plan.block(first)[0], plan.chunk)
    with ray_session(ray):
        for module in FROM_FILES:
            ray.cloudpickle.register_pickle_by_value(module)
        shared = ray.put((plan.model.target, plan.model.padding, plan.symmetry, plan.elements, plan.metric))
        tasks = {start: (shared, *plan.block(start), policy.size, start) for start in rest}
        for start, found in results(ray, _work, tasks):
            if isinstance(found, Failure):
                raise found.error
            yield start, found


def _work(shared: tuple[Any, ...], x: Any, y: Any, chunk: int, first: int) -> Block:
    """One block on a worker, with one thread: the workers share the machine."""
    torch.set_num_threads(1)
    target, padding, symmetry, elements, metric = shared
    model = Model(target)
    model.padding = padding
    with model.measuring(quiet=True):
        return evaluate_block(model, symmetry, elements, x, y, metric, Chunk.of(model, x, chunk), first=first)

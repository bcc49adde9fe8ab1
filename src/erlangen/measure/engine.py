"""Where blocks of samples are evaluated: in this process, or on Ray workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from erlangen.measure.evaluate import Block, Chunk, evaluate_block
from erlangen.measure.models import Model
from erlangen.measure.plan import Plan
from erlangen.measure.targets import FROM_FILES
from erlangen.remote import Failure, ray_session, require_ray, results


def local_blocks(plan: Plan, starts: Iterable[int]) -> Iterator[tuple[int, Block]]:
    """(first sample, result) of each block, one after the other."""
    for start in starts:
        x, y = plan.block(start)
        policy = Chunk.of(plan.model, x, plan.chunk)
        yield start, evaluate_block(plan.model, plan.symmetry, plan.elements, x, y, plan.metric, policy, first=start)


def ray_blocks(plan: Plan, starts: Iterable[int]) -> Iterator[tuple[int, Block]]:
    """The same blocks on Ray workers, in the order in which they finish.

    The chunk is found on the first block in this process and then sent along, so that all blocks are cut alike.
    """
    ray = require_ray("engine='ray'")
    rest = list(starts)
    if not rest:
        return
    first = rest.pop(0)
    x, y = plan.block(first)
    policy = Chunk.of(plan.model, x, plan.chunk)
    yield first, evaluate_block(plan.model, plan.symmetry, plan.elements, x, y, plan.metric, policy)
    with ray_session(ray):
        for module in FROM_FILES:
            ray.cloudpickle.register_pickle_by_value(module)
        shared = ray.put((plan.model.target, plan.symmetry, plan.elements, plan.metric))
        tasks = {start: (shared, *plan.block(start), policy.size, start) for start in rest}
        for start, found in results(ray, _work, tasks):
            if isinstance(found, Failure):
                raise found.error
            yield start, found


def _work(shared: tuple[Any, ...], x: Any, y: Any, chunk: int, first: int) -> Block:
    """One block on a worker, with one thread: the workers share the machine."""
    torch.set_num_threads(1)
    target, symmetry, elements, metric = shared
    model = Model(target)
    with model.measuring(quiet=True):
        return evaluate_block(model, symmetry, elements, x, y, metric, Chunk.of(model, x, chunk), first=first)

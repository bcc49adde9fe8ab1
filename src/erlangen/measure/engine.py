"""Where blocks of samples are evaluated: in this process, or on Ray workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from erlangen.errors import MissingExtraError
from erlangen.measure.evaluate import Block, Chunk, evaluate_block
from erlangen.measure.models import Model
from erlangen.measure.plan import Plan
from erlangen.measure.targets import FROM_FILES


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
    try:
        import ray
        from ray import cloudpickle
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "engine='ray'") from error
    rest = list(starts)
    if not rest:
        return
    first = rest.pop(0)
    x, y = plan.block(first)
    policy = Chunk.of(plan.model, x, plan.chunk)
    yield first, evaluate_block(plan.model, plan.symmetry, plan.elements, x, y, plan.metric, policy)
    own = not ray.is_initialized()
    if own:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        for module in FROM_FILES:
            cloudpickle.register_pickle_by_value(module)
        yield from _remote_blocks(ray, plan, rest, policy.size)
    finally:
        if own:
            ray.shutdown()


def _remote_blocks(ray: Any, plan: Plan, starts: list[int], chunk: int) -> Iterator[tuple[int, Block]]:
    shared = ray.put((plan.model.target, plan.symmetry, plan.elements, plan.metric))
    task = ray.remote(num_cpus=1, max_retries=3)(_work)
    waiting = {task.remote(shared, *plan.block(start), chunk, start): start for start in starts}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        yield waiting.pop(done[0]), ray.get(done[0])


def _work(shared: tuple[Any, ...], x: Any, y: Any, chunk: int, first: int) -> Block:
    """One block on a worker, with one thread: the workers share the machine."""
    torch.set_num_threads(1)
    target, symmetry, elements, metric = shared
    model = Model(target)
    with model.measuring(quiet=True):
        return evaluate_block(model, symmetry, elements, x, y, metric, Chunk.of(model, x, chunk), first=first)

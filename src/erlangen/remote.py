"""Tasks on the workers of Ray: started if need be, collected as they finish, given out again when a worker dies."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from erlangen.errors import MissingExtraError

K = TypeVar("K")

TRIES = 3
"""How often a task is given to a worker before it is said to kill them."""


@dataclass(frozen=True)
class Failure:
    """What came instead of a result.

    Attributes:
        error: what the task raised, or what Ray says of the worker's death.
        deaths: how many workers died of the task; 0 if it raised.
    """

    error: Exception
    deaths: int


def require_ray(what: str) -> Any:
    """The module ``ray``.

    Raises:
        MissingExtraError: it is not installed; `what` says for what it is needed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray", what) from error
    return ray


@contextmanager
def ray_session(ray: Any) -> Generator[None]:
    """Ray runs inside; what is started here is stopped at the end, a cluster that the caller had joined goes on."""
    own = not ray.is_initialized()
    if own:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        if own:
            ray.shutdown()


def results(
    ray: Any,
    work: Callable[..., Any],
    tasks: Mapping[K, tuple[Any, ...]],
    *,
    cores: int = 1,
    fresh: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[K, Any]]:
    """(name, result or `Failure`) of every task, in the order in which they finish.

    Args:
        ray: the module, inside `ray_session`.
        work: a function of a module; threads are its own affair.
        tasks: arguments of `work` by name.
        cores: what a task reserves; never more than there are.
        fresh: every task gets a process of its own.
        note: is called with a line whenever a worker dies and its task is given out again.
    """
    cores = min(cores, int(ray.cluster_resources().get("CPU", 1)))
    # Ray's own retries are silent; ours say which task killed its worker.
    task = ray.remote(num_cpus=cores, max_retries=0, max_calls=int(fresh))(work)
    tries = dict.fromkeys(tasks, 1)
    waiting = {task.remote(*arguments): name for name, arguments in tasks.items()}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        name = waiting.pop(done[0])
        try:
            yield name, ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            yield name, Failure(error, deaths=0)
        except ray.exceptions.RayError as error:
            if tries[name] == TRIES:
                yield name, Failure(error, deaths=TRIES)
                continue
            tries[name] += 1
            note(f"{name}: its worker died; try {tries[name]} of {TRIES}")
            waiting[task.remote(*tasks[name])] = name

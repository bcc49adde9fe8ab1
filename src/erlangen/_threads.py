"""Batches of small LAPACK problems on several threads.

A batched decomposition on the CPU takes one matrix after the other, with all BLAS threads on each; matrices of a few dozen
rows are too small for that. Here chunks of the batch go to threads that use one BLAS thread each. What comes before and
after is done there too: OpenMP threads that have just finished go on spinning, and would take the cores away.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor

from erlangen.errors import check_finite
from erlangen.tracing import is_recorded

MIN_WORK = 2**20
"""Smallest batch times n^3 that goes to threads: 32 matrices with n = 32. On two shared cores, two threads gained for n
from 8 to 32 there and mostly lost below; four matrices with n = 64 still lost a tenth to a third."""

_pools: dict[int, ThreadPoolExecutor] = {}  # by process: a fork inherits the pool without its threads


def usable_threads(A: Tensor) -> int:
    """How many threads to use for a batch of matrices ``[..., n, n]``; 1 where it must stay with its own thread.

    That is: on other devices, for little work, where the user has set one thread, and wherever the calls are recorded or
    transformed (`torch.compile`, `torch.func`, dispatch modes), as these are bound to a thread.
    """
    if torch.compiler.is_compiling() or A.device.type != "cpu" or A.numel() * A.shape[-1] < MIN_WORK:
        return 1
    if type(A) is not Tensor or is_recorded():
        return 1
    return min(torch.get_num_threads(), os.cpu_count() or 1, A.shape[:-2].numel())


def decompose_symmetric(A: Tensor, check: bool) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[..., n]`` and eigenvectors ``[..., n, n]`` of the symmetric part of matrices ``[..., n, n]``.

    Args:
        A: the matrices, float32 or float64.
        check: look for NaN and Inf.

    Raises:
        NotFiniteError: A holds NaN or Inf.
    """
    threads = usable_threads(A)
    if threads == 1:
        if check:
            check_finite(A, "A")
        values, vectors = torch.linalg.eigh((A + A.mT) / 2)
        return values, vectors
    n = A.shape[-1]
    values = A.new_empty(A.shape[:-1])
    # LAPACK writes column after column, so eigenvectors are laid out like that.
    vectors = A.new_empty_strided(A.shape, (*(n * step for step in values.stride()[:-1]), 1, n))
    finite = torch.ones(threads, dtype=torch.bool)
    whole = (A.reshape(-1, n, n), values.view(-1, n), vectors.flatten(0, -3))
    chunks = zip(*(t.tensor_split(threads) for t in whole), finite.unbind(), strict=True)
    run_on_threads(_check_and_decompose if check else _decompose_chunk, list(chunks))
    if not bool(finite.all()):
        check_finite(A, "A")
    return values, vectors


def compose_symmetric(values: Tensor, vectors: Tensor) -> Tensor:
    """Matrices ``V diag(l) V^T`` of l ``[..., n]`` and V ``[..., n, n]``."""
    threads = usable_threads(vectors)
    if threads == 1:
        return (vectors * values[..., None, :]) @ vectors.mT
    n = vectors.shape[-1]
    out = vectors.new_empty(vectors.shape)
    whole = (values.reshape(-1, n), vectors.reshape(-1, n, n), out.view(-1, n, n))
    run_on_threads(_compose_chunk, list(zip(*(t.tensor_split(threads) for t in whole), strict=True)))
    return out


def _compose_chunk(values: Tensor, vectors: Tensor, out: Tensor) -> None:
    torch.matmul(vectors * values[..., None, :], vectors.mT, out=out)


def _check_and_decompose(A: Tensor, values: Tensor, vectors: Tensor, finite: Tensor) -> None:
    finite.copy_(torch.isfinite(A).all())
    if bool(finite):
        _decompose_chunk(A, values, vectors, finite)


def _decompose_chunk(A: Tensor, values: Tensor, vectors: Tensor, finite: Tensor) -> None:
    torch.linalg.eigh((A + A.mT) / 2, out=(values, vectors))


def run_on_threads(call: Callable[..., object], chunks: Sequence[tuple[Any, ...]]) -> None:
    """``call(*chunk)`` for every chunk, on one thread each; results go into tensors of the chunk.

    Waits for all, then raises the first exception if there was one. Autograd does not see what the threads do.
    """
    futures = [_pool().submit(_without_autograd, call, chunk) for chunk in chunks]
    wait(futures)
    for future in futures:
        future.result()


def _without_autograd(call: Callable[..., object], chunk: tuple[Any, ...]) -> None:
    # Modes are bound to a thread: this one also switches forward derivatives off, and may write to inference tensors.
    with torch.inference_mode():
        call(*chunk)


def _pool() -> ThreadPoolExecutor:
    process = os.getpid()
    if process not in _pools:
        # Of two callers at once, one pool is kept; the other has started no thread yet.
        fresh = ThreadPoolExecutor(os.cpu_count(), "erlangen", _use_one_blas_thread, (threading.Lock(),))
        _pools.setdefault(process, fresh)
    return _pools[process]


def _use_one_blas_thread(lock: threading.Lock) -> None:
    """Set this thread to one BLAS thread, and leave the number that later threads begin with as it was.

    `torch.set_num_threads` sets the number of the calling thread, and that with which new threads begin. A thread that
    begins here reads the latter; one that ends right away writes it back.
    """
    with lock:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        restore = threading.Thread(target=torch.set_num_threads, args=(before,))
        restore.start()
        restore.join()

"""Timing side by side: ours and the peer in turn, in one process, medians of the pairs."""

from __future__ import annotations

import ctypes
import gc
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def seconds(fn: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def peak_megabytes(fn: Callable[[], object]) -> float:
    """Growth of the process at its peak during one call, in MB (10^6 bytes); Linux only, where it can be reset."""
    fn()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else the call would live on memory that earlier ones left
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    result = fn()
    peak = _status("VmHWM")
    del result
    return 1.024e-3 * (peak - before)


def _status(key: str) -> int:
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def compare(
    case: str,
    ours: Callable[[], object],
    peer_name: str,
    peer: Callable[[], object],
    *,
    target: float | None = None,
    note: str = "",
    runs: int = 15,
    inner: int = 1,
) -> dict[str, object]:
    """Run both in turn, print and return one JSON line.

    Args:
        case: name of the case.
        ours, peer: what is compared; each is called twice before the clock starts.
        peer_name: what the peer is.
        target: the ratio peer / ours to reach.
        note: what is compared, sizes.
        runs: counted pairs, at least 7.
        inner: calls per timing, for cases below a millisecond.
    """

    def repeated(fn: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            for _ in range(inner):
                fn()

        return call

    for fn in (ours, peer, ours, peer):
        fn()
    pairs = [(seconds(repeated(ours)) / inner, seconds(repeated(peer)) / inner) for _ in range(max(runs, 7))]
    ratios = sorted(theirs / mine for mine, theirs in pairs)
    row = {
        "case": case,
        "ours_ms": round(1e3 * statistics.median(mine for mine, _ in pairs), 4),
        "peer": peer_name,
        "peer_ms": round(1e3 * statistics.median(theirs for _, theirs in pairs), 4),
        "ratio": round(statistics.median(ratios), 3),
        "spread": [round(ratios[len(ratios) // 4], 3), round(ratios[-1 - len(ratios) // 4], 3)],
        "target": target,
        "note": f"{note}; torch {torch.__version__}, {torch.get_num_threads()} threads; spread is the middle half",
    }
    print(json.dumps(row), flush=True)
    return row

"""Time of `import erlangen` on top of `import torch`, in fresh processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

CODE = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import erlangen
print(middle - start, time.perf_counter() - middle)
"""


def main() -> None:
    rows = []
    for _ in range(8):
        out = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
        rows.append(tuple(1e3 * float(word) for word in out.split()))
    torch_ms, ours_ms = (statistics.median(column) for column in zip(*rows[1:], strict=True))
    ratios = sorted(theirs / mine for theirs, mine in rows[1:])
    print(
        json.dumps(
            {
                "case": "import erlangen, on top of torch",
                "ours_ms": round(ours_ms, 1),
                "peer": "import torch itself",
                "peer_ms": round(torch_ms, 1),
                "ratio": round(torch_ms / ours_ms, 2),
                "spread": [round(ratios[0], 2), round(ratios[-1], 2)],
                "target": None,
                "note": f"the budget is 500 ms; slowest of 7 runs {max(mine for _, mine in rows[1:]):.0f} ms",
            }
        )
    )


if __name__ == "__main__":
    main()

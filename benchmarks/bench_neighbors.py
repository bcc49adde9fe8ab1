"""k nearest neighbours against scipy's tree for each cloud with two workers, and radius graphs against its pair query."""

from __future__ import annotations

import numpy as np
import torch
from common import compare
from scipy.spatial import cKDTree

from erlangen.geometry import knn_graph, radius_graph

NEIGHBOURS = 16


def main() -> None:
    torch.manual_seed(0)
    for clouds, points in ((64, 1024), (1, 10_000), (1, 100_000), (1000, 20)):
        pos = torch.randn(clouds * points, 3)
        batch = torch.arange(clouds).repeat_interleave(points)
        parts = pos.double().numpy().reshape(clouds, points, 3)

        def nearest(parts: np.ndarray = parts) -> list[np.ndarray]:
            return [cKDTree(part).query(part, NEIGHBOURS + 1, workers=2)[1] for part in parts]

        compare(
            f"{NEIGHBOURS} nearest in {clouds} clouds of {points} points",
            lambda pos=pos, batch=batch: knn_graph(pos, NEIGHBOURS, batch),
            "scipy.spatial.cKDTree per cloud, workers=2",
            nearest,
            target=round(1 / 1.2, 3),
            note=f"ours returns edge_index [2, {clouds * points * NEIGHBOURS}] and leaves the points themselves out",
            runs=7,
        )

        def close(parts: np.ndarray = parts) -> list[np.ndarray]:
            return [cKDTree(part).query_pairs(0.2, output_type="ndarray") for part in parts]

        compare(
            f"radius 0.2 in {clouds} clouds of {points} points",
            lambda pos=pos, batch=batch: radius_graph(pos, 0.2, batch),
            "scipy.spatial.cKDTree.query_pairs per cloud",
            close,
            note="ours returns both directions, sorted by target",
            runs=7,
        )


if __name__ == "__main__":
    main()

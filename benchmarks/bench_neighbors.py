"""k nearest neighbours against scipy's tree for each cloud with two workers; radius graphs against its pair query and vesin."""

from __future__ import annotations

import numpy as np
import torch
import vesin
from common import compare
from scipy.spatial import cKDTree

from erlangen.geometry import knn_graph, periodic_radius_graph, radius_graph

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
    pos = torch.randn(100_000, 3)
    positions, no_box = pos.double().numpy(), np.zeros((3, 3))
    compare(
        "radius 0.2 in 1 cloud of 100000 points, all edges",
        lambda graph=pos: radius_graph(graph, 0.2),
        "vesin, full list",
        lambda: full_list(positions, no_box, 0.2, "ij"),
        target=round(1 / 1.5, 3),
        note=f"{radius_graph(pos, 0.2).shape[1]} edges; ours are sorted",
        runs=7,
    )
    for points, radius in ((20_000, 5.0), (64, 5.0)):
        side = (points / 0.1) ** (1 / 3)
        pos, cell = side * torch.rand(points, 3), side * torch.eye(3)
        arrays = pos.double().numpy(), cell.double().numpy()
        compare(
            f"radius {radius} in a periodic box of {points} points",
            lambda pos=pos, cell=cell, radius=radius: periodic_radius_graph(pos, radius, cell),
            "vesin, full list with shifts",
            lambda arrays=arrays, radius=radius: full_list(*arrays, radius, "ijS"),
            target=round(1 / 1.5, 3),
            note=f"{periodic_radius_graph(pos, radius, cell).edge_index.shape[1]} edges and shifts; ours are sorted",
            runs=7,
        )


def full_list(points: np.ndarray, box: np.ndarray, radius: float, quantities: str) -> list[np.ndarray]:
    """Both directions of all pairs; a box of zeros is none."""
    calculator = vesin.NeighborList(cutoff=radius, full_list=True)
    return calculator.compute(points=points, box=box, periodic=bool(box.any()), quantities=quantities)


if __name__ == "__main__":
    main()

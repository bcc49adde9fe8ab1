"""How much memory a layer on ego-networks takes, and one on all pairs of nodes: counted allocations, not those of the process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator

from erlangen.data import GraphData, drug_like_smiles, molecular_graphs
from erlangen.measure import peak_memory
from erlangen.nn import PermutationLinear, SubgraphLinear, ego_subgraphs
from erlangen.survey import Claim, Part, Run

Row = dict[str, Any]
CHANNELS = 16
"""Channels of the pairs, in and out."""

NODES = (50, 100, 200, 400, 800)
"""Nodes of random graphs that are measured."""

MOLECULES = 64
"""Molecules of a batch."""

BEYOND = (3_200, 12_800)
"""Nodes of graphs that are extrapolated to."""


def sparse_graph(nodes: int, degree: float, seed: int) -> GraphData:
    """A random graph whose pairs of nodes are joined independently, each node to `degree` others on average."""
    u, v = torch.triu_indices(nodes, nodes, 1)
    chosen = torch.rand(len(u), generator=Generator().manual_seed(seed)) < degree / (nodes - 1)
    one = torch.stack([u, v])[:, chosen]
    edges = torch.cat([one, one.flip(0)], 1)
    zeros = torch.zeros(nodes, dtype=torch.int64)
    return GraphData(edges, zeros, zeros, torch.zeros(edges.shape[1]).long(), torch.zeros(1).long())


def layer_peaks(data: GraphData, seed: int) -> tuple[int, int]:
    """Peak bytes of a layer between features of pairs, on ego-networks of one hop and on all pairs, padded to the largest."""
    subgraphs = ego_subgraphs(data.edge_index, data.batch, len(data))
    channels, generator = {"adj": CHANNELS}, Generator().manual_seed(seed)
    ours = SubgraphLinear(channels, channels, subgraphs.common_sizes(), generator=generator)
    theirs = PermutationLinear(channels, channels, generator=generator)
    x = torch.randn(subgraphs.pairs.shape[1], CHANNELS, generator=generator, requires_grad=True)
    mask = data.dense().mask if len(data) > 1 else None
    nodes = int(data.sizes.max())
    y = torch.randn(len(data), nodes, nodes, CHANNELS, generator=generator, requires_grad=True)
    ours({"adj": x.detach()}, subgraphs)  # indices, which do not depend on parameters, are kept from the first call on
    return (
        peak_memory(lambda: ours({"adj": x}, subgraphs)["adj"].sum().backward()),
        peak_memory(lambda: theirs({"adj": y}, mask)["adj"].sum().backward()),
    )


def memory_rows(sizes: Sequence[int], molecules: int, seed: int) -> list[Row]:
    """One row for each size of random graphs with 4 neighbours on average, one for molecules, and extrapolated ones."""
    rows: list[Row] = []
    for nodes in sizes:
        rows.append(memory_row(f"random, {nodes} nodes", nodes, layer_peaks(sparse_graph(nodes, 4.0, seed), seed)))
    slopes = {name: slope([row["nodes"] for row in rows], [row[name] for row in rows]) for name in ("SPEN", "T(2)")}
    # Small graphs spend a part on weights and indices, so what lies beyond is reached with the slope of the two largest.
    measured = rows[-2:]
    for nodes in BEYOND:
        peaks = [extrapolated(measured, name, nodes) for name in slopes]
        rows.append(memory_row(f"extrapolated, {nodes} nodes", nodes, (peaks[0], peaks[1])))
    rows.append({"part": "memory", "data": "slope of log memory over log nodes", **slopes})
    data = molecular_graphs(drug_like_smiles(molecules))
    rows.append(memory_row(f"{molecules} molecules", int(data.sizes.max()), layer_peaks(data, seed)))
    return rows


def memory_row(data: str, nodes: int, peaks: tuple[float, float]) -> Row:
    """Peaks in MiB, and their ratio."""
    ours, theirs = (peak / 2**20 for peak in peaks)
    return {"part": "memory", "data": data, "nodes": nodes, "SPEN": ours, "T(2)": theirs, "ratio": theirs / ours}


def extrapolated(rows: Sequence[Row], name: str, nodes: int) -> float:
    """Bytes for graphs of so many nodes, on the line through the logarithms of the rows."""
    exponent = slope([row["nodes"] for row in rows], [row[name] for row in rows])
    return rows[-1][name] * 2**20 * (nodes / rows[-1]["nodes"]) ** exponent


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of a line through the logarithms, by least squares."""
    a, b = (torch.tensor([math.log(value) for value in values]) for values in (x, y))
    a = a - a.mean()
    return float((a * b).sum() / a.square().sum())


def memory_part(run: Run[Any]) -> Part:
    """Peak memory of layers, counted and so the same in every run."""
    rows = memory_rows(NODES, MOLECULES, run.seed)
    table = {row["data"]: row for row in rows}
    slopes = table["slope of log memory over log nodes"]
    claims = [
        Claim.bound(
            "memory-slope",
            "Exponent with which the peak memory of a layer on ego-networks grows with the nodes of sparse random graphs.",
            measured=slopes["SPEN"],
            at_most=1,
            published="memory of the sum of the squares of ego-networks, which grows linearly",
        ),
        Claim.number(
            "memory-slope-global",
            "Exponent with which the peak memory of a layer on all pairs of nodes grows with the nodes.",
            measured=slopes["T(2)"],
            expected=2,
            tol=0.2,
        ),
        Claim.ratio(
            "memory-molecules",
            "Peak memory of a layer on all pairs over that of one on ego-networks, for a batch of molecules.",
            measured=table[f"{MOLECULES} molecules"]["ratio"],
            at_least=1,
            published="large savings of GPU memory",
        ),
        Claim.ratio(
            "memory-large-graphs",
            f"Peak memory of a layer on all pairs over that of one on ego-networks, for a random graph of {NODES[-1]} nodes.",
            measured=table[f"random, {NODES[-1]} nodes"]["ratio"],
            at_least=1,
            published="large savings of GPU memory",
        ),
    ]
    return Part(rows, claims)

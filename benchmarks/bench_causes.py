"""Search over orders against DAGMA's descent along acyclic graphs, and what each finds."""

from __future__ import annotations

import contextlib
import io

import torch
from common import compare
from dagma.linear import DagmaLinear

from erlangen.causal import random_dag, random_linear_sem, structure_scores
from erlangen.systems.causal.notears_topo import CovarianceScore, topo


def case(nodes: int) -> None:
    draw = torch.Generator().manual_seed(0)
    model = random_linear_sem(random_dag(nodes, 2 * nodes, "ER", generator=draw), generator=draw, dtype=torch.float64)
    X = model.sample(1000, generator=draw)
    X = X - X.mean(0)
    start = torch.randperm(nodes, generator=draw)

    def ours() -> torch.Tensor:
        score = CovarianceScore.of(X)
        W = topo(score, start).weights
        return torch.where(W.abs() > 0.3, W, 0.0)

    def peer() -> torch.Tensor:
        with contextlib.redirect_stderr(io.StringIO()):  # DAGMA's progress cannot be turned off
            W = DagmaLinear("l2").fit(X.numpy().copy(), lambda1=0.03, w_threshold=0.3)
        return torch.as_tensor(W)

    found = {name: structure_scores(f() != 0, model.weights != 0).shd for name, f in (("ours", ours), ("DAGMA", peer))}
    compare(
        f"graph of linear causes, {nodes} nodes, {2 * nodes} edges",
        ours,
        "DAGMA",
        peer,
        note=f"1000 samples, a random start, float64; wrong edges: {found['ours']} of ours, {found['DAGMA']} of DAGMA",
        runs=7,
    )


def main() -> None:
    case(20)  # eleven runs of DAGMA for more nodes would take many minutes


if __name__ == "__main__":
    main()

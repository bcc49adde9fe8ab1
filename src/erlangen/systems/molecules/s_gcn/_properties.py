"""What must hold exactly: motions, mirror images, harmonics, frames, orders of residues, scores, decoys, counts."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from numpy.polynomial.legendre import leggauss
from scipy.special import eval_legendre
from torch import Tensor, nn

from erlangen.groups import SE, SO
from erlangen.irreps import spherical_harmonics, wigner_D_all
from erlangen.measure import cad_score, lddt
from erlangen.simulate import DECOYS, decoy_maker
from erlangen.survey import Run, bound, exact, largest, number
from erlangen.systems.molecules.s_gcn.data import chains, graph_of
from erlangen.systems.molecules.s_gcn.method import SGCN, ResidueGraph, directions, padded, residue_frames

HIGHEST = 10
"""Degree up to which harmonics are tried; the paper goes to 9."""


def zinc_finger(k: int = 0) -> tuple[Tensor, Tensor]:
    """Kinds and places of one of the small chains."""
    chain = [one for one in chains() if one.family == "zinc finger"][k]
    return chain.kind, chain.pos


def batch(graphs: list[ResidueGraph], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Graphs as the network takes them, in one precision."""
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in padded(graphs).items()}


def network(order: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> SGCN:
    """A network with random weights, its statistics of batches included, in eval mode."""
    torch.manual_seed(seed)
    model = SGCN(order).to(dtype).eval()
    for norm in model.norms.values():
        nn.init.uniform_(torch.as_tensor(norm.weight), 0.5, 1.5)
        nn.init.normal_(torch.as_tensor(norm.bias))
        nn.init.normal_(torch.as_tensor(norm.running_mean))
    for layer in model.convolutions:
        # Sums over ten neighbours and 25 filters would drive the sigmoid into its ends.
        layer.filters.data /= 5 * order
    return model


def output(model: SGCN, x: dict[str, Tensor]) -> Tensor:
    """Scores before the sigmoid, where small differences are seen."""
    with torch.no_grad():
        return model(x).logit()


def change(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((a - b).abs().max() / b.abs().max())


@exact(tol=1e-11, float32=1e-5)
def invariant_to_motions(run: Run[Any], dtype: torch.dtype) -> float:
    """Change of the scores of a real protein under 100 rotations and shifts of its atoms, contacts being found anew."""
    kind, pos = zinc_finger()
    moves = SE(3).sample(100, generator=run.generator(), dtype=torch.float64)
    model, still = network(5, dtype), graph_of(kind, pos)
    before = output(model, batch([still], dtype))
    worst: list[float] = []
    for g in moves:
        moved = pos @ g[:3, :3].mT + 10 * g[:3, 3]
        worst.append(change(output(model, batch([graph_of(kind, moved)], dtype)), before))
    return largest(worst)


def _mirror(order: int) -> float:
    kind, pos = zinc_finger()
    flip = torch.tensor([1.0, 1.0, -1.0], dtype=pos.dtype)
    graph = graph_of(kind, pos)
    model = network(order)
    return change(output(model, batch([graph._replace(pos=graph.pos * flip)])), output(model, batch([graph])))


@bound(at_least=1e-3)
def mirror_image_is_seen(run: Run[Any]) -> float:
    """Change of the scores of order 2 and random weights when a protein is mirrored and its contacts and inputs stay."""
    return _mirror(2)


@exact(tol=1e-12)
def order_one_is_blind_to_mirrors(run: Run[Any]) -> float:
    """Change of the scores of order 1 and random weights when a protein is mirrored and its contacts and inputs stay."""
    return _mirror(1)


@exact(tol=1e-10)
def harmonics_orthonormal(run: Run[Any]) -> float:
    """Deviation from the unit matrix of integrals of products of harmonics to degree 10, by an exact quadrature."""
    z, weight = (torch.from_numpy(v) for v in leggauss(HIGHEST + 1))
    count = 2 * HIGHEST + 2
    turn = 2 * math.pi / count * torch.arange(count, dtype=torch.float64)
    flat = (1 - z.square()).sqrt()[:, None]
    points = torch.stack([flat * turn.cos(), flat * turn.sin(), z[:, None].expand(-1, count)], -1)
    Y = spherical_harmonics(HIGHEST, points)
    gram = torch.einsum("abi,abj,a->ij", Y, Y, weight) * 2 * math.pi / count
    return float((gram - torch.eye(len(gram), dtype=torch.float64)).abs().max())


@exact(tol=1e-10)
def addition_theorem(run: Run[Any]) -> float:
    """Difference of sum_m Y_lm(u) Y_lm(v) from (2l+1)/(4 pi) P_l(u v), degrees to 10, 200 pairs of directions."""
    u, v = nn.functional.normalize(
        torch.randn(2, 200, 3, generator=run.generator(), dtype=torch.float64), dim=-1
    ).unbind()
    product = spherical_harmonics(HIGHEST, u) * spherical_harmonics(HIGHEST, v)
    cosine = (u * v).sum(-1).numpy()
    worst: list[float] = []
    for l in range(HIGHEST + 1):
        legendre = torch.from_numpy(eval_legendre(l, cosine)) * (2 * l + 1) / (4 * math.pi)
        worst.append(float((product[:, l * l : (l + 1) ** 2].sum(1) - legendre).abs().max()))
    return largest(worst)


@exact(tol=1e-10)
def harmonics_turn(run: Run[Any]) -> float:
    """Difference between harmonics of turned directions and Wigner matrices times harmonics, degrees to 10, 50 rotations."""
    g = run.generator()
    R = SO(3).sample(50, generator=g, dtype=torch.float64)
    u = torch.randn(50, 3, generator=g, dtype=torch.float64)
    Y, turned = spherical_harmonics(HIGHEST, u), spherical_harmonics(HIGHEST, (R @ u[..., None])[..., 0])
    parts = [
        (D @ Y[:, l * l : (l + 1) ** 2, None])[..., 0] - turned[:, l * l : (l + 1) ** 2]
        for l, D in enumerate(wigner_D_all(HIGHEST, R))
    ]
    return largest(float(part.abs().max()) for part in parts)


def filters_turned(model: SGCN, R: Tensor) -> SGCN:
    """The network whose filters see directions from frames that are turned by R in their own coordinates."""
    other = copy.deepcopy(model)
    for layer in other.convolutions:
        D = torch.block_diag(*wigner_D_all(layer.order - 1, R))
        layer.filters.data = torch.einsum("ab,bij->aij", D, layer.filters.data)
    return other


@exact(tol=1e-9)
def any_frame_serves(run: Run[Any]) -> float:
    """Change of scores when all frames are turned alike in their own coordinates, and the filters by Wigner matrices."""
    kind, pos = zinc_finger()
    x, model = batch([graph_of(kind, pos)]), network(5)
    before = output(model, x)
    worst: list[float] = []
    for R in SO(3).sample(10, generator=run.generator(), dtype=torch.float64):
        # N, CA and C carry the frame: turned about CA by F R F^T, they give the frame F R, and CA stays.
        F = residue_frames(x["pos"])
        ca = x["pos"][..., 1:2, :]
        moved = ca + (x["pos"] - ca) @ (F @ R @ F.mT).mT
        # Directions become R^T w, harmonics D(R)^T Y.
        worst.append(change(output(filters_turned(model, R.mT), x | {"pos": moved}), before))
    return largest(worst)


@exact(tol=1e-12)
def order_one_is_isotropic(run: Run[Any]) -> float:
    """Difference between a layer of order 1 and a plain graph convolution whose matrix takes up Y_00 = 1 / sqrt(4 pi)."""
    kind, pos = zinc_finger()
    graph = graph_of(kind, pos)
    x, model = batch([graph]), network(1)
    h, layer = x["features"], model.convolutions[0]
    W = layer.filters[0] / math.sqrt(4 * math.pi)
    plain = h @ layer.own + graph.edges.to(h) @ h @ W + layer.bias
    Y = directions(x["pos"], x["neighbors"], x["mask"], 1)
    with torch.no_grad():
        return change(layer(h, Y, x["neighbors"].clamp(min=0)), plain)


@exact(tol=1e-12)
def order_of_residues(run: Run[Any]) -> float:
    """Change of scores, apart from their order, when residues are listed in another order."""
    kind, pos = zinc_finger()
    graph = graph_of(kind, pos)
    p = torch.randperm(len(kind), generator=run.generator())
    other = ResidueGraph(graph.features[p], graph.pos[p], graph.area[p][:, p], graph.edges[p][:, p])
    model = network(5)
    return change(output(model, batch([other])), output(model, batch([graph]))[:, p])


@exact(tol=1e-12)
def frames_are_rotations(run: Run[Any]) -> float:
    """Deviation of backbone frames of a real protein from rotations whose first axis points along CA to C."""
    _, pos = zinc_finger()
    F = residue_frames(pos[:, :3])
    eye = (F.mT @ F - torch.eye(3, dtype=F.dtype)).abs().max()
    along = nn.functional.normalize(pos[:, 2] - pos[:, 1], dim=-1)
    return largest(float(eye), float((torch.linalg.det(F) - 1).abs().max()), float((F[..., 0] - along).abs().max()))


@exact(tol=1e-9)
def decoys_keep_bonds_and_angles(run: Run[Any]) -> float:
    """Largest change of a bond (Angstrom) or of a distance over one atom along the chain, decoys against natives, all kinds."""
    worst: list[float] = []
    for k in range(3):
        _, pos = zinc_finger(k)
        make, g = decoy_maker(pos), run.generator(k)
        for kind in DECOYS:
            decoy = make(kind, g)
            # A shifted chain is a piece of the native one.
            native = pos[len(pos) - len(decoy.pos) :] if kind == "shift" else pos
            a, b = (x[:, :3].flatten(0, 1) for x in (decoy.pos, native))
            worst += [
                float(((a[s:] - a[:-s]).norm(dim=-1) - (b[s:] - b[:-s]).norm(dim=-1)).abs().max()) for s in (1, 2)
            ]
    return largest(worst)


@exact(tol=1e-10)
def scores_do_not_move(run: Run[Any]) -> float:
    """Change of CAD-score and lDDT of decoys of all kinds when the decoys are turned and shifted."""
    kind, pos = zinc_finger()
    make, native = decoy_maker(pos), graph_of(kind, pos)
    moves = SE(3).sample(len(DECOYS), generator=run.generator(), dtype=torch.float64)
    worst: list[float] = []
    for name, g in zip(DECOYS, moves, strict=True):
        decoy = make(name, run.generator())
        rows = decoy.rows

        def scores(x: Tensor, rows: Tensor = rows) -> Tensor:
            true = native.area[rows][:, rows]
            return torch.stack([cad_score(graph_of(kind[rows], x).area, true), lddt(x[:, 1], pos[rows, 1])])

        worst.append(float((scores(decoy.pos @ g[:3, :3].mT + g[:3, 3]) - scores(decoy.pos)).abs().max()))
    return largest(worst)


@number(24_633, published="24.6 k")
def parameters_of_sgcn(run: Run[Any]) -> float:
    """Trainable numbers of S-GCN of order 5."""
    return sum(p.numel() for p in SGCN(5).parameters())


@number(42_567, published="42.6 k")
def parameters_of_sgcn_s(run: Run[Any]) -> float:
    """Trainable numbers of S-GCN_s of order 5."""
    return sum(p.numel() for p in SGCN(5, "s").parameters())


PROPERTIES = (
    invariant_to_motions,
    mirror_image_is_seen,
    order_one_is_blind_to_mirrors,
    harmonics_orthonormal,
    addition_theorem,
    harmonics_turn,
    any_frame_serves,
    order_one_is_isotropic,
    order_of_residues,
    frames_are_rotations,
    decoys_keep_bonds_and_angles,
    scores_do_not_move,
    parameters_of_sgcn,
    parameters_of_sgcn_s,
)

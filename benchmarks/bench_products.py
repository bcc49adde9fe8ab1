"""Tensor products of irreps against e3nn and cuequivariance: Gaunt, depthwise over edges, fully connected, construction.

Peers compute the same numbers (the largest difference is in the note) on the same inputs. Memory is the growth of the
process at its peak during one call, ours and the peer's.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch
from common import compare, peak_megabytes
from torch import Tensor

import erlangen.irreps
from erlangen.irreps import Irreps
from erlangen.nn import TensorProduct

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # e3nn compiles with torch.jit, which is deprecated
    import cuequivariance as cue
    import cuequivariance_torch as cuet
    from e3nn import o3

ROWS, EDGES, NODES, CHANNELS = 16384, 8192, 512, 16
Product = Callable[..., Tensor]


def both_ways(
    case: str,
    ours: Product,
    name: str,
    peer: Product,
    inputs: list[Tensor],
    target: float | None,
    note: str,
    *,
    runs: int = 15,
) -> None:
    """Forward, and forward with the gradients of all inputs."""
    with torch.no_grad():
        mine, theirs = ours(*inputs), peer(*inputs)
        difference = float((mine - theirs).abs().max() / mine.abs().max())
        memory = (
            f"memory {peak_megabytes(lambda: ours(*inputs)):.0f} against {peak_megabytes(lambda: peer(*inputs)):.0f} MB"
        )
        text = f"{note}, relative difference {difference:.0e}"
        compare(
            f"{case}, forward", lambda: ours(*inputs), name, lambda: peer(*inputs),
            target=target, note=f"{text}, {memory}", runs=runs,
        )  # fmt: skip
    leaves = [t.clone().requires_grad_() for t in inputs]
    cotangent = torch.randn_like(mine)

    def gradient(product: Product) -> Callable[[], object]:
        return lambda: torch.autograd.grad(product(*leaves), leaves, cotangent)

    memory = f"memory {peak_megabytes(gradient(ours)):.0f} against {peak_megabytes(gradient(peer)):.0f} MB"
    compare(
        f"{case}, forward and backward", gradient(ours), name, gradient(peer),
        target=target, note=f"{text}, {memory}", runs=runs,
    )  # fmt: skip


def natural(lmax: int, channels: int = 1) -> str:
    return "+".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(lmax + 1))


def instructions(product: TensorProduct, mode: str) -> list[tuple[int, int, int, str, bool]]:
    outputs = product.product.layout.outputs
    return [(path.x, path.y, n, mode, mode != "uuu") for n, output in enumerate(outputs) for path in output.paths]


def gaunt(lmax: int, target: float) -> None:
    irreps = natural(lmax)
    ours = TensorProduct(irreps, irreps, irreps, rule="gaunt", form="elementwise")
    # e3nn multiplies unit 3j symbols by the square root of a path's weight; all Gaunt factors are positive up to l = 6.
    cg = TensorProduct(irreps, irreps, irreps, rule="cg", form="elementwise")
    paths = [(n, path) for n, output in enumerate(cg.product.layout.outputs) for path in output.paths]
    peer = o3.TensorProduct(
        irreps, irreps, irreps, [(p.x, p.y, n, "uuu", False, gaunt_factor(*p.degrees) ** 2) for n, p in paths],
        irrep_normalization="none", path_normalization="none",
    )  # fmt: skip
    inputs = [torch.randn(ROWS, ours.irreps_x.dim) for _ in range(2)]
    both_ways(
        f"Gaunt product l = {lmax}", ours, 'e3nn "uuu", same paths', peer, inputs, target,
        f"{ROWS} rows, output {ours.irreps_out.dim} numbers each, {len(paths)} paths",
    )  # fmt: skip


def gaunt_factor(l1: int, l2: int, l3: int) -> float:
    """Of the Gaunt block and e3nn's 3j symbol of the same degrees."""
    factor = float((erlangen.irreps.gaunt(l1, l2, l3) * o3.wigner_3j(l1, l2, l3)).sum())
    assert factor > 0, (l1, l2, l3, factor)
    return factor


def depthwise(lmax: int, target: float) -> None:
    wide, y_irreps = natural(lmax, CHANNELS), natural(lmax)
    ours = TensorProduct(wide, y_irreps, wide, rule="cg", form="depthwise", weights="given")
    peer = o3.TensorProduct(
        wide, y_irreps, wide, instructions(ours, "uvu"), shared_weights=False, internal_weights=False
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(NODES, (2, EDGES), generator=generator)
    source, target_nodes = edge_index
    inputs = [
        torch.randn(NODES, ours.irreps_x.dim),
        torch.randn(EDGES, ours.irreps_y.dim),
        torch.randn(EDGES, ours.weight_numel),
    ]
    note = f"{EDGES} edges x {CHANNELS} channels, {len(ours.product.layout.paths)} paths, summed over edges to {NODES} nodes"

    def e3nn_sum(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return x.new_zeros(NODES, ours.irreps_out.dim).index_add(0, target_nodes, peer(x[source], y, w))

    both_ways(
        f"depthwise product l = {lmax}", lambda x, y, w: ours.aggregate(x, y, edge_index, w), "e3nn uvu and index_add",
        e3nn_sum, inputs, target, note,
    )  # fmt: skip
    layout = {"layout": cue.mul_ir, "shared_weights": False, "internal_weights": False, "method": "naive"}
    kept = [cue.O3(l, (-1) ** l) for l in range(lmax + 1)]
    other = cuet.ChannelWiseTensorProduct(cue.Irreps("O3", wide), cue.Irreps("O3", y_irreps), kept, **layout)
    cue_inputs = [inputs[0], inputs[1], torch.randn(EDGES, other.weight_numel)]
    slices = Irreps(str(other.irreps_out)).slices()
    blocks: dict[str, list[slice]] = {}
    for block, where in zip(Irreps(str(other.irreps_out)), slices, strict=True):
        blocks.setdefault(str(block.ir), []).append(where)

    def cue_sum(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        paths = other(x[source], y, w)
        summed = torch.cat([torch.stack([paths[:, s] for s in same]).sum(0) for same in blocks.values()], -1)
        return x.new_zeros(NODES, summed.shape[1]).index_add(0, target_nodes, summed)

    with torch.no_grad():
        compare(
            f"depthwise product l = {lmax}, forward", lambda: ours.aggregate(*inputs[:2], edge_index, inputs[2]),
            "cuequivariance (naive) and index_add", lambda: cue_sum(*cue_inputs), note=f"{note}; other order of paths", runs=7,
        )  # fmt: skip


def connected(lmax: int, target: float) -> None:
    wide, y_irreps, rows = natural(lmax, CHANNELS), natural(lmax), 1024
    ours = TensorProduct(wide, y_irreps, wide, rule="cg", form="connected", weights="given")
    peer = o3.TensorProduct(
        wide, y_irreps, wide, instructions(ours, "uvw"), shared_weights=True, internal_weights=False
    )
    inputs = [
        torch.randn(rows, ours.irreps_x.dim),
        torch.randn(rows, ours.irreps_y.dim),
        torch.randn(ours.weight_numel),
    ]
    both_ways(
        f"full product l = {lmax}", ours, "e3nn fully connected (uvw)", peer, inputs, target,
        f"{rows} rows x {CHANNELS} channels, {len(ours.product.layout.paths)} paths, {ours.weight_numel} weights",
    )  # fmt: skip


def crossing() -> None:
    """Where the rule "auto" turns from paths to signals: both ours, depthwise, forward and backward."""
    for lmax in range(2, 7):
        wide, irreps = natural(lmax, CHANNELS), natural(lmax)
        paths, signals = (
            TensorProduct(wide, irreps, wide, rule=rule, form="depthwise", weights="given") for rule in ("cg", "gaunt")
        )
        x, y = (torch.randn(2048, irreps.dim, requires_grad=True) for irreps in (paths.irreps_x, paths.irreps_y))

        def gradient(product: TensorProduct, x: Tensor = x, y: Tensor = y) -> Callable[[], object]:
            weight = torch.randn(2048, product.weight_numel, requires_grad=True)
            cotangent = torch.randn(2048, product.irreps_out.dim)
            return lambda: torch.autograd.grad(product(x, y, weight), (x, y, weight), cotangent)

        compare(
            f'crossing of rules, l = {lmax}, forward and backward', gradient(signals), 'our rule "cg"', gradient(paths),
            note=f"gaunt {signals.weight_numel} weights, cg {paths.weight_numel}: not the same function", runs=7,
        )  # fmt: skip


def construction() -> None:
    """Every rule and form at l = 6, the second time in a process (3j symbols cached), against e3nn's second time."""
    irreps, wide = natural(6), natural(6, CHANNELS)
    cases = {
        "cg full": lambda: TensorProduct(irreps, irreps, rule="cg"),
        "cg depthwise": lambda: TensorProduct(wide, irreps, wide, rule="cg", form="depthwise", weights="given"),
        "cg connected": lambda: TensorProduct(wide, irreps, wide, rule="cg", form="connected"),
        "gaunt grid": lambda: TensorProduct(irreps, irreps, irreps, rule="gaunt", form="elementwise"),
        "gaunt dense": lambda: TensorProduct(irreps, irreps, irreps, rule="gaunt", form="elementwise", road="dense"),
        "gaunt fourier": lambda: TensorProduct(
            irreps, irreps, irreps, rule="gaunt", form="elementwise", road="fourier"
        ),
        "vector": lambda: TensorProduct(irreps, irreps, irreps, rule="vector", form="elementwise"),
        "matrix": lambda: TensorProduct(irreps, irreps, irreps, rule="matrix", form="elementwise"),
    }
    first: dict[str, float] = {}
    for name, make in cases.items():
        start = time.perf_counter()
        make()
        first[name] = time.perf_counter() - start
    for name, make in cases.items():
        compare(
            f"construction, {name}, l = 6", make, "e3nn FullTensorProduct", lambda: o3.FullTensorProduct(irreps, irreps),
            note=f"to reach: ours below 100 ms; the first time in this process took {1e3 * first[name]:.0f} ms", runs=7,
        )  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    for lmax in range(1, 7):
        gaunt(lmax, 3.0 if lmax < 3 else 12.0)
    for lmax in (1, 2, 3):
        depthwise(lmax, 4.0 if lmax == 3 else 1.5)
    connected(4, 3.0)
    crossing()
    construction()


if __name__ == "__main__":
    main()

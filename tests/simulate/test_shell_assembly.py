"""Assembly of triangles: energies of moves, balance against reverse moves and exact integrals, meshes that stay meshes."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import erlangen as er
from erlangen.errors import (
    DtypeError,
    ErlangenError,
    MissingExtraError,
    NotFiniteError,
    ShapeError,
    StepWarning,
    UnknownNameError,
)
from erlangen.simulate import Assembly, ShellState
from erlangen.simulate.assembly import MOVES, _check_manifold  # pyright: ignore[reportPrivateUsage]

moves = pytest.importorskip("erlangen.simulate._assembly_moves")

FAST = {"insertion": 0.008, "wedge": 0.008, "hole": 0.02, "fusion": 0.015, "fusion2": 0.003, "edge": 0.02}
ONE_KIND: dict[str, Any] = {"subunits": torch.tensor([[0, 0, 0]]), "partners": torch.tensor([0]), "angles": 0.7297}


def icosahedron(faces: int) -> ShellState:
    """The first faces of an icosahedron, grown from one so that they are in one piece."""
    shell = er.geometry.icosahedral_shell(1)
    far = (shell.pos[shell.faces].mean(1) - shell.pos[shell.faces[0]].mean(0)).norm(dim=-1)
    return kept(shell, far.argsort()[:faces])


def two_holes() -> ShellState:
    """An icosahedron without two faces that have no vertex in common, but an edge between them."""
    shell = er.geometry.icosahedral_shell(1)
    apart = [f for f in range(20) if not set(shell.faces[f].tolist()) & set(shell.faces[0].tolist())]
    far = (shell.pos[shell.faces].mean(1) - shell.pos[shell.faces[0]].mean(0)).norm(dim=-1)
    gone = min(apart, key=lambda f: float(far[f]))
    return kept(shell, torch.tensor([f for f in range(1, 20) if f != gone]))


def kept(shell: er.geometry.IcosahedralShell, order: Tensor) -> ShellState:
    vertices, names = shell.faces[order].unique(return_inverse=True)
    sides = {(a, b): n for n, (a, b) in enumerate(torch.stack([names, names.roll(-1, 1)], -1).flatten(0, 1).tolist())}
    twins = torch.tensor([sides.get((b, a), -1) for a, b in sides])
    return ShellState(shell.pos[vertices], names, twins, torch.zeros(len(order), dtype=torch.int64))


def soft(seed: int, **change: Any) -> Assembly:
    """An icosahedron in the making that no move is rare in."""
    given = {"stretch": 40.0, "bend": 5.0, "binding": -2.0, "potentials": -1.0, "rates": FAST, "start": icosahedron(10)}
    return Assembly(**(ONE_KIND | given | change), largest=60, generator=torch.Generator().manual_seed(seed))


def test_moves_have_the_energy_of_the_whole_and_keep_meshes() -> None:
    """After each move that changes the mesh: its change of energy, and a manifold of one piece without handles."""
    seen = torch.zeros(len(MOVES), dtype=torch.int64)
    # Rare moves have cases of their own, with no other rates that lead away from where they can be tried.
    none, weak = dict.fromkeys(FAST, 0.0), {"stretch": 4.0, "bend": 1.0, "binding": -0.2, "step": 0.1}
    edges = weak | {"rates": none | {"edge": 0.2}, "start": two_holes(), "fuse": 0.7}
    fours = weak | {"rates": none | {"fusion2": 0.004}, "start": icosahedron(20)}
    for change in ({"potentials": -0.5}, {"start": two_holes()}, edges, fours):
        shell = soft(0, **change)
        before, counts = shell.energy(shell.state), shell.accepted
        for _ in range(8000):
            shell.run(1, until_closed=False)
            now = shell.accepted
            if torch.equal(now, counts):
                continue
            move = int((now - counts).argmax())
            state, counts = shell.state, now
            after = shell.energy(state)
            if move:
                _check_manifold(state)
                last = shell._last  # pyright: ignore[reportPrivateUsage]
                assert int(last[0]) == move
                assert float(after - before) == pytest.approx(last[1], abs=1e-9)
            before = after
        seen += counts
    assert bool((seen > 0).all()), dict(zip(MOVES, seen.tolist(), strict=True))


def likeness(mesh: Any) -> Any:
    """What a state is, however its parts are numbered."""
    rows = [
        [mesh.kind[f], *np.roll(mesh.pos[mesh.corner[3 * f : 3 * f + 3]], -s, 0).flatten()]
        for f in range(mesh.size[1])
        for s in range(3)
    ]
    bound = int((mesh.twin[: 3 * mesh.size[1]] >= 0).sum())
    return bound, sorted(map(tuple, np.round(rows, 7).tolist()))


@pytest.fixture(scope="module")
def compiled() -> Any:
    """Sites, a move, and a copy, as functions that Python can call."""
    from numba import njit

    sites, apply, copy, borders = moves.sites, moves.apply, moves.copy, moves.borders

    @njit
    def listed(m: Any, r: Any, move: int, out: Any, found: Any) -> Any:
        borders(m, out)
        return sites(m, r, move, 0, out, found)

    @njit
    def made(m: Any, r: Any, move: int, h: int, g: int, out: Any, rng: Any) -> Any:
        borders(m, out)
        return apply(m, r, move, h, g, 0, 0, out, rng)

    @njit
    def copied(m: Any, to: Any) -> None:
        copy(m, to)

    return listed, made, copied


@pytest.mark.parametrize("move", [moves.INSERT, moves.WEDGE, moves.PLUG, moves.SPLIT, moves.SPLIT2, moves.PART])
def test_each_move_has_one_reverse_with_the_inverse_ratio(move: int, compiled: Any) -> None:
    """From many states: a move, then all sites of the reverse class, one of which leads back. Ratios have the product 1."""
    listed, made, copied = compiled
    back = move - 1 if move in (moves.SPLIT, moves.SPLIT2, moves.PART) else move + 1
    tested = 0
    there, here = soft(0)._saved, soft(0)._saved  # pyright: ignore[reportPrivateUsage]
    for seed in range(120):
        shell = soft(seed, start=two_holes() if seed % 2 else icosahedron(12))
        shell.run(300, until_closed=False)
        m, r, out, found, rng = (getattr(shell, f"_{name}") for name in ("mesh", "rules", "out", "found", "random"))
        count = listed(m, r, move, out, found)
        if not count or tested >= 15:
            continue
        site = found[int(torch.randint(count, (), generator=torch.Generator().manual_seed(tested)))].copy()
        origin = likeness(m)
        copied(m, there)
        _, ratio = made(there, r, move, *site, out, rng)
        if not math.isfinite(ratio):
            continue
        reverse = found[: listed(there, r, back, out, found)].copy()
        ratios = []
        for h, g in reverse:
            copied(there, here)
            _, found_ratio = made(here, r, back, h, g, out, rng)
            if math.isfinite(found_ratio) and likeness(here) == origin:
                ratios.append(found_ratio)
        assert len(ratios) == 1, MOVES[move]
        assert ratio + ratios[0] == pytest.approx(0, abs=1e-9)
        tested += 1
    assert tested >= 8


def grid(low: float, high: float, count: int) -> Tensor:
    """Middles of equal parts."""
    return low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count


def test_two_triangles_bind_as_their_integrals_say() -> None:
    """Shares of one, of the other, and of the two bound, against quadrature over lengths and the angle."""
    stretch, bend, angle, bond, mu = 40.0, 4.0, 0.5, -2.0, (0.2, -0.3)
    subunits = torch.tensor([[0, 1, 2], [3, 4, 5]])
    pair = Assembly(
        subunits, torch.tensor([3, -1, -1, 0, -1, -1]), angles=angle, stretch=stretch, bend=bend, binding=bond,
        potentials=torch.tensor(mu, dtype=torch.float64), exclusion=0.0, rates={"insertion": 0.08},
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    # Positions of three corners have the measure 8 pi^2 a b c da db dc; a fourth one, a b / L da db dphi around the edge L.
    L = grid(0.5, 1.5, 200)[:, None, None]
    a, b = L.reshape(1, -1, 1), L.reshape(1, 1, -1)
    possible = (a + b > L) & (L + a > b) & (L + b > a)
    weight = torch.exp(-stretch * ((a - 1) ** 2 + (b - 1) ** 2) / 2) * possible
    own = torch.exp(-stretch * (L[:, 0, 0] - 1) ** 2 / 2)
    phi = grid(-math.pi, math.pi, 1000)
    bent = float(torch.exp(-bend * (phi - angle) ** 2 / 2).mean() * 2 * math.pi)
    one = L[:, 0, 0] * own * (a * b * weight).sum((1, 2)) * 0.005**2  # a triangle with the side L
    more = own * (a * b / L * weight).sum((1, 2)) * 0.005**2 * bent
    due = torch.tensor(
        [math.exp(mu[0]), math.exp(mu[1]), math.exp(sum(mu) - bond) * float((one * more).sum() / one.sum())]
    )
    size, kind = pair._mesh.size, pair._mesh.kind  # pyright: ignore[reportPrivateUsage]
    seen = []
    for _ in range(32_000):
        pair.run(200)
        seen.append(2 if size[1] == 2 else int(kind[0]))
    shares = torch.nn.functional.one_hot(torch.tensor(seen), 3).double().unflatten(0, (40, -1)).mean(1)  # [blocks, 3]
    error = shares.std(0) / 40**0.5
    assert bool((error < 0.03).all())
    assert bool(((shares.mean(0) - due / due.sum()).abs() < 3 * error).all()), (shares.mean(0), due / due.sum(), error)


def ring_share(seed: int, rates: dict[str, float]) -> tuple[float, float]:
    """Logarithm of how often four triangles around a vertex are closed over open, and its error."""
    # Sides 0 and 2 meet in the corner where all triangles come together.
    ring = Assembly(
        torch.tensor([[0, 1, 2]]), torch.tensor([2, -1, 0]), angles=0.6, stretch=15.0, bend=1.0, binding=-1.0, potentials=0.0,
        exclusion=0.0, step=0.3, largest=4, generator=torch.Generator().manual_seed(seed),
        rates={"insertion": 0.05, "fusion": 0.0, "wedge": 0.0, "fusion2": 0.0, "edge": 0.0} | rates,
    )  # fmt: skip
    mesh, blocks = ring._mesh, []  # pyright: ignore[reportPrivateUsage]
    for _ in range(30):
        counts = [0, 0]
        for _ in range(1000):
            ring.run(80)
            if mesh.size[1] == 4:
                counts[int(mesh.size[0] == 5)] += 1
        blocks.append((counts[1] + 0.5) / (counts[0] + 0.5))
    values = np.array(blocks)
    return math.log(values.mean()), float(values.std() / values.mean() / 30**0.5)


def test_fusion_and_wedges_lead_to_one_equilibrium() -> None:
    """A ring of four is reached by fusion of its ends, or by a wedge: both have to give it the same weight."""
    by_fusion, error = ring_share(0, {"fusion": 0.1})
    by_wedge, other = ring_share(1, {"wedge": 0.05})
    together = math.hypot(error, other)
    assert together < 0.15
    assert abs(by_fusion - by_wedge) < 3 * together


def test_labels_that_are_no_pair_never_bind() -> None:
    alone = Assembly(
        torch.tensor([[0, 1, 2], [3, 4, 5]]),
        torch.full((6,), -1),
        stretch=40.0,
        bend=4.0,
        binding=-9.0,
        potentials=9.0,
        rates=FAST,
    )
    alone.run(20_000)
    assert int(alone.tried[1]) > 20
    assert len(alone.state.faces) == 1
    # Every corner of one kind of a tetrahedral design: bonds are pairs all along, though most contacts are none.
    subunits, partners = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([3, 1, 5, 0, 4, 2])
    mixed = Assembly(
        subunits, partners, angles=0.7, stretch=40.0, bend=4.0, binding=-3.0, potentials=0.0, rates=FAST, largest=40,
        generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    for _ in range(200):
        mixed.run(100, until_closed=False)
        state = mixed.state
        labels, bound = mixed.labels(state), state.twins >= 0
        assert torch.equal(partners[labels[bound]], labels[state.twins[bound]])
    assert len(state.faces) > 5


def test_a_shell_at_rest_closes_and_stays() -> None:
    shell = Assembly(
        **ONE_KIND, stretch=200.0, bend=40.0, binding=-7.0, potentials=-3.0, rates=FAST, step=0.1, start=icosahedron(17),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    made = shell.run(300_000)
    assert made < 300_000
    assert shell.closed
    assert shell.run(10) == 0
    state = shell.state
    assert state.coordination.tolist() == [5] * 12
    assert len(state.faces) == 20


def test_runs_repeat_and_rates_warn() -> None:
    one, two = soft(5), soft(5)
    one.run(3000)
    two.run(3000)
    assert torch.equal(one.state.pos, two.state.pos)
    with pytest.warns(StepWarning, match=r"insertion: its rate times the number of its sites was .*smaller rates"):
        soft(5, rates={"insertion": 0.5}).run(200)


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    half = icosahedron(10)
    doubled = ShellState(half.pos, half.faces.flip(-1), half.twins, half.species)
    pieces = ShellState(
        half.pos[:6].repeat(1, 1), torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.full((6,), -1), half.species[:2]
    )
    bow = ShellState(half.pos[:5], torch.tensor([[0, 1, 2], [0, 3, 4]]), torch.full((6,), -1), half.species[:2])
    double = ShellState(half.pos[:3], torch.tensor([[0, 1, 2], [1, 0, 2]]), torch.full((6,), -1), half.species[:2])
    no_kind = ShellState(half.pos, half.faces, half.twins, half.species + 1)
    for change, error, words in (
        ({"binding": 0.5}, ErlangenError, "binding is above 0"),
        ({"fuse": 1.2}, ErlangenError, r"fuse = 1.2 is more than the length 1 at rest"),
        ({"fuse": 0.0}, ErlangenError, "fuse = 0.0"),
        ({"stretch": -1.0}, ErlangenError, "stretch = -1.0"),
        ({"lengths": 0.0}, ErlangenError, "fuse = 0.5 is more"),
        ({"lengths": torch.ones(2)}, ShapeError, "lengths has shape"),
        ({"angles": float("nan")}, NotFiniteError, "angles"),
        ({"rates": {"fission": 1.0}}, UnknownNameError, "rates are insertion"),
        ({"rates": {"edge": -1.0}}, ErlangenError, "edge = -1.0"),
        ({"subunits": torch.tensor([[0, 0, 1]])}, ErlangenError, "partners has 1"),
        ({"subunits": torch.tensor([0, 0, 0])}, ShapeError, r"pass \[S, 3\]"),
        ({"partners": torch.tensor([0.0])}, DtypeError, "partners has dtype"),
        ({"partners": torch.tensor([1])}, ErlangenError, "partners must be labels"),
        ({"partners": torch.tensor([1, 1])}, ErlangenError, "each must be the other's"),
        ({"partners": torch.tensor([-1])}, ErlangenError, "labels are no partners"),
        ({"start": doubled}, ErlangenError, "against each other"),
        ({"start": pieces}, ErlangenError, "several pieces"),
        ({"start": bow}, ErlangenError, "two boundaries meet"),
        ({"start": double}, ErlangenError, "more than one edge"),
        ({"start": no_kind}, ErlangenError, "start.species must be"),
    ):
        with pytest.raises(error, match=words):
            soft(0, **change)
    with pytest.raises(ErlangenError, match="start has 10 faces"):
        Assembly(**ONE_KIND, stretch=1.0, bend=1.0, binding=-1.0, potentials=0.0, largest=5, start=half)
    with pytest.raises(ErlangenError, match="a triangle has no sides"):
        Assembly(
            torch.tensor([[0, 1, 2]]), torch.tensor([-1, -1, -1]), lengths=torch.tensor([1.0, 1.0, 3.0]), stretch=1.0, bend=1.0,
            binding=-1.0, potentials=0.0,
        )  # fmt: skip
    with pytest.raises(ErlangenError, match="steps"):
        soft(0).run(-1)
    monkeypatch.setitem(sys.modules, "erlangen.simulate._assembly_mesh", None)
    monkeypatch.delattr("erlangen.simulate._assembly_mesh")
    with pytest.raises(MissingExtraError, match="physics"):
        soft(0)

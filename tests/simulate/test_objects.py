"""Things with parts: closed meshes, symmetries, pictures against closed forms and laws of poses, and bad input."""

import math
from collections.abc import Callable

import pytest
import torch

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError
from erlangen.geometry import rotation_distance
from erlangen.groups import Group, euler_to_matrix
from erlangen.simulate import (
    LATENTS,
    OBJECTS,
    draw_object,
    mesh_objects,
    object_views,
    symmetric_solid,
)

F64 = torch.float64
THINGS = mesh_objects(len(OBJECTS), generator=torch.Generator().manual_seed(0))
SOLIDS = ["tetrahedron", "cube", "icosahedron", "cone", "cylinder"]


def turns(thing) -> torch.Tensor:
    if isinstance(thing.symmetry, torch.Tensor):
        return thing.symmetry
    group: Group = thing.symmetry
    if group.order == math.inf:
        return euler_to_matrix(torch.tensor([[0, 0, 2 * math.pi * k / 64] for k in range(64)], dtype=F64))
    found = group.linear(group.elements(), dtype=F64)
    return found[torch.linalg.det(found) > 0]


def same_surface(thing, R: torch.Tensor) -> float:
    """How far vertices land from vertices, and middles of faces from middles."""
    x = thing.vertices.double()
    middles = x[thing.faces].mean(1)
    gaps = [float(torch.cdist(x @ R.mT, x).amin(1).max())]
    if thing.family not in (
        "box",
        "cross",
        "table",
        "stool",
        "cube",
    ):  # whose squares are cut along one of two diagonals
        gaps.append(float(torch.cdist(middles @ R.mT, middles).amin(1).max()))
    return max(gaps)


@pytest.mark.parametrize("thing", [*THINGS, *map(symmetric_solid, SOLIDS)], ids=lambda t: t.family)
def test_meshes_are_closed_but_for_handles_and_keep_their_symmetry(thing) -> None:
    """Each edge of a closed part runs once each way; volumes are positive; the named rotations move the mesh onto itself."""
    low, high = thing.vertices.amin(0), thing.vertices.amax(0)
    assert float((low + high).abs().max()) < 1e-6
    assert float((high - low).norm()) == pytest.approx(2, abs=1e-5)
    for index, name in enumerate(thing.parts):
        faces = thing.faces[thing.part == index]
        assert len(faces)
        a, b, c = thing.vertices.double()[faces].unbind(1)
        if name == "handle":
            continue
        edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        assert len(edges.unique(dim=0)) == len(edges)
        assert sorted(edges.tolist()) == sorted(edges.flip(1).tolist())
        assert float((torch.linalg.cross(a, b) * c).sum()) > 0
    for R in turns(thing):
        assert same_surface(thing, R) < 1e-5


@pytest.mark.parametrize("thing", THINGS, ids=lambda t: t.family)
def test_no_other_turn_keeps_a_thing(thing) -> None:
    """Of the turns by 15 degrees about the axes and of the half turns across, those that keep the mesh are the named ones."""
    tried = [euler_to_matrix(torch.eye(3, dtype=F64)[i] * math.radians(15 * k)) for i in range(3) for k in range(1, 24)]
    for R in tried:
        named = float(rotation_distance(R, torch.eye(3, dtype=F64), thing.symmetry)) < 1e-6
        assert (same_surface(thing, R) < 1e-4) == named


def test_numbers_make_the_picture_again_and_seeds_decide() -> None:
    seen = object_views(THINGS[:3], 4, 16, shift=0.3, generator=torch.Generator().manual_seed(1))
    again = object_views(THINGS[:3], 4, 16, shift=0.3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(seen.images, again.images)
    rows = seen.object == 1
    made = draw_object(THINGS[1], seen.latents[rows], 16, shift=seen.shift[rows])
    assert float((made - seen.images[rows]).abs().mean()) < 1e-3  # float32 numbers move a border pixel at most
    torch.testing.assert_close(seen.pose, euler_to_matrix(seen.latents[:, :3].double()).float(), atol=1e-5, rtol=0)
    assert seen.latents.shape == (12, len(LATENTS))
    assert float(seen.latents[:, :3].abs().max()) <= math.pi / 2
    assert float((seen.pose.mT @ seen.shift[..., None]).abs().max()) <= 0.3 + 1e-6
    other = object_views(THINGS[:3], 4, 16, generator=torch.Generator().manual_seed(2))
    assert float((other.images - seen.images).abs().max()) > 0.1


def test_a_turn_of_the_symmetry_gives_the_same_picture() -> None:
    gear = next(t for t in THINGS if t.family == "gear")
    latents = torch.tensor([[0.0, 0.0, 0.3, 0.2, 0.4, 1.0, 0.7], [0.0, 0.0, 0.3 + math.pi / 4, 0.2, 0.4, 1.0, 0.7]])
    same = draw_object(gear, latents, 32)
    assert float((same[0] - same[1]).abs().mean()) < 1e-3
    latents[1, 2] -= math.pi / 8
    half = draw_object(gear, latents, 32)
    assert float((half[0] - half[1]).abs().mean()) > 5e-3


def test_the_hue_of_the_floor_is_that_of_the_floor_alone() -> None:
    """In a corner of the picture, where there is no thing, a red floor under a red light is red, and a green one is not."""
    red, green = 0.0, 1 / 3
    latents = torch.tensor([[0, 0, 0, red, 0, 0, red], [0, 0, 0, green, 0, 0, red]])
    corner = draw_object(THINGS[3], latents, 32)[:, :, -2, 1]
    assert int(corner[0].argmax()) == 0
    assert float(corner[0, 1]) == pytest.approx(float(corner[0, 2]))
    assert float(corner[1, 1]) > float(corner[1, 2])


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (lambda: mesh_objects(0), ErlangenError, "count = 0"),
        (lambda: mesh_objects(2, []), ErlangenError, "families is empty"),
        (lambda: mesh_objects(2, ["sofa"]), UnknownNameError, "'sofa'; choose of chair"),
        (lambda: symmetric_solid("sphere"), UnknownNameError, "'sphere'; choose of tetrahedron"),
        (lambda: object_views([], 2, 8), ErlangenError, "objects is empty"),
        (lambda: object_views(THINGS, 2, 0), ErlangenError, "size = 0"),
        (lambda: object_views(THINGS, 2, 8, reach=200), ErlangenError, "reach = 200"),
        (lambda: draw_object(THINGS[0], torch.zeros(2, 3), 8), ShapeError, r"\[N, 7\]"),
        (lambda: draw_object(THINGS[0], torch.zeros(2, 7), 8, shift=torch.zeros(3)), ShapeError, r"\[N, 3\]"),
        (lambda: draw_object(THINGS[0], torch.zeros(2, 7), 0), ErlangenError, "size = 0"),
    ],
)
def test_bad_input(wrong: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        wrong()

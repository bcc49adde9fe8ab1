"""Actions on cameras and on what they see: pixels, pictures, depths, normals and maps of coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import override

from erlangen.actions.base import Action, Tree, broadcast_lead, check_tensor, lead_view, matmul_rows, tree_structure
from erlangen.errors import ActionError, ShapeError, is_whole
from erlangen.geometry.cameras import Camera
from erlangen.groups import Group, Shifts
from erlangen.groups.determinants import determinant

Kind = Literal["scalars", "points", "vectors", "camera vectors"]
"""What a picture holds at each pixel, see `Views`."""


@dataclass(frozen=True)
class Cameras(Action):
    """Cameras (`erlangen.geometry.Camera`) that are moved with the scene by elements of SE(3), E(3) or Similarity(3).

    >>> import erlangen as er
    >>> from erlangen.geometry import look_at, pinhole, reflection
    >>> camera = pinhole(48, 70, 1.0, look_at(torch.tensor([0.0, -4, 1]), torch.zeros(3))).cropped(0, 5, 48, 65)
    >>> camera.center
    tensor([30., 24.])
    >>> mirrored = Cameras().on(er.E(3)).act(reflection(torch.tensor([1.0, 0, 0])), camera)
    >>> torch.equal(mirrored.pose, camera.pose), mirrored.center  # it stands in the mirror; its picture is flipped
    (True, tensor([35., 24.]))

    What a moved camera sees of the moved scene is what the camera saw of the scene, flipped along the width where the element
    mirrors: depths and pictures move as `Views` and `Pixels` say. So an audit with ``(points, cameras)`` as its input says
    whether a model of scenes knows that moving the object and moving the camera are the same. Exact.
    """

    item_ndim = 0

    def check_group(self, group: Group) -> None:
        """The group must act on space."""
        _need_space(group, self.name)

    def apply(self, group: Group, g: Tensor, x: Tree) -> Camera:
        """Poses by the element; principal points change sides where it mirrors. See `Camera.moved`."""
        if not isinstance(x, Camera):
            raise ActionError(f"{self.name}: x is {tree_structure(x)}; pass an erlangen.geometry.Camera")
        lead, batch = len(group.batch_shape(g)), x.pose.shape[:-2]
        if lead > len(batch):
            raise ShapeError(f"{self.name}: g has {lead} batch axes, but the cameras only {len(batch)}, {tuple(batch)}")
        linear = group.linear(g, dtype=x.pose.dtype).to(x.pose)
        shift = group.translation(g, dtype=x.pose.dtype)
        broadcast_lead(linear.shape[:-2], batch[:lead])
        moves = torch.eye(4, dtype=linear.dtype, device=linear.device).repeat(*linear.shape[:-2], 1, 1)
        moves[..., :3, :3] = linear
        if shift is not None:
            moves[..., :3, 3] = shift
        return x.moved(lead_view(moves, lead, x.pose))


@dataclass(frozen=True)
class Pixels(Action):
    """Pixels ``[..., 2]`` (u, v), or rows that begin with them, in an image of some width: u becomes width - u in a mirror.

    Args:
        size: width of the image, in pixels.
        columns: length of the last axis; what follows u stays.
    """

    size: int
    columns: int = 2

    def __post_init__(self) -> None:
        if not is_whole(self.size, 1) or not is_whole(self.columns, 1):
            raise ActionError(f"pixels({self.size!r}, {self.columns!r}): give the width of the image and that of a row")

    @property
    @override
    def name(self) -> str:
        return f"pixels({self.size})" if self.columns == 2 else f"pixels({self.size}, {self.columns})"

    def check_group(self, group: Group) -> None:
        """The group must act on space."""
        _need_space(group, self.name)

    def width(self, group: Group) -> int | None:
        """Length of a row."""
        return self.columns

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Flip u where the element mirrors."""
        mirrors = _mirrors(group, g)
        x = check_tensor(x, self.name, lead=mirrors.ndim)
        if x.shape[-1] != self.columns:
            raise ShapeError(f"{self.name}: x has shape {tuple(x.shape)}; rows have {self.columns} entries, u first")
        broadcast_lead(mirrors.shape, x.shape[: mirrors.ndim])
        return torch.where(lead_view(mirrors, mirrors.ndim, x), torch.cat([self.size - x[..., :1], x[..., 1:]], -1), x)


@dataclass(frozen=True)
class Views(Action):
    """What cameras see, ``[..., C, H, W]``: flipped along the width where the element mirrors, values by what they are.

    Cameras move with the scene here (`Cameras`), so depths, colours and masks ("scalars") stay what they are at their pixel.
    Maps of points in the world ("points", C = 3) and of its directions, such as normals ("vectors"), move as `Points` and
    `Vectors` do; directions in the axes of the camera ("camera vectors") change the sign of x in mirrors alone. Exact.

    Args:
        kind: "scalars", "points", "vectors" or "camera vectors".
    """

    kind: Kind = "scalars"
    item_ndim = 3

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ActionError(f"views(kind={self.kind!r}): choose from {', '.join(get_args(Kind))}")

    @property
    @override
    def name(self) -> str:
        return "views" if self.kind == "scalars" else f"views(kind={self.kind})"

    def check_group(self, group: Group) -> None:
        """The group must act on space."""
        _need_space(group, self.name)

    def width(self, group: Group) -> int | None:
        """Any; a sum of actions cannot hold pictures."""
        return None

    def apply(self, group: Group, g: Tensor, x: Tree) -> Tensor:
        """Flip pictures, and move what they hold."""
        mirrors = _mirrors(group, g)
        lead = mirrors.ndim
        x = check_tensor(x, self.name, lead=lead, item_ndim=3, floating=self.kind != "scalars")
        broadcast_lead(mirrors.shape, x.shape[:lead])
        moved = torch.where(lead_view(mirrors, lead, x), x.flip(-1), x)
        if self.kind == "scalars":
            return moved
        if x.shape[-3] != 3:
            raise ShapeError(f"{self.name}: x has shape {tuple(x.shape)}; maps of coordinates are [..., 3, H, W]")
        if self.kind == "camera vectors":
            signs = torch.where(mirrors, -1.0, 1.0).to(x)
            signs = torch.stack([signs, torch.ones_like(signs), torch.ones_like(signs)], -1)[..., None, None]
            return moved * lead_view(signs, lead, moved)
        shift = group.translation(g, dtype=x.dtype) if self.kind == "points" else None
        return matmul_rows(moved.movedim(-3, -1), group.linear(g, dtype=x.dtype), shift).movedim(-1, -3)


def _mirrors(group: Group, g: Tensor) -> Tensor:
    """Boolean ``[*batch of g]``: where the element mirrors."""
    dtype = g.dtype if g.is_floating_point() else torch.float64
    return determinant(group.linear(g, dtype=dtype)) < 0


def _need_space(group: Group, name: str) -> None:
    if group.space_dim != 3 or isinstance(group, Shifts):
        raise ActionError(
            f"{name}: {group.name} does not move scenes in space; use a group such as SE(3), E(3) or Octahedral()"
        )

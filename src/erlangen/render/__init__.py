"""Pictures from geometry: rays against boxes, cylinders, signed distances and meshes, and a z-buffer of triangle meshes.

>>> import torch
>>> from erlangen.geometry import look_at, pinhole
>>> camera = pinhole(32, 48, 1.0, look_at(torch.tensor([4.0, 3.0, 2.0]), torch.zeros(3)))
>>> picture = view(camera, lambda rays: cast_boxes(rays, torch.tensor([[1.0, 0.5, 0.5]])))
>>> picture.depth.shape, picture.normal.shape, bool(picture.hit.any())
(torch.Size([32, 48]), torch.Size([32, 48, 3]), True)

Every ``cast_*`` takes `erlangen.geometry.Rays`, directions ``[..., R, 3]`` from one origin ``[..., 3]`` or from one each
``[..., R, 3]``, and answers with `Hits`; `nearest_hits` joins what several have hit, and `view` casts the rays of a camera.
Distances are in units of the direction, so those of a camera's rays are depths. Normals are unit vectors of the world that point
against the ray, whatever the orientation of a surface: so rendering commutes with SE(3), and in mirrors with the flip of the
picture (`erlangen.actions.Cameras` and `Views`). What is hit is found without gradients; where it is hit, and its normal, are
differentiable functions of rays and shapes.

`rasterize` draws meshes face by face, which is faster than rays where pixels are many; `render_mesh` shades what it finds.
"""

from erlangen.render.fields import cast_sdf
from erlangen.render.hits import Hits, Picture, nearest_hits, view
from erlangen.render.meshes import cast_mesh
from erlangen.render.rasters import (
    Fragments,
    MeshPicture,
    face_normals,
    interpolate,
    rasterize,
    render_mesh,
    vertex_normals,
)
from erlangen.render.solids import cast_boxes, cast_cylinders

__all__ = [
    "Fragments",
    "Hits",
    "MeshPicture",
    "Picture",
    "cast_boxes",
    "cast_cylinders",
    "cast_mesh",
    "cast_sdf",
    "face_normals",
    "interpolate",
    "nearest_hits",
    "rasterize",
    "render_mesh",
    "vertex_normals",
    "view",
]

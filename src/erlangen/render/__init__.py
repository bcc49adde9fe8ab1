"""Pictures of scenes, on plain torch, with the cameras of `erlangen.geometry`."""

from erlangen.render.rasters import (
    Fragments,
    MeshPicture,
    face_normals,
    interpolate,
    rasterize,
    render_mesh,
    vertex_normals,
)

__all__ = [
    "Fragments",
    "MeshPicture",
    "face_normals",
    "interpolate",
    "rasterize",
    "render_mesh",
    "vertex_normals",
]

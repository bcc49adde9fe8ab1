"""Real data that comes with the library, distortions of images, and the reader for the user's own files."""

from erlangen.data.distortions import affine_distortion, homography_distortion
from erlangen.data.images import ImageData, digits
from erlangen.data.loading import Batch, load_data
from erlangen.data.sensors import SensorData, basic_motions

__all__ = [
    "Batch",
    "ImageData",
    "SensorData",
    "affine_distortion",
    "basic_motions",
    "digits",
    "homography_distortion",
    "load_data",
]

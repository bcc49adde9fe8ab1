"""Real data that comes with the library, and the reader for the user's own files."""

from erlangen.data.images import ImageData, digits
from erlangen.data.loading import Batch, load_data
from erlangen.data.sensors import SensorData, basic_motions

__all__ = ["Batch", "ImageData", "SensorData", "basic_motions", "digits", "load_data"]

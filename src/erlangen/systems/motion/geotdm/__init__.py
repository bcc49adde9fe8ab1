"""Geometric trajectory diffusion: draw whole motions, freely or as a continuation of known frames, that know no direction."""

from erlangen.survey import System
from erlangen.systems.motion.geotdm._layers import SpatialLayer, TemporalLayer
from erlangen.systems.motion.geotdm._network import EGTN
from erlangen.systems.motion.geotdm._priors import CentreOfMass, KeptVelocity, LearnedPrior
from erlangen.systems.motion.geotdm.method import DenoisingLoss, GeoTDM, Target
from erlangen.systems.motion.geotdm.rivals import PlainTrajectoryNet

__all__ = [
    "EGTN",
    "SYSTEM",
    "CentreOfMass",
    "DenoisingLoss",
    "GeoTDM",
    "KeptVelocity",
    "LearnedPrior",
    "PlainTrajectoryNet",
    "SpatialLayer",
    "Target",
    "TemporalLayer",
]

SYSTEM = System(
    title="Geometric Trajectory Diffusion Models",
    authors=("Jiaqi Han", "Minkai Xu", "Aaron Lou", "Haotian Ye", "Stefano Ermon"),
    venue="NeurIPS",
    year=2024,
    arxiv="2410.13027",
    abstract_claims=(
        "One diffusion model captures the distribution over time of trajectories of geometric systems.",
        "Equivariant kernels over time and conditioning on known frames respect the symmetries of physics.",
        "A learned equivariant prior makes conditional generation more expressive.",
        "Free and conditional generation are clearly better than before on physics, molecules and pedestrians.",
    ),
    method=tuple(f"erlangen.systems.geotdm.{name}" for name in ("GeoTDM", "EGTN", "LearnedPrior", "CentreOfMass")),
)

"""GBWBN: batch normalisation of symmetric positive definite matrices under a learned Bures-Wasserstein metric.

Covariances are centred, scaled and biased along geodesics of the metric of optimal transport, deformed by a matrix that is
learned and by a power; it depends on a matrix linearly, where the affine-invariant metric does quadratically.
"""

from erlangen.survey import System
from erlangen.systems.manifolds.spd_gbw_batchnorm.method import GBWBatchNorm, RiemannianSGD, Violations

__all__ = ["SYSTEM", "GBWBatchNorm", "RiemannianSGD", "Violations"]

SYSTEM = System(
    title="Learning to Normalize on the SPD Manifold under Bures-Wasserstein Geometry",
    authors=("Rui Wang", "Shaocheng Jin", "Ziheng Chen", "Xiaoqing Luo", "Xiao-Jun Wu"),
    venue="CVPR",
    year=2025,
    arxiv="2504.00660",
    abstract_claims=(
        "Batch normalisation of SPD matrices under the generalised Bures-Wasserstein metric suits ill-conditioned matrices.",
        "A random power of the metric's matrices makes the normalisation more expressive.",
        "It does better than other Riemannian normalisations on skeletons and electroencephalograms.",
    ),
    method=("erlangen.systems.spd_gbw_batchnorm.GBWBatchNorm", "erlangen.systems.spd_gbw_batchnorm.RiemannianSGD"),
)

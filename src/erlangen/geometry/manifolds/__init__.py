"""Manifolds: distance, exponential, logarithm, parallel transport, geodesic and mean, in batches, with gradients.

>>> import torch
>>> covariances = torch.eye(3) + 0.1 * torch.ones(20, 3, 3)
>>> metric = AffineInvariant()
>>> mean = metric.mean(covariances)
>>> mean.point.shape, bool(mean.converged), bool(metric.dist(mean.point, covariances[0]) < 1e-3)
(torch.Size([3, 3]), True, True)

Symmetric positive definite matrices under the affine-invariant, log-Euclidean, log-Cholesky and Bures-Wasserstein metrics and
their deformations by a power and a matrix; spheres; rotations; Stiefel manifolds; distributions on a line. Which congruences
leave a metric alone is `SPDManifold.congruences`, and `er.audit` measures it.
"""

from erlangen.geometry.manifolds.base import Manifold, Mean
from erlangen.geometry.manifolds.spaces import Rotations, Sphere, Stiefel, Wasserstein1D
from erlangen.geometry.manifolds.spd import (
    AffineInvariant,
    BuresWasserstein,
    Deformed,
    LogCholesky,
    LogEuclidean,
    SPDManifold,
    ridge,
    spd_manifold,
)

__all__ = [
    "AffineInvariant",
    "BuresWasserstein",
    "Deformed",
    "LogCholesky",
    "LogEuclidean",
    "Manifold",
    "Mean",
    "Rotations",
    "SPDManifold",
    "Sphere",
    "Stiefel",
    "Wasserstein1D",
    "ridge",
    "spd_manifold",
]

"""Diffusion models: noise schedules, samplers, likelihood bounds, and Gaussians that do not move with the origin."""

from erlangen.generate.diffusion import Diffusion
from erlangen.generate.gaussians import CenteredGaussian
from erlangen.generate.schedules import cosine_betas, linear_betas

__all__ = ["CenteredGaussian", "Diffusion", "cosine_betas", "linear_betas"]

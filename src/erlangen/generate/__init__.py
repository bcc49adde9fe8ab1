"""Generative models: noise and its schedules, samplers, likelihoods, known answers, and distances of samples.

Chains of steps (`Diffusion`) and a continuous scale of noise: families of noise (`noise_family`), denoisers
(`Preconditioned`, `denoising_loss`, `NoiseMLP`), samplers (`noise_levels`, `heun_sample`), the flow with its Jacobian and
likelihood (`flow`, `flow_log_prob`), and exact denoisers to test against (`EmpiricalDenoiser`, `GaussianMixture`).
"""

from erlangen.generate.diffusion import Diffusion
from erlangen.generate.distances import energy_distance, frechet_distance, mmd, sliced_wasserstein
from erlangen.generate.edm import Disturbance, Preconditioned, denoising_loss, heun_sample, noise_levels
from erlangen.generate.flows import Flowed, divergence, flow, flow_log_prob
from erlangen.generate.gaussians import CenteredGaussian
from erlangen.generate.latents import LatentResult, optimize_latent
from erlangen.generate.networks import GradientField, NoiseMLP
from erlangen.generate.noises import GaussianNoise, Noise, StudentNoise, noise_family
from erlangen.generate.oracles import EmpiricalDenoiser, GaussianMixture
from erlangen.generate.schedules import cosine_betas, linear_betas

__all__ = [
    "CenteredGaussian",
    "Diffusion",
    "Disturbance",
    "EmpiricalDenoiser",
    "Flowed",
    "GaussianMixture",
    "GaussianNoise",
    "GradientField",
    "LatentResult",
    "Noise",
    "NoiseMLP",
    "Preconditioned",
    "StudentNoise",
    "cosine_betas",
    "denoising_loss",
    "divergence",
    "energy_distance",
    "flow",
    "flow_log_prob",
    "frechet_distance",
    "heun_sample",
    "linear_betas",
    "mmd",
    "noise_family",
    "noise_levels",
    "optimize_latent",
    "sliced_wasserstein",
]

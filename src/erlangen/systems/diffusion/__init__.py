"""Systems for diffusion: generative models along a scale of noise, and what their fields know of the data."""

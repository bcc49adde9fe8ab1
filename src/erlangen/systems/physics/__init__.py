"""Systems of physics, where the right answer is known: spectra, order parameters, equations and their symmetries."""

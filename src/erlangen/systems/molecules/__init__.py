"""Systems for molecules and atomistic models: products of irreps, potentials, properties of molecules."""

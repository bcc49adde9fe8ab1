"""Systems for learning with symmetries that hold, that are broken, or that nobody knows yet."""

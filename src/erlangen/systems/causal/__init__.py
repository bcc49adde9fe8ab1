"""Systems that learn causes: which variable acts on which, from samples."""

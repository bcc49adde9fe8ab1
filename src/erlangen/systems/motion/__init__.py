"""Systems that predict and generate motion: particles, molecules, people."""

"""Systems that learn how things move: particles, molecules, people."""

"""Systems on graphs."""

"""Systems for motion: many agents, their trajectories, and what comes next."""

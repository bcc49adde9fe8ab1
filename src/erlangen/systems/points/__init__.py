"""Systems for point clouds: representations, registration, pose, and routes through points."""

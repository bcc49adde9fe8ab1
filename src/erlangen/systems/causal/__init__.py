"""Systems for causes: structural equations, graphs with cycles, what a covariance says about them."""

"""Systems whose data are points of a curved space."""

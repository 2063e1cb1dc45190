"""Studies on real images whose reading depends on the covariate: tables, networks, and what is kept of the results."""

"""Long, plain scripts to copy and change; see each recipe's README."""

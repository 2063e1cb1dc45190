"""The whole grid of the CelebA study: its rows, a plan of runs, and the command `reproduce`."""

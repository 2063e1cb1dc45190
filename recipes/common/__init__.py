"""What both recipes need around a training: the run's folder and log, its curves, the environment that it ran in."""

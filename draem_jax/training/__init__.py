"""Training: samples, step, devices, checkpoints, and the run."""

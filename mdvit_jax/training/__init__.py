"""Training: the step, the optimiser, the mesh of devices, checkpoints, the loop."""

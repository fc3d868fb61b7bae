"""Training: batches, loop, checkpoints."""

"""Training: one loop for all steps, averaged weights, resumable state, several processes, pre-training."""

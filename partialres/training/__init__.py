"""Optimisation: one loop for boxes and contours, averaged weights, resumable state."""

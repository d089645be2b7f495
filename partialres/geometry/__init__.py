"""Compute on masks, contours, boxes and coordinate tokens: pure functions."""

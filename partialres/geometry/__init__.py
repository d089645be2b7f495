"""Pure functions on masks, contours, boxes and coordinate tokens."""

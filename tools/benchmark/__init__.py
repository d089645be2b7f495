"""How fast the stages are, as ratios against plain implementations of the same work."""

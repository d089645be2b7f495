"""How fast the stages are, compared with plain implementations of the same work."""

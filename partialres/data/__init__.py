"""From raw RefCOCO files (or generated ones) to training rows, word indices and cached images."""

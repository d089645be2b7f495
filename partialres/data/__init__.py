"""Turn raw RefCOCO files, published or generated, into training rows, word indices and cached images."""

"""The point-sequence model: backbone, language encoder, fusion, transformer, decoding."""

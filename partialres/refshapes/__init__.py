"""Generate the data set "refshapes": scenes of coloured shapes, expressions for them, files in RefCOCO's raw layout."""

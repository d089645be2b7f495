"""Generate the data set "refshapes": scenes of coloured shapes with expressions, in RefCOCO's raw file layout."""

"""Partial-RES: referring-expression segmentation from every box and a few masks (Qu et al., CVPR 2023)."""

__version__ = "0.1.0"

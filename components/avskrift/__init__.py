"""Avskrift: what runs inside the pipeline's containers."""

__version__ = "0.1.0"

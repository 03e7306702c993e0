"""Slow, obvious references in float64 NumPy, and images to try them on."""

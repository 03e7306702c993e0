"""Slow, obvious references in float64 NumPy, and images for them."""

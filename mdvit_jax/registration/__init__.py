"""Affine transforms between images, and the files that hold them."""

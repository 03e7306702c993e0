"""Affine registration of two images: the algorithm, from two images to a transform.

The way of the data: `foreground` segments what is to be aligned, `levels` resamples it
to cubes of four sizes, `search` goes from coarse to fine by the steps of
`gauss_newton`, `ntg_refinement` may refine, `similarity_metrics` measures, `quality`
judges and `qc` draws. `register` calls them in this order. The two tuples below need no
JAX, so that `mdvit register --help` need not wait for it.
"""

DOF = ("rigid", "similarity", "affine")
CONTRASTS = ("auto", "same", "any")

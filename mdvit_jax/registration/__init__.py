"""Affine registration of two images: the algorithm, from two images to a transform.

The way of the data: `foreground` segments the head or brain, `levels` resamples it to
cubes of four sizes, `search` finds their place on coarse ones and `refinement` refines
it on fine ones, by the steps of `gauss_newton` on the `normal_equations` of the local
correlation; `ntg_refinement` may refine it more, `similarity_metrics` measures and
`quality` judges. `register` calls them in this order, and `programs` keeps what they
compute with in files. The two tuples below are here because they need no JAX:
`mdvit register --help` imports them.
"""

DOF = ("rigid", "similarity", "affine")
CONTRASTS = ("auto", "same", "any")

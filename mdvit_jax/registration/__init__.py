"""Affine registration of two images: the algorithm, from two images to a transform.

The way of the data: `register` lets `foreground` segment the head or brain in each
image, and `brain_alignment` align the two, after `brain_extraction` has cut the brains
out of heads. `levels` resamples them to cubes of four sizes, `search` finds their place
on coarse ones, from their centres or from the estimate of `network_start`, and
`refinement` refines it on fine ones, by the steps of `gauss_newton` on the
`normal_equations` of the local correlation. `ntg_refinement` may refine it more,
`similarity_metrics` measures and `quality` judges. `io.programs` keeps the programs of
all these in files. The two tuples below are here because they need no JAX: the help of
the commands imports them.
"""

DOF = ("rigid", "similarity", "affine")
CONTRASTS = ("auto", "same", "any")

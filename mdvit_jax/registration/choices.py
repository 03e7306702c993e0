"""What a registration may be asked for; without JAX, for which --help need not wait."""

DOF = ("rigid", "similarity", "affine")
CONTRASTS = ("auto", "same", "any")

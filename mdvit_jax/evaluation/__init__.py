"""Quality of a registration: metrics, regions, scores, and the methods compared.

Everything here works on NumPy arrays `[x, y, z]` on the host.
"""

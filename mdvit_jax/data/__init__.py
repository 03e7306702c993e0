"""From scans on disk to batches of conformed pairs, on the host, with NumPy.

file → `nifti` → `conform` → `cohort` (who is in it, splits) → `store` → `pipeline`.
"""

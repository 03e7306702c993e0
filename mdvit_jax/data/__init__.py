"""From scans on disk to batches of conformed pairs, on the host, with NumPy.

`layouts` → `cohort` (who is in it, splits) → `conform` (one grid) → `cache` →
`dataset` (scans by index) → `loading` (a batch) → `pipeline` (the stream of them).
"""

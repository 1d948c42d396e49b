"""What every package uses and no user sees.

Arguments: checks and their messages (`checks`), users' arrays (`arrays`), keys, shapes. Arithmetic: hyperparameters and
norms (`numerics`), trees of arrays and their paths (`trees`), meshes. Programs and processes: cached `jit`, interrupts,
progress bars. Disk: files that are written whole or not at all, directories that belong to one training or search.

Imports nothing of lectopt's.
"""

"""What every package uses and no user sees: checks of arguments and their wording, keys, trees, shapes, numerics of
hyperparameters, tables, progress bars, files and the directories of runs, meshes.

Imports nothing of lectopt's.
"""

"""Many trainings as one compiled program: traced once, split over devices, fitted into memory, in chunks, and kept.

Imports `training` and what stands below it.
"""

from lectopt.engine.devices import use_all_cores as use_all_cores

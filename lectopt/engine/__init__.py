"""Many trainings as one compiled program: what `search`, `strategies` and `architecture` share.

A function is traced once, split over devices, fitted into memory and compiled, in sizes that are found by measuring;
outcomes are kept in a directory that one search has claimed. Imports `training`, `data` and `_internal`.
"""

from lectopt.engine.devices import use_all_cores as use_all_cores

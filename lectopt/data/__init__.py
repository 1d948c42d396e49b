"""Examples and the parts of them: hold-outs, folds, minibatches, small real data sets.

A part is a `Subset`: indices into one device copy of the arrays, of which nothing is copied. `subsets` stands below all
other modules; `holdouts`, `k_folds`, `time_series`, `repeats` and `folds` make parts, with `shuffling`, `labels`,
`strata` and `groups`; `batches` says which examples each step of a training takes. What does not fit into memory is a
stream (`streams`, of arrays on disk `memory_maps`), whose batches `readers` reads and checks. Imports `_internal` only.
"""

from lectopt.data import datasets as datasets
from lectopt.data.batches import Minibatches as Minibatches
from lectopt.data.batches import minibatches as minibatches
from lectopt.data.batches import steps_per_epoch as steps_per_epoch
from lectopt.data.few_labels import few_labels as few_labels
from lectopt.data.folds import Folds as Folds
from lectopt.data.folds import from_indices as from_indices
from lectopt.data.holdouts import holdout as holdout
from lectopt.data.k_folds import k_fold as k_fold
from lectopt.data.k_folds import leave_one_group_out as leave_one_group_out
from lectopt.data.k_folds import leave_one_out as leave_one_out
from lectopt.data.k_folds import stratified_k_fold as stratified_k_fold
from lectopt.data.repeats import repeated as repeated
from lectopt.data.streams import stream as stream
from lectopt.data.subsets import Subset as Subset
from lectopt.data.time_series import time_series_split as time_series_split

"""Examples and their parts: subsets, hold-outs and folds as index sets over one device copy of the data, minibatches,
small real data sets.

Imports `_internal` only.
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
from lectopt.data.k_folds import leave_one_out as leave_one_out
from lectopt.data.k_folds import stratified_k_fold as stratified_k_fold
from lectopt.data.subsets import Subset as Subset

"""Splitting examples into parts: held-out parts and folds, as index sets over one device copy of the data."""

from lectopt.splits.few import few_labels as few_labels
from lectopt.splits.folds import Folds as Folds
from lectopt.splits.folds import from_indices as from_indices
from lectopt.splits.holding_out import holdout as holdout
from lectopt.splits.k_folds import k_fold as k_fold
from lectopt.splits.k_folds import leave_one_out as leave_one_out
from lectopt.splits.k_folds import stratified_k_fold as stratified_k_fold

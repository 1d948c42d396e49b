"""A lecture on training algorithms as a JAX library: exact optimizers, training, and search as one compiled program.

- Optimizers, as Optax transformations: `sgd`, `momentum`, `nesterov`, `adagrad`, `rmsprop`, `rmsprop_nesterov`, `adam`,
  `adamw`; their links `scale_by_learning_rate`, `trace_momentum`, `trace_nesterov`, `scale_by_adagrad`,
  `scale_by_rmsprop`, `scale_by_adam`; `clip_by_norm`, `clip_layers_by_norm`, `clip_by_value`, `add_l2`, `watch_norms`;
  around an optimizer `decay_weights`, `average_params`; `eval_params`, `register_eval_params`, `accept_dicts`.
- Schedules: `linear_decay`, `cosine_decay`, `exponential_decay`, `robbins_monro`, `momentum_ramp`, `constant`;
  `warmup`, `join`; `steps_per_epoch`.
- Models: `lectopt.initializers`; `Standardize`, `BatchNorm`, `LayerNorm`; `Dropout`.
- Data: `holdout`, `k_fold`, `stratified_k_fold`, `leave_one_out`, `leave_one_group_out`, `time_series_split`,
  `repeated`, `from_indices`, `few_labels`, `minibatches`, `stream`, with `Subset`, `Folds`, `Minibatches`; small real
  data sets in `lectopt.datasets` (`lectopt.data.datasets`).
- Training: a `Task`, such as `classification` and `regression` define (`whole_set` marks metrics); `train` and `fit`,
  which return a `Run` with its `History`; metrics of whole sets, `roc_auc`, `f1`, `balanced_accuracy`, `r2`; `Keep`;
  `load`, `compare`, `Comparison`, `watch`, `ensemble`; `update_batch_statistics`.
- Looking: `check`, `inspect`, `rescale`, `diagnose`, `Diagnosis`.
- Better starts: `pretrain_layers`, `pretrain_encoder`, `Pretrained`; `transfer`, `Transfer`.
- Search: spaces in `lectopt.space` (`lectopt.search.space`); `grid`, `sample`, `settings`; `sweep`, `replicate`,
  `cross_validate`, `select`, `nested_cross_validate`, `Halving`, `population`, `Results`; `learning_curve`,
  `validation_curve`; `suggest_learning_rate`; `search_architecture`, `ArchitectureSpace`; strategies and Optuna in
  `lectopt.search` and `lectopt.search.optuna`; `use_all_cores`.
- Exercises: an optimizer, schedule, norm, initializer or folds of a student beside the lecture's, in
  `lectopt.exercises`.
- Teaching: `racer`, a `Racer`, which is a page to play with; `style` and `label_lines` for pictures.
- Estimators for scikit-learn in `lectopt.sklearn`, which is not imported here.

The lecture: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Training Algorithms".
"""

from lectopt import exercises as exercises
from lectopt import initializers as initializers
from lectopt import search as search
from lectopt.architecture import ArchitectureSpace as ArchitectureSpace
from lectopt.architecture import search_architecture as search_architecture
from lectopt.data import Folds as Folds
from lectopt.data import Minibatches as Minibatches
from lectopt.data import Subset as Subset
from lectopt.data import datasets as datasets
from lectopt.data import few_labels as few_labels
from lectopt.data import from_indices as from_indices
from lectopt.data import holdout as holdout
from lectopt.data import k_fold as k_fold
from lectopt.data import leave_one_group_out as leave_one_group_out
from lectopt.data import leave_one_out as leave_one_out
from lectopt.data import minibatches as minibatches
from lectopt.data import repeated as repeated
from lectopt.data import steps_per_epoch as steps_per_epoch
from lectopt.data import stratified_k_fold as stratified_k_fold
from lectopt.data import stream as stream
from lectopt.data import time_series_split as time_series_split
from lectopt.engine import use_all_cores as use_all_cores
from lectopt.monitoring import Diagnosis as Diagnosis
from lectopt.monitoring import check as check
from lectopt.monitoring import diagnose as diagnose
from lectopt.monitoring import inspect as inspect
from lectopt.monitoring import rescale as rescale
from lectopt.norms import BatchNorm as BatchNorm
from lectopt.norms import Dropout as Dropout
from lectopt.norms import LayerNorm as LayerNorm
from lectopt.norms import Standardize as Standardize
from lectopt.optim import accept_dicts as accept_dicts
from lectopt.optim import adagrad as adagrad
from lectopt.optim import adam as adam
from lectopt.optim import adamw as adamw
from lectopt.optim import add_l2 as add_l2
from lectopt.optim import average_params as average_params
from lectopt.optim import clip_by_norm as clip_by_norm
from lectopt.optim import clip_by_value as clip_by_value
from lectopt.optim import clip_layers_by_norm as clip_layers_by_norm
from lectopt.optim import constant as constant
from lectopt.optim import cosine_decay as cosine_decay
from lectopt.optim import decay_weights as decay_weights
from lectopt.optim import eval_params as eval_params
from lectopt.optim import exponential_decay as exponential_decay
from lectopt.optim import join as join
from lectopt.optim import linear_decay as linear_decay
from lectopt.optim import momentum as momentum
from lectopt.optim import momentum_ramp as momentum_ramp
from lectopt.optim import nesterov as nesterov
from lectopt.optim import register_eval_params as register_eval_params
from lectopt.optim import rmsprop as rmsprop
from lectopt.optim import rmsprop_nesterov as rmsprop_nesterov
from lectopt.optim import robbins_monro as robbins_monro
from lectopt.optim import scale_by_adagrad as scale_by_adagrad
from lectopt.optim import scale_by_adam as scale_by_adam
from lectopt.optim import scale_by_learning_rate as scale_by_learning_rate
from lectopt.optim import scale_by_rmsprop as scale_by_rmsprop
from lectopt.optim import sgd as sgd
from lectopt.optim import trace_momentum as trace_momentum
from lectopt.optim import trace_nesterov as trace_nesterov
from lectopt.optim import warmup as warmup
from lectopt.optim import watch_norms as watch_norms
from lectopt.pretraining import Pretrained as Pretrained
from lectopt.pretraining import Transfer as Transfer
from lectopt.pretraining import pretrain_encoder as pretrain_encoder
from lectopt.pretraining import pretrain_layers as pretrain_layers
from lectopt.pretraining import transfer as transfer
from lectopt.search import Halving as Halving
from lectopt.search import Results as Results
from lectopt.search import cross_validate as cross_validate
from lectopt.search import grid as grid
from lectopt.search import learning_curve as learning_curve
from lectopt.search import nested_cross_validate as nested_cross_validate
from lectopt.search import population as population
from lectopt.search import replicate as replicate
from lectopt.search import sample as sample
from lectopt.search import select as select
from lectopt.search import settings as settings
from lectopt.search import space as space
from lectopt.search import suggest_learning_rate as suggest_learning_rate
from lectopt.search import sweep as sweep
from lectopt.search import validation_curve as validation_curve
from lectopt.tasks import Task as Task
from lectopt.tasks import balanced_accuracy as balanced_accuracy
from lectopt.tasks import classification as classification
from lectopt.tasks import f1 as f1
from lectopt.tasks import r2 as r2
from lectopt.tasks import regression as regression
from lectopt.tasks import roc_auc as roc_auc
from lectopt.tasks import whole_set as whole_set
from lectopt.teaching import Racer as Racer
from lectopt.teaching import label_lines as label_lines
from lectopt.teaching import racer as racer
from lectopt.teaching import style as style
from lectopt.training import Comparison as Comparison
from lectopt.training import History as History
from lectopt.training import Keep as Keep
from lectopt.training import Run as Run
from lectopt.training import compare as compare
from lectopt.training import ensemble as ensemble
from lectopt.training import fit as fit
from lectopt.training import load as load
from lectopt.training import train as train
from lectopt.training import update_batch_statistics as update_batch_statistics
from lectopt.training import watch as watch

__all__ = [
    "ArchitectureSpace", "BatchNorm", "Comparison", "Diagnosis", "Dropout", "Folds", "Halving", "History", "Keep",
    "LayerNorm", "Minibatches", "Pretrained", "Racer", "Results", "Run", "Standardize", "Subset", "Task", "Transfer",
    "accept_dicts", "adagrad", "adam", "adamw", "add_l2", "average_params", "balanced_accuracy", "check",
    "classification", "clip_by_norm", "clip_by_value", "clip_layers_by_norm", "compare", "constant", "cosine_decay",
    "cross_validate", "datasets", "decay_weights", "diagnose", "ensemble", "eval_params", "exercises",
    "exponential_decay", "f1", "few_labels", "fit", "from_indices", "grid", "holdout", "initializers", "inspect",
    "join", "k_fold", "label_lines", "learning_curve", "leave_one_group_out", "leave_one_out", "linear_decay", "load",
    "minibatches", "momentum", "momentum_ramp", "nested_cross_validate", "nesterov", "population", "pretrain_encoder",
    "pretrain_layers", "r2", "racer", "register_eval_params", "regression", "repeated", "replicate", "rescale",
    "rmsprop", "rmsprop_nesterov", "robbins_monro", "roc_auc", "sample", "scale_by_adagrad", "scale_by_adam",
    "scale_by_learning_rate", "scale_by_rmsprop", "search", "search_architecture", "select", "settings", "sgd", "space",
    "steps_per_epoch", "stratified_k_fold", "stream", "style", "suggest_learning_rate", "sweep", "time_series_split",
    "trace_momentum", "trace_nesterov", "train", "transfer", "update_batch_statistics", "use_all_cores",
    "validation_curve", "warmup", "watch", "watch_norms", "whole_set",
]  # fmt: skip

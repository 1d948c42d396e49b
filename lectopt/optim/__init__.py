"""Optimizers, as Optax gradient transformations.

Each update rule is a file, its state above its constructor (`adagrad`, `adam`, `averaging`, `clipping`, `l2_penalty`,
`layer_clipping`, `learning_rate`, `momentum`, `nesterov`, `rmsprop`, `value_clipping`, `weight_decay`); `optimizers`
holds the algorithms, as chains of them. Beside them: schedules, the parameters to evaluate (`eval_params`),
dictionaries as masks, and recorded norms.

Imports `_internal` only.
"""

from lectopt.optim.adagrad import ScaleByAdagradState as ScaleByAdagradState
from lectopt.optim.adagrad import scale_by_adagrad as scale_by_adagrad
from lectopt.optim.adam import ScaleByAdamState as ScaleByAdamState
from lectopt.optim.adam import scale_by_adam as scale_by_adam
from lectopt.optim.averaging import AverageParamsState as AverageParamsState
from lectopt.optim.averaging import average_params as average_params
from lectopt.optim.clipping import ClipByNormState as ClipByNormState
from lectopt.optim.clipping import clip_by_norm as clip_by_norm
from lectopt.optim.dict_masks import accept_dicts as accept_dicts
from lectopt.optim.evaluation_params import eval_params as eval_params
from lectopt.optim.evaluation_params import register_eval_params as register_eval_params
from lectopt.optim.joined_schedules import join as join
from lectopt.optim.joined_schedules import warmup as warmup
from lectopt.optim.l2_penalty import AddL2State as AddL2State
from lectopt.optim.l2_penalty import add_l2 as add_l2
from lectopt.optim.layer_clipping import ClipLayersByNormState as ClipLayersByNormState
from lectopt.optim.layer_clipping import clip_layers_by_norm as clip_layers_by_norm
from lectopt.optim.learning_rate import ScaleByLearningRateState as ScaleByLearningRateState
from lectopt.optim.learning_rate import scale_by_learning_rate as scale_by_learning_rate
from lectopt.optim.momentum import TraceMomentumState as TraceMomentumState
from lectopt.optim.momentum import trace_momentum as trace_momentum
from lectopt.optim.nesterov import TraceNesterovState as TraceNesterovState
from lectopt.optim.nesterov import trace_nesterov as trace_nesterov
from lectopt.optim.norm_records import WatchNormsState as WatchNormsState
from lectopt.optim.norm_records import watch_norms as watch_norms
from lectopt.optim.optimizers import adagrad as adagrad
from lectopt.optim.optimizers import adam as adam
from lectopt.optim.optimizers import momentum as momentum
from lectopt.optim.optimizers import nesterov as nesterov
from lectopt.optim.optimizers import rmsprop as rmsprop
from lectopt.optim.optimizers import rmsprop_nesterov as rmsprop_nesterov
from lectopt.optim.optimizers import sgd as sgd
from lectopt.optim.rmsprop import ScaleByRmspropState as ScaleByRmspropState
from lectopt.optim.rmsprop import scale_by_rmsprop as scale_by_rmsprop
from lectopt.optim.schedules import constant as constant
from lectopt.optim.schedules import cosine_decay as cosine_decay
from lectopt.optim.schedules import exponential_decay as exponential_decay
from lectopt.optim.schedules import linear_decay as linear_decay
from lectopt.optim.schedules import momentum_ramp as momentum_ramp
from lectopt.optim.schedules import robbins_monro as robbins_monro
from lectopt.optim.value_clipping import ClipByValueState as ClipByValueState
from lectopt.optim.value_clipping import clip_by_value as clip_by_value
from lectopt.optim.weight_decay import DecayWeightsState as DecayWeightsState
from lectopt.optim.weight_decay import adamw as adamw
from lectopt.optim.weight_decay import decay_weights as decay_weights

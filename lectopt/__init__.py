"""lectopt: a lecture on training algorithms as a JAX library to train with."""

from lectopt.optimizers import adagrad as adagrad
from lectopt.optimizers import adam as adam
from lectopt.optimizers import momentum as momentum
from lectopt.optimizers import nesterov as nesterov
from lectopt.optimizers import rmsprop as rmsprop
from lectopt.optimizers import rmsprop_nesterov as rmsprop_nesterov
from lectopt.optimizers import sgd as sgd
from lectopt.schedules import linear_decay as linear_decay
from lectopt.schedules import momentum_ramp as momentum_ramp
from lectopt.schedules import robbins_monro as robbins_monro
from lectopt.schedules import steps_per_epoch as steps_per_epoch
from lectopt.transforms import add_l2 as add_l2
from lectopt.transforms import clip_by_norm as clip_by_norm
from lectopt.transforms import eval_params as eval_params
from lectopt.transforms import scale_by_adagrad as scale_by_adagrad
from lectopt.transforms import scale_by_adam as scale_by_adam
from lectopt.transforms import scale_by_learning_rate as scale_by_learning_rate
from lectopt.transforms import scale_by_rmsprop as scale_by_rmsprop
from lectopt.transforms import trace_momentum as trace_momentum
from lectopt.transforms import trace_nesterov as trace_nesterov

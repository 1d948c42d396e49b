"""The algorithms as small pure links for `optax.chain`, one rule a file."""

from lectopt.transforms.adagrad import ScaleByAdagradState as ScaleByAdagradState
from lectopt.transforms.adagrad import scale_by_adagrad as scale_by_adagrad
from lectopt.transforms.adam import ScaleByAdamState as ScaleByAdamState
from lectopt.transforms.adam import scale_by_adam as scale_by_adam
from lectopt.transforms.clipping import ClipByNormState as ClipByNormState
from lectopt.transforms.clipping import clip_by_norm as clip_by_norm
from lectopt.transforms.dictionaries import accept_dicts as accept_dicts
from lectopt.transforms.evaluating import eval_params as eval_params
from lectopt.transforms.evaluating import register_eval_params as register_eval_params
from lectopt.transforms.learning_rate import ScaleByLearningRateState as ScaleByLearningRateState
from lectopt.transforms.learning_rate import scale_by_learning_rate as scale_by_learning_rate
from lectopt.transforms.momentum import TraceMomentumState as TraceMomentumState
from lectopt.transforms.momentum import trace_momentum as trace_momentum
from lectopt.transforms.nesterov import TraceNesterovState as TraceNesterovState
from lectopt.transforms.nesterov import trace_nesterov as trace_nesterov
from lectopt.transforms.penalty import AddL2State as AddL2State
from lectopt.transforms.penalty import add_l2 as add_l2
from lectopt.transforms.rmsprop import ScaleByRmspropState as ScaleByRmspropState
from lectopt.transforms.rmsprop import scale_by_rmsprop as scale_by_rmsprop
from lectopt.transforms.watching import WatchNormsState as WatchNormsState
from lectopt.transforms.watching import watch_norms as watch_norms

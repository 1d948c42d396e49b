"""Tasks: a model, and the loss and metrics by which it is trained and scored.

`models` makes pure functions of models (Flax NNX, Linen, pairs of functions); `task` adds the loss, the metrics and
what is learned from the training part: `model_state` (inputs) and `output_bias`. `example_checks` finds what does not
fit before anything compiles, `evaluation` and `prediction` apply trained models in batches, `interception` and `probe`
observe layers from outside. Imports `data`, `norms`, `initializers` and `_internal`.
"""

from lectopt.tasks.metrics import whole_set as whole_set
from lectopt.tasks.standard_tasks import classification as classification
from lectopt.tasks.standard_tasks import regression as regression
from lectopt.tasks.task import Task as Task
from lectopt.tasks.whole_set_metrics import balanced_accuracy as balanced_accuracy
from lectopt.tasks.whole_set_metrics import f1 as f1
from lectopt.tasks.whole_set_metrics import r2 as r2
from lectopt.tasks.whole_set_metrics import roc_auc as roc_auc

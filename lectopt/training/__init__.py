"""Training: one loop, which `train` runs as a pure function and `fit` in compiled chunks.

On the way down: `arguments` as the user gave them; `setup`, which assembles them with `optimizer_recipe`,
`example_weights` and `starting`; the `loop` over its `carry`, with `layer_statistics`. On the way back: `outcome`,
which makes a `run` with its `history`; `batch_statistics` of its weights; `ensembling` of several. Around `fit`:
`running`, chunk by chunk, the `compiled_loop` on examples from a `source` (a stream's is its `feeding`),
`checkpoints` in `archives`, `hooks` and `observers` (`live_curves`, `tensorboard`). Imports `tasks`, `data`, `optim`,
`norms`, `plots` and `_internal`.
"""

from lectopt.training.batch_statistics import update_batch_statistics as update_batch_statistics
from lectopt.training.comparison import Comparison as Comparison
from lectopt.training.comparison import compare as compare
from lectopt.training.ensembling import ensemble as ensemble
from lectopt.training.fitting import fit as fit
from lectopt.training.history import History as History
from lectopt.training.keeping import Keep as Keep
from lectopt.training.layer_statistics import watch as watch
from lectopt.training.run import Run as Run
from lectopt.training.run import load as load
from lectopt.training.training import train as train

"""Training: the one loop; `train`, which is pure, and `fit`, which runs it in parts; runs and histories, what watches
them, and how they are kept.

Imports `tasks`, `data`, `optim`, `norms`, `plots`, `_internal`.
"""

from lectopt.training.comparison import Comparison as Comparison
from lectopt.training.comparison import compare as compare
from lectopt.training.fitting import fit as fit
from lectopt.training.history import History as History
from lectopt.training.layer_statistics import watch as watch
from lectopt.training.run import Run as Run
from lectopt.training.run import load as load
from lectopt.training.training import train as train

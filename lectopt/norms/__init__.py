"""Normalization of activities: of inputs (`Standardize`), over the batch (`BatchNorm`), over the layer (`LayerNorm`).

Flax NNX modules, and the moments that they share: without cancellation, over masks and devices, pooled and running.
And `Dropout`, whose rate may be traced.

Imports `_internal` only.
"""

from lectopt.norms.batch_norm import BatchNorm as BatchNorm
from lectopt.norms.dropout import Dropout as Dropout
from lectopt.norms.layer_norm import LayerNorm as LayerNorm
from lectopt.norms.moment_checks import check_learnable as check_learnable
from lectopt.norms.moments import Moments as Moments
from lectopt.norms.moments import center as center
from lectopt.norms.moments import measure as measure
from lectopt.norms.moments import pool as pool
from lectopt.norms.standardize import DataStat as DataStat
from lectopt.norms.standardize import Standardize as Standardize
from lectopt.norms.standardize import standardized as standardized

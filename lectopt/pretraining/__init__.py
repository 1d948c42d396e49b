"""Starts that are better than chance: layers trained without labels, and weights of a network trained before.

Imports `training` and what stands below it.
"""

from lectopt.pretraining.encoders import pretrain_encoder as pretrain_encoder
from lectopt.pretraining.layers import pretrain_layers as pretrain_layers
from lectopt.pretraining.results import Pretrained as Pretrained
from lectopt.pretraining.transferring import Transfer as Transfer
from lectopt.pretraining.transferring import transfer as transfer

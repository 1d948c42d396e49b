"""Starts that are better than chance: layers trained without labels, and weights of a network trained before.

Imports `training` and what stands below it.
"""

from lectopt.pretraining.denoising_autoencoder import pretrain_encoder as pretrain_encoder
from lectopt.pretraining.layerwise import pretrain_layers as pretrain_layers
from lectopt.pretraining.results import Pretrained as Pretrained
from lectopt.pretraining.transfer_learning import Transfer as Transfer
from lectopt.pretraining.transfer_learning import transfer as transfer

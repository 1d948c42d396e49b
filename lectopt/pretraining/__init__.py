"""Better starts than random weights: layers or whole encoders trained without labels, and weights of trained networks.

Without labels, parts of a network learn to reconstruct what they take in (`layerwise`, `denoising_autoencoder`); with
`transfer_learning`, arrays of another model are taken over by their paths, from PyTorch's files too.

Imports `norms`, `data`, `tasks`, `training` and `_internal`.
"""

from lectopt.pretraining.denoising_autoencoder import pretrain_encoder as pretrain_encoder
from lectopt.pretraining.layerwise import pretrain_layers as pretrain_layers
from lectopt.pretraining.results import Pretrained as Pretrained
from lectopt.pretraining.transfer_learning import Transfer as Transfer
from lectopt.pretraining.transfer_learning import transfer as transfer

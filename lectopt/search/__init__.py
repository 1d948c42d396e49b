"""Hyperparameter search: hundreds of trainings side by side in one compiled program."""

"""Starts that are better than chance: layers trained without labels, and weights of a network trained before."""

"""Backbones: loaded weights that are asked for the logits of lanes, with their caches."""

"""Heads: from a feature map to logits, by way of an embedding; one idea a module."""

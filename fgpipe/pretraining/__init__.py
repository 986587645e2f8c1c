"""Learning from images without their labels, before training proper."""

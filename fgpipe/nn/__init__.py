"""The network: backbone, head, and the recogniser that joins them."""

"""Ports fulfilled with real tools: one tool, one module."""

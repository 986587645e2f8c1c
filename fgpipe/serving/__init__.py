"""The predictor that evaluation and the service share, and the bundle it reads."""

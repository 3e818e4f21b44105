"""Data construction: instructions with checkable answers, and trajectories to train on."""

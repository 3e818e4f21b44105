"""The journal of a run: everything it was told from outside, so that it can be had again."""

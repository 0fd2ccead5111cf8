"""Weights in and out: one declarative map a family read in both directions, and programs exported for others to run."""

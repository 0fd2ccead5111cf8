"""Checkpoints: named plain dicts in Orbax, restored onto any mesh."""

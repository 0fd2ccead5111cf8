"""The mesh, where stored arrays live on it, and how host batches get there."""

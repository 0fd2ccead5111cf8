"""Plain numpy metrics."""

"""One sharded loop for every task."""

"""Find, decode and fit every picture of a source once, and keep the squares: in one file or in shards."""

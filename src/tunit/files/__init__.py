"""Read and write files safely: atomic writes, locks, places for results, journals, damaged and untrusted files."""

"""`creatures`: drawn pictures of six species, whose translations are known exactly."""

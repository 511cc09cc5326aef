"""The networks of the method, their averages, and their files."""

"""Find pictures in folders, archives, lists, tables and databases: their names, their labels, how to read them."""

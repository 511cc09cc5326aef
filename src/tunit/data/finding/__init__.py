"""Find pictures: in folders, archives, lists, tables, databases: names, labels, and how to read the bytes."""

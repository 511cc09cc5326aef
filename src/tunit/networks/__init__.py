"""The networks of all methods, their EMAs, and files of tensors."""

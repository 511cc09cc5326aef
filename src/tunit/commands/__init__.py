"""The commands, one module each: `HELP`, `add_arguments(parser)` and `run(args) -> exit code`.

Whatever takes long to import is imported in `run`, so that `tunit --help` is quick.
"""

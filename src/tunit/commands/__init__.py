"""The commands, one module each: `HELP`, `add_arguments(parser)` and `run(args) -> exit code`.

Modules that take long to import are imported in `run`, so that `tunit --help` is quick.
"""

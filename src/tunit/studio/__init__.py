"""The studio: a page in the browser on this machine, for looking at runs, translating, teaching and training.

Each part is a module of its routes, whose pages are written here on the server, with one script in `static/`.
"""

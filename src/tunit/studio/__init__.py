"""The studio: a page in the browser on this machine, for looking at runs, translating, teaching and training.

Each part of the studio is a module with its routes; it renders its page on the server and has a script in `static/`.
"""

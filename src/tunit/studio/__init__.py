"""The studio: a page in the browser on this machine, to look at runs, translate, give labels (teach) and train.

Each part of the studio is a module with its routes; it renders its page on the server and has a script in `static/`
(in several modules if it is long; their names begin with that of the part).
"""

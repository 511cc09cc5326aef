"""The names of the files that `tunit domains`, `tunit export` and `tunit report` write.

Code that looks for such files, such as the search for pictures or `tunit train --overwrite`, takes the names from
here, too.
"""

import re

# Where in a run the commands write if the user names no other place: two folders, and the page of `tunit report`.
DOMAINS, EXPORT, REPORT = "domains", "export", "report.html"

# ---- `tunit domains` ----

TABLE = "domains.csv"  # a row for each picture
OVERVIEW = "overview.png"  # a picture of all domains
KEPT = "kept.txt"  # a list of the pictures that are no outliers; other runs may be trained on it
# Pictures of one domain. The first group of the pattern is the domain's number.
GALLERY = re.compile(r"domain_(0|[1-9]\d*)\.png", re.ASCII)

# ---- `tunit export` ----

ABOUT = "export.json"  # what the networks are and how to use them
# The networks; each is a file with the suffix of the chosen format.
STYLE_ENCODER, DOMAIN_CLASSIFIER = "style_encoder", "domain_classifier"
TRANSLATOR, REFERENCE_TRANSLATOR = "translator", "reference_translator"
NETWORKS = STYLE_ENCODER, DOMAIN_CLASSIFIER, TRANSLATOR, REFERENCE_TRANSLATOR
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}  # by the name of the format

# ---- `tunit export --format browser` ----

PAGE = "index.html", "page.js", "picture.js", "page.css"  # the page with its scripts and its style
RUNTIME = "runtime"  # the folder of onnxruntime-web, which computes in the browser
ORT, ORT_LOADER = "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs"  # its scripts
ORT_CODE = "ort-wasm-simd-threaded.wasm"  # its compiled code
RUNTIME_FILES = ORT, ORT_LOADER, ORT_CODE
THUMBNAILS = "domains"  # the folder of thumbnails, also in a model folder to share
THUMBNAIL = re.compile(r"domain_(0|[1-9]\d*)\.webp", re.ASCII)  # thumbnails of one domain


def gallery_of(domain: int | str) -> str:
    """The name of a domain's gallery, which `tunit domains` writes."""
    return f"domain_{domain}.png"


def thumbnail_of(domain: int) -> str:
    """The name of a domain's thumbnails in the folder THUMBNAILS."""
    return f"domain_{domain}.webp"

"""Pictures, from files to batches. Data flows one way: finding, decoding, packing (which fits them, too), batching.

layouts/: the paper's data sets as they are published; creatures/: pictures drawn by tunit; galleries.py: pictures
side by side, to look at.
"""

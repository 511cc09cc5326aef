"""Pictures, from files to batches. Data flows one way: finding, decoding, packing (which also makes
each picture a square), batching.

layouts/ reads the paper's data sets as they are published; creatures/ draws a set of pictures; galleries.py puts
pictures side by side, to look at.
"""

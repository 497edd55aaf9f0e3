"""Pictures of fronts and finals. Functions draw what they are given; each picture can be saved as a PNG.

May import: what `results` may; the doors of matplotlib.
Start reading: `front.py`; what all pictures share is in `figure.py`, the placing of names in `labels.py`.
"""

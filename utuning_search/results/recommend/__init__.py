"""From a folder of images to a tuner: make a task of it, search within a time, confirm what was found, export it.

May import: what `results` may.
Start reading: `plan.py` for what fits into a time; then `prepare.py`, `search.py` and `finish.py` in this order.
"""

"""What accuracies say and what they do not: intervals, and paired comparisons of designs on the same images.

May import: `common`; numpy; scipy at its door.
Start reading: `paired.py`; where its variances come from is in `components.py`, and one accuracy alone in `wilson.py`.
"""

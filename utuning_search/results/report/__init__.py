"""One HTML file that says what a study found, without a network.

May import: what `results` may; the door of plotly.
Start reading: `write.py`; what is drawn is in `charts.py`, the page around it in `page.py`.
"""

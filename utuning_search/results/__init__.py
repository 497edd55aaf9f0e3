"""What a study leaves: finalists and their finals, exported tuners that load again, tables, pictures, a recommendation.

May import: `search` and everything below it; pandas, matplotlib, scipy and scikit-learn at their doors.
Start reading: `confirm.py`, `finals.py` and `words.py` for the finals, `exports/` and `load.py` for the tuner.
"""

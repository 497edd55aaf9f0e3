"""What a study leaves: finalists and their finals, exported tuners that load again, tables, pictures, a recommendation.

May import: `search` and everything below it; pandas and matplotlib at their doors.
Start reading: `confirm.py` and `finals.py` for the finals, `export.py` and `load.py` for the tuner.
"""

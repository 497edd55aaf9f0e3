"""Small things that every other package may use: errors, files, TOML.

May import: nothing of ours, and of libraries only small ones.
Start reading: `errors.py`, the words in which anything is refused.
"""

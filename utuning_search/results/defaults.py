"""What is confirmed and exported unless told otherwise; without imports, because the command line's help shows it."""

TOP, SEEDS = 8, 3  # designs of a front to confirm, and trainings of each
FINALISTS = "the best, the knee, the smallest, then whichever adds most hypervolume to those chosen"
PICK, PICKS = "knee", "best, knee, max-params=50k (or max-NAME=, min-NAME= of another objective) or trial=17"

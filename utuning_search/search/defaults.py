"""What a search does unless told otherwise; without imports, because the command line's help shows it."""

TRIALS = 48
SAMPLERS = ("tpe", "random", "nsga2")
SAMPLER = SAMPLERS[0]

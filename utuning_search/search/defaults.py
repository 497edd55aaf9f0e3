"""What a search does unless told otherwise, and what ours are called.

Without imports, because the command line's help shows it.
"""

TRIALS = 48
SAMPLERS = ("ehvi", "tpe", "random", "nsga2")
SAMPLER = SAMPLERS[0]
PRUNERS = ("predicted", "pareto", "none", "median", "asha")
PRUNER = PRUNERS[0]
LOGGERS = ("tensorboard", "mlflow")
NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "ood_auroc", "parameters", "flops", "latency")
OBJECTIVES = ("accuracy", "parameters")
TASK, OWN_TASK = "digits", "imagefolder"  # the second where images are given: its backbone and recipe
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")  # shares of test images, by which finals can be compared

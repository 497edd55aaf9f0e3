"""Training one design: tasks, the recipe, the loop, trainers, shared features, devices and worker processes.

May import: `data`, `backbones`, `designs`, `tuners`, `common`; torch.
Start reading: `task.py`, `loop.py`, `trainer.py`, then `workers.py`.
"""

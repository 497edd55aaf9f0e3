"""TunerBench: tuner designs with their whole learning curves, and the tasks they were trained on."""

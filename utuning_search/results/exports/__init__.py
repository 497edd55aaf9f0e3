"""What a trial's tuner is exported as: one module a format, each with `export(study, record, out, data_dir)`.

May import: `results.load`, `results.trained` and what they import; onnxruntime and huggingface_hub at their doors.
Start reading: `formats.py` for the list, `tuner.py` for what all formats start from, `base.py` for their checks.
"""

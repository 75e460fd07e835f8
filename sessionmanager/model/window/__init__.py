"""Windows: what of a log a model is shown, in the form that the model's API takes. Pure.

`units.py` makes entries whole (a call with its output), `choose.py` says which of them fit, one file a dialect writes
them down, and `window.py` puts it together.
"""

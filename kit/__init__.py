"""Edge or cloud? A kit to measure it: one module per chapter, on a small ground floor.

``import kit`` is light on purpose: it loads no torch, no transformers, no onnxruntime.
"""

__version__ = "0.1.0"

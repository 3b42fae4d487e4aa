"""The names of TensorFlow that are not public, all in this file; a test tries each."""

from tensorflow.python.saved_model.save_context import in_save_context

__all__ = ["in_save_context"]

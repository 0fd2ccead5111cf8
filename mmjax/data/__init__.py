"""From files to batches of numpy arrays: sources, transforms, the stream, and builders of the shipped data sets.

A source gives records by index, transforms change one record at a time, rows make batches of records, and the stream
says which records batch k holds. Nothing here knows a model; jax, tfds and TensorFlow are not imported with it.
"""

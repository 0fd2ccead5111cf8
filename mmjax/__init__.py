"""mmjax: multimodal models in JAX, from two CPU cores to a TPU pod, from one config file."""

__version__ = "0.1.0"

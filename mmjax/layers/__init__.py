"""Parts that two models or more use; imports core only. Arrays are float32 parameters, computed with in `dtype`."""

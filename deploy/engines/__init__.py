"""TensorRT engines: how they are built, what they say of themselves, and where they may run."""

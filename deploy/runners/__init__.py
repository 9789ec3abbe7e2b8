"""Inference runtimes behind one protocol: see `deploy.runners.protocol` and `deploy.runners.registry`."""

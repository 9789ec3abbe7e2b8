"""Compact stereo networks: model, presets, files, export."""

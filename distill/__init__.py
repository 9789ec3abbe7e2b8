"""Training: data, augmentation, losses, the Lightning module, recipes, and the demo of the whole chain."""

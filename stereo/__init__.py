"""The vocabulary every stage speaks: pairs, rigs, disparity files, sources, label sets, metrics, pictures."""

"""From a trained student to FP16 and INT8 graphs, and the reasons for each choice."""

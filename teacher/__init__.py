"""Networks and algorithms that make pseudo-labels, and the blocks they share with the students."""

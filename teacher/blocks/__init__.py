"""Building blocks of FoundationStereo-type networks, shared by teacher and students: one block per file."""

"""How sessions enter and leave the file: JSON Lines, and copies between this store and others."""

"""Sessions that leave the file, and come back: JSON Lines, and copies between this store and others."""

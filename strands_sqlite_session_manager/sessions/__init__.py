"""Operations on the sessions of a file, one module each. None of them imports Strands when it is loaded, but `records`."""

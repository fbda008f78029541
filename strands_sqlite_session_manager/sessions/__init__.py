"""Operations on the sessions of a file, one module each. Only `records` imports Strands when it is loaded."""

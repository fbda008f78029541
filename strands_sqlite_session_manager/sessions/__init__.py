"""Operations on the sessions of a file, one module each. Only importing `records` imports Strands."""

"""The command line, for `python -m strands_sqlite_session_manager`."""

import sys

from .cli import main

sys.exit(main())

"""``python -m erlangen`` is the command ``erlangen``."""

import sys

from erlangen.cli import main

sys.exit(main())

"""``python -m ghn_init``: the same as the command ``ghn-init``."""

import sys

from ghn_init.cli import main

sys.exit(main())

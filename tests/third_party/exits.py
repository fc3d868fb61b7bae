"""A script, not a module: it ends the process that imports it."""

import sys

sys.exit("usage: exits.py FILE")

"""A replacement for the get-pip.py that ansible-test downloads for its virtual environments: starts from Python's own pip."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own, as ensurepip turns pip's configuration off.
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *arguments], check=False).returncode)

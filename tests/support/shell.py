"""The commands as a shell runs them."""

import json
import subprocess
import sys


def saetui(*arguments, cwd=None, code=0, **options):
    """Run ``saetui`` with ``arguments``; the finished process, whose exit code must be ``code``."""
    command = [sys.executable, "-m", "saetui", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == code, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


def saetui_json(*arguments, **options):
    return json.loads(saetui(*arguments, "--json", **options).stdout)

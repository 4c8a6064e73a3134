"""``python -m kit.route.gateway FILE``: the gateway with settings from a JSON file, as `launch` starts it."""

import json
import sys
from pathlib import Path

from kit.route.gateway.run import run
from kit.route.gateway.settings import Settings

if __name__ == "__main__":
    run(Settings(**json.loads(Path(sys.argv[1]).read_text("utf-8"))))

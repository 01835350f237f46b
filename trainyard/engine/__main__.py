"""``python -m trainyard.engine``."""

import os
import sys

if __name__ == "__main__":
    from trainyard.engine import early, secrets

    secrets.take(os.environ)
    early.begin(sys.argv[1:])
    from trainyard.engine.cli import main

    main()

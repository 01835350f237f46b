"""``python -m trainyard.engine``."""

import sys

if __name__ == "__main__":
    from trainyard.engine import early

    early.begin(sys.argv[1:])
    from trainyard.engine.cli import main

    main()

"""``python -m trainyard.engine``."""

from trainyard.engine.cli import main

if __name__ == "__main__":
    main()

"""``python -m fusionconv`` is the console command ``fusionconv``."""

import sys

from fusionconv.study.command import main

if __name__ == "__main__":
    sys.exit(main())

"""Run the course's model server in its own process: `python -m course_lib.serve`."""

import sys

from course_lib.serve.server import main

sys.exit(main())

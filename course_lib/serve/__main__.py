"""`python -m course_lib.serve`: the server as a process of its own."""

import sys

from course_lib.serve.server import main

sys.exit(main())

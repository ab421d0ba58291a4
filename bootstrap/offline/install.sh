#!/bin/sh
# Install the course from this folder, without a network. PYTHON names another Python than python3.
exec "${PYTHON:-python3}" "$(dirname "$0")/install.py" "$@"

#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image: the grader's environment, and who may read what.
set -euo pipefail
source="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

find_python() {
    for python in python3.13 python3.12 python3.11 python3; do
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

if ! python="$(find_python)"; then
    apt-get update
    apt-get install -y --no-install-recommends python3.12 python3.12-venv ||
        apt-get install -y --no-install-recommends python3.11 python3.11-venv
    python="$(find_python)"
fi
"$python" -m venv "$source/venv"
"$source/venv/bin/python" -m pip install --no-cache-dir --constraint "$source/constraints.txt" "$source/package"

chmod 755 "$source/run_autograder"
chmod -R u=rwX,go= "$source/course"
chmod 400 "$source/seed.txt"
if [ "$(id -u)" = 0 ]; then
    id etude-grader >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin etude-grader
    chown -R etude-grader: "$source/course" "$source/seed.txt"
fi

#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the tests of this folder with pytest, against the program GATHERD, and tells each outcome in
# TAP. By hand: GATHERD=build/gatherd tests/e2e/run.sh [pytest's arguments]
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
: "${top_srcdir:=$here/../..}"
: "${GATHERD:=$PWD/gatherd}"
export GATHERD top_srcdir PYTHONDONTWRITEBYTECODE=1

# The first python3 of PATH may be one that Debian's pytest was not installed for.
python=
for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import pytest' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "1..0 # SKIP no python3 has pytest (Debian: apt-get install python3-pytest)"
    exit 0
fi
tests=$(find "$here" -name 'test_*.py' -print -quit)
if [ -z "$tests" ]; then
    echo "1..0 # SKIP there are no test_*.py yet"
    exit 0
fi
if [ ! -x "$GATHERD" ]; then
    echo "1..0 # SKIP gatherd is not built: $GATHERD"
    exit 0
fi
exec "$python" "$here/tap_pytest.py" -q --rootdir "$here" -p no:cacheprovider "$@" "$here"

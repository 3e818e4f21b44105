#!/bin/sh
# Installs Toolwright into a virtual environment and bubblewrap where that is possible.
# usage: setup.sh VENV/bin
set -eu
bin=$1

# torch is named here because a bare dependency on it may pull the CUDA build on a laptop.
"$bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt \
    "torch==2.13.0" --editable ".[embedded,dev]"

if command -v bwrap >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get install -y -qq --no-install-recommends bubblewrap >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends bubblewrap >/dev/null; }
else
    echo "The sandbox needs bubblewrap. Please install it: sudo apt-get install bubblewrap"
fi

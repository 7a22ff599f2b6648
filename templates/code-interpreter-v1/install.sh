#!/bin/sh
# Installs kernels and server into an environment that belongs to the user, so that code may
# install more. Where there is a directory `wheels`, nothing comes from anywhere else.
set -eu
cd /opt/code-interpreter
if [ -d wheels ]; then
    python3 -m venv --without-pip venv
    venv/bin/python "$(ls wheels/pip-*.whl)/pip" install --no-index --find-links wheels pip
    venv/bin/python -m pip install --no-index --find-links wheels -r requirements.txt
    rm -rf wheels
else
    python3 -m venv venv
    venv/bin/python -m pip install --no-cache-dir -r requirements.txt -r packages.txt
fi
venv/bin/python -m ipykernel install --prefix venv --name python3 --display-name Python
venv/bin/python -m bash_kernel.install --prefix venv
chown -R user: venv

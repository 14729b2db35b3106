# Stands for vLLM's image where no GPU is: the `vllm` command is the stand-in engine.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
COPY requirements.txt /standin/
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --break-system-packages \
        --only-binary=:all: --require-hashes -r /standin/requirements.txt
COPY standin.py /standin/
COPY standin_engine /standin/standin_engine
RUN printf '#!/bin/sh\nshift\nexec python3 /standin/standin.py "$@"\n' > /usr/local/bin/vllm \
    && chmod 755 /usr/local/bin/vllm && mkdir --parents /vllm-workspace

# Stands for vLLM's image where there is no GPU: the `vllm` command is the stand-in engine.
# Like vLLM, it fails at the start if it may not write to the directory of the weights.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
RUN useradd --uid 2000 --gid 0 --create-home vllm && install -d -o 2000 -g 0 -m 775 /home/vllm/.cache \
    && printf '#!/bin/sh\nset -e\nshift\nmkdir -p "$HF_HOME"\nexec python3 /standin/standin.py "$@"\n' > /usr/local/bin/vllm \
    && chmod 755 /usr/local/bin/vllm
COPY requirements.txt /standin/
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --break-system-packages \
        --only-binary=:all: --require-hashes -r /standin/requirements.txt
COPY standin.py /standin/
COPY standin_engine /standin/standin_engine

# The page and the API on a CPU. Build and run:
#   docker build -t miase .
#   docker run --rm -p 7860:7860 -e MIASE_TOKEN=... miase
# docs/service.md tells of the arguments.
ARG PYTHON_VERSION=3.12
FROM python:${PYTHON_VERSION}-slim AS build

# Where pip finds torch: empty for its usual index, whose torch for Linux brings CUDA (some GB). With the address
# of an index of CPU builds, which the installation page of PyTorch names, the image stays below 2 GB.
ARG TORCH_INDEX_URL=""

# pesq, one of the evaluation packages, is built from C; the compiler stays in this stage.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/miase
ENV PATH=/opt/miase/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# torch first and alone: a change of the source then leaves this layer, the largest, as it is.
RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch>=2.8,<2.14"
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install ".[web,eval]"

FROM python:${PYTHON_VERSION}-slim
RUN useradd --create-home --uid 10001 miase
COPY --from=build /opt/miase /opt/miase
ENV PATH=/opt/miase/bin:$PATH PYTHONUNBUFFERED=1
USER miase
WORKDIR /home/miase
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
# Others can reach 0.0.0.0, so the service refuses to start without MIASE_TOKEN.
ENTRYPOINT ["miase", "serve", "--host", "0.0.0.0"]

# An environment with `imagegen`: for CPUs, or with --build-arg EXTRA=cuda for NVIDIA's GPUs (--build-arg EXTRA=tpu for TPUs).
#
#   docker build -t imagegen .
#   docker run --rm -v "$PWD/runs:/data/runs" imagegen train edm_digits --workdir runs/edm_digits
#   docker build -t imagegen:cuda --build-arg EXTRA=cuda . && docker run --gpus all --rm imagegen:cuda info edm_digits
FROM python:3.13-slim

ARG EXTRA=""
WORKDIR /opt/imagegen
COPY requirements/build.txt requirements/run.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && pip install --no-cache-dir --require-hashes --no-build-isolation --use-pep517 -r requirements/run.txt
COPY pyproject.toml README.md ./
COPY imagegen_jax imagegen_jax
COPY experiments experiments
# hadolint ignore=DL3013  # this project is no package of a version, and an extra follows jax, which is pinned above
RUN pip install --no-cache-dir --no-build-isolation ".${EXTRA:+[$EXTRA]}"

RUN useradd --create-home --uid 1000 imagegen && mkdir -p /data/runs && chown -R imagegen /data
USER 1000
WORKDIR /data
ENV GLIBC_TUNABLES=glibc.malloc.hugetlb=1
ENTRYPOINT ["imagegen"]
CMD ["--help"]

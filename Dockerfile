# miStudioExplain: one image for all services; `serve SERVICE...` says which of them a container runs.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY deploy/tools.lock deploy/image.lock ./
RUN python -m venv /opt/tools && /opt/tools/bin/pip install --quiet --require-hashes -r tools.lock
# without a pip of its own: nothing is installed into a running container
RUN python -m venv --without-pip /opt/mistudio-explain \
    && /opt/tools/bin/pip --python /opt/mistudio-explain/bin/python install --quiet --require-hashes --no-deps -r image.lock
COPY pyproject.toml README.md LICENSE ./
COPY services services
RUN /opt/tools/bin/python -m hatchling build -t wheel \
    && /opt/tools/bin/pip --python /opt/mistudio-explain/bin/python install --quiet --no-deps --no-index --find-links dist mistudio-explain
# what is in the image, as CycloneDX, with the texts of its licences; and compiled modules, since the root file system is read-only later
RUN /opt/tools/bin/cyclonedx-py environment --output-reproducible --gather-license-texts --output-file /opt/mistudio-explain/sbom.cdx.json /opt/mistudio-explain/bin/python \
    && /opt/mistudio-explain/bin/python -m compileall -q /opt/mistudio-explain/lib

FROM python:3.11-slim
LABEL org.opencontainers.image.title="miStudioExplain" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/mistudio-explain /opt/mistudio-explain
RUN groupadd --gid 10001 explain \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data explain \
    && install -d -o 10001 -g 10001 /data
ENV PATH=/opt/mistudio-explain/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
EXPOSE 8350 9400
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9400/livez', timeout=2)"]
ENTRYPOINT ["mistudio-explain"]
CMD ["--help"]

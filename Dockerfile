# Three images:
#   docker build --target worker  -t privet-worker .    Beam SDK container for remote runners
#   docker build --target server  -t privet-server .    `privet serve` without TensorFlow, with the
#                                                       pushed model directory
#   docker build --target serving -t privet-serving .   TF Serving with the pushed model directory
#
# The last two take the same --build-arg SERVING_DIRECTORY and MODEL_NAME, environment, ports and
# arguments, so one can stand for the other.

# Workers get Privet and its whole pinned closure from the image: nothing can be resolved or
# installed at start-up, because the packages' published constraints contradict each other.
FROM apache/beam_python3.11_sdk:2.77.0 AS worker
COPY requirements.txt /opt/privet/
RUN pip install --no-cache-dir --no-deps --ignore-requires-python --require-hashes \
    -r /opt/privet/requirements.txt
COPY setup.py setup.cfg pyproject.toml README.md LICENSE /opt/privet/
COPY components /opt/privet/components
COPY pipeline /opt/privet/pipeline
COPY serving /opt/privet/serving
RUN pip install --no-cache-dir --no-deps --no-build-isolation /opt/privet \
    && python -c "import privet.pipeline.build"
# The entry point is Beam's own boot program.

# Privet's wheel, built with the tools that requirements.txt pins.
FROM python:3.11-slim AS wheel
WORKDIR /opt/privet
COPY requirements.txt ./
RUN grep -A1 --no-group-separator -E '^(setuptools|wheel)==' requirements.txt > build.txt \
    && pip install --no-cache-dir --no-deps --require-hashes -r build.txt
COPY setup.py setup.cfg pyproject.toml README.md LICENSE ./
COPY components components
COPY pipeline pipeline
COPY serving serving
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

# Serves model.tflite over REST; gRPC and SavedModels take TensorFlow. Models are in the image;
# a volume at /models takes their place.
FROM python:3.11-slim AS server
COPY requirements-tflite.txt /opt/privet/
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps --require-hashes -r /opt/privet/requirements-tflite.txt \
    && pip install --no-cache-dir --no-deps /wheels/*.whl \
    && privet serve --help > /dev/null
ARG SERVING_DIRECTORY=runs/digits/serving
ARG MODEL_NAME=digits
ENV MODEL_NAME=${MODEL_NAME} MODEL_BASE_PATH=/models
COPY --chown=10001:10001 ${SERVING_DIRECTORY} /models
USER 10001:10001
EXPOSE 8501
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/healthz', timeout=2)"]
# exec: the signal that ends the container must reach the server, not a shell.
ENTRYPOINT ["/bin/sh", "-c", "exec privet serve --host=0.0.0.0 --rest_api_port=8501 --prefer_tflite_model --model_name=$MODEL_NAME --model_base_path=$MODEL_BASE_PATH/$MODEL_NAME \"$@\"", "privet"]

# The same directory in TF Serving. Add --prefer_tflite_model to `docker run … IMAGE` to serve
# model.tflite instead of the SavedModel. The image has no curl; bash opens the connection.
FROM tensorflow/serving:2.14.1 AS serving
ARG SERVING_DIRECTORY=runs/digits/serving
ARG MODEL_NAME=digits
ENV MODEL_NAME=${MODEL_NAME}
COPY --chown=10001:10001 ${SERVING_DIRECTORY} /models
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8501 && printf 'GET /v1/models/%s HTTP/1.0\\r\\n\\r\\n' \"$MODEL_NAME\" >&3 && grep -q AVAILABLE <&3"]

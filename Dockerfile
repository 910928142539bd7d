# Two images:
#   docker build --target worker  -t privet-worker .    Beam SDK container for remote runners
#   docker build --target serving -t privet-serving .   TF Serving with the pushed model directory
#

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

# The directory that `make run` pushed, as it is. Add --prefer_tflite_model to `docker run … IMAGE`
# to serve model.tflite instead of the SavedModel.
FROM tensorflow/serving:2.14.1 AS serving
ARG SERVING_DIRECTORY=runs/digits/serving
ARG MODEL_NAME=digits
ENV MODEL_NAME=${MODEL_NAME}
COPY ${SERVING_DIRECTORY} /models

"""Load on the gRPC API: a bounded number of Predict calls, so many at a time, timed one by one.

The request is made once and sent as bytes; answers are read only to see that they are no errors.
The client is grpc.aio on uvloop in this process, beside the server on the same cores.

    python benchmarks/_grpc_load.py 127.0.0.1:8500 digits --input pixels --shape 1 64
"""

import argparse
import asyncio
import json
import time

import numpy as np

METHOD = "/tensorflow.serving.PredictionService/Predict"


def measure(
    address: str,
    model_name: str,
    input_name: str,
    values: np.ndarray,
    *,
    calls: int = 10_000,
    concurrent: int = 16,
) -> dict[str, float]:
    """Sends `calls` requests, `concurrent` at a time, after a tenth as many that do not count.

    Args:
      values: float32 array, the only input of the default signature.

    Returns:
      Requests per second, and the median and 99th percentile of a call's milliseconds.
    """
    import uvloop

    request = _request(model_name, input_name, values)
    return uvloop.run(_measure(address, request, calls, concurrent))


async def _measure(address: str, request: bytes, calls: int, concurrent: int) -> dict[str, float]:
    from grpc import aio

    async with aio.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        await _send(call, request, calls // 10, concurrent)
        started = time.perf_counter()
        seconds = await _send(call, request, calls, concurrent)
        elapsed = time.perf_counter() - started
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {
        "requests_per_second": round(calls / elapsed, 1),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
    }


async def _send(call, request: bytes, calls: int, concurrent: int) -> list[float]:
    """The seconds that each call took; an error ends the measurement."""
    numbers = iter(range(calls))
    seconds = []

    async def worker() -> None:
        for _ in numbers:
            started = time.perf_counter()
            await call(request)
            seconds.append(time.perf_counter() - started)

    await asyncio.gather(*(worker() for _ in range(concurrent)))
    return seconds


def _request(model_name: str, input_name: str, values: np.ndarray) -> bytes:
    from tensorflow.core.framework.types_pb2 import DT_FLOAT
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    request = PredictRequest()
    request.model_spec.name = model_name
    tensor = request.inputs[input_name]
    tensor.dtype = DT_FLOAT
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = values.astype("<f4").tobytes()
    return request.SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("model_name")
    parser.add_argument("--input", required=True, help="name of the signature's only input")
    parser.add_argument("--shape", type=int, nargs="+", required=True, help="of that input")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--concurrent", type=int, default=16)
    arguments = parser.parse_args()
    values = np.zeros(arguments.shape, np.float32)
    figures = measure(
        arguments.address,
        arguments.model_name,
        arguments.input,
        values,
        calls=arguments.calls,
        concurrent=arguments.concurrent,
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

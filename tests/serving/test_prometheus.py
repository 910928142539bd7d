"""The text that Prometheus reads, against TF Serving's own expectations of its exporter."""

from privet.serving.prometheus import Histogram, Scalar, exponential_limits, write_page


def test_counter_reads_as_tf_serving_writes_it() -> None:
    counter = Scalar(":test:path:total", "counter", "A counter.", ("name",))
    counter.add(("abc",), 2)

    assert write_page([counter]).decode() == (
        "# HELP :test:path:total A counter.\n"
        "# TYPE :test:path:total counter\n"
        ':test:path:total{name="abc"} 2\n'
    )


def test_histogram_reads_as_tf_serving_writes_it() -> None:
    histogram = Histogram("h", "A histogram.", ("status",), exponential_limits(1, 2, 10))
    for number in (2, 20, 200):
        histogram.observe(("good",), number)

    # A 2 counts below 4: TensorFlow's limits end a bucket before them.
    counts = {1: 0, 2: 0, 4: 1, 8: 1, 16: 1, 32: 2, 64: 2, 128: 2, 256: 3, 512: 3, "+Inf": 3}
    buckets = [f'h_bucket{{status="good",le="{limit}"}} {n}' for limit, n in counts.items()]
    assert write_page([histogram]).decode().splitlines()[2:] == [
        *buckets,
        'h_sum{status="good"} 222',
        'h_count{status="good"} 3',
    ]


def test_limits_of_latencies_are_tf_servings() -> None:
    limits = [f"{limit:g}" for limit in exponential_limits(10, 1.8, 33)]

    assert limits[:5] == ["10", "18", "32.4", "58.32", "104.976"]
    assert limits[-1] == "1.47476e+09"  # microseconds: about 20 minutes
    assert len(limits) == 33


def test_label_values_cannot_end_early() -> None:
    counter = Scalar("c", "counter", "A counter.", ("name",))
    counter.add(('"a\\b"\nc',))

    assert write_page([counter]).decode().splitlines()[2] == r'c{name="\"a\\b\"\nc"} 1'


def test_page_is_unicode_whatever_a_name_holds() -> None:
    counter = Scalar("c", "counter", "A counter.", ("name",))
    counter.add(("\udcff ü",))

    assert write_page([counter]).decode().splitlines()[2] == 'c{name="? ü"} 1'

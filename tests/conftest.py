"""What all tests share."""

import signal

# A background job of a script starts with SIGINT ignored, and so would the workers that TFF starts
# and ends by SIGINT; it then waits for them without limit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""The paths of the server's own pages, beside TF Serving's API under /v1/."""

HOME_PATH = "/"
MODELS_PATH = "/models"
HEALTH_PATH = "/healthz"
READINESS_PATH = "/readyz"

PAGE_PATHS = frozenset({HOME_PATH, MODELS_PATH, HEALTH_PATH, READINESS_PATH})

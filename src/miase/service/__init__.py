"""The HTTP service: what `miase serve` runs.

    request -> guard -> api -> uploads (to disk) -> jobs -> turns (queue) -> workers -> process -> tasks
    answer  <- guard <- api <- archive <------ files of the job, in folder <----------------------+

`settings` holds the limits, `orders` reads what is asked for, `schemas` what is answered; `about` tells of
the service, `counters` are for Prometheus, and `app` puts it together. Only this package imports FastAPI and
uvicorn.
"""

"""The HTTP service: what `miase serve` runs.

    upload -> uploads (to disk) -> jobs (queue) -> workers (processes) -> tasks (model, formats, scores)
                                                                             |
    answer <- api <- archive <--------- files of the job, in folder <--------+

`settings` holds the limits, `guard` refuses what does not come from the user, `counters` are for Prometheus,
`app` puts it together. Only this package imports FastAPI and uvicorn.
"""

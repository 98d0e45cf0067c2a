"""pytz and Babel: time zones and locales, loaded when they are first used."""

from datetime import datetime

import pytz
from babel.dates import format_datetime
from fastapi import FastAPI

NEEDS = ["fastapi", "pytz", "babel"]
app = FastAPI()


@app.get("/")
def root():
    moment = pytz.timezone("Europe/Berlin").localize(datetime(2026, 7, 1, 12))
    return {"ok": [format_datetime(moment, locale=name) for name in ("de", "en", "fr", "ja")]}

"""NumPy: an array at module top, work on helper threads."""

import numpy as np
from fastapi import FastAPI

NEEDS = ["fastapi", "numpy"]
matrix = np.arange(10_000.0).reshape(100, 100)
app = FastAPI()


@app.get("/")
def root():
    return {"ok": float((matrix @ matrix).sum()), "precision": np.get_printoptions()["precision"]}

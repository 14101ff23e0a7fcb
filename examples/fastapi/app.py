"""A web service that asks another one: is it a day for a walk?"""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import FastAPI, HTTPException

WEATHER = "https://api.weather.example.com/v1"

app = FastAPI()


@app.get("/walks/{city}")
async def walk(city: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=WEATHER, timeout=5) as weather:
        try:
            response = await weather.get("/forecast", params={"city": city, "days": 1})
        except httpx.TransportError as error:
            raise HTTPException(503, "The weather is not to be had.") from error
    if response.status_code == 404:
        raise HTTPException(404, f"Nobody forecasts the weather of {city}.")
    today = response.raise_for_status().json()["days"][0]
    return {
        "city": city,
        "go": today["rain_mm"] < 1 and 5 <= today["high_c"] <= 30,
        "because": f"{today['high_c']} °C, {today['rain_mm']} mm of rain",
    }

"""How figures are written: three digits that count, in the unit in which a reader thinks."""

import math

# Below so many seconds: the factor, and the unit.
_TIMES = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min"), (math.inf, 1 / 3600, "h"))
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def shown(value: float | None, unit: str = "") -> str:
    """
    A figure with its unit: 0.0123 s is 12.3 ms, 1 share is 100 %; None is a dash.

    Args:
        unit: s, share, B, or anything that is written behind the number.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if unit == "s":
        size = abs(value)
        factor, name = next((factor, name) for below, factor, name in _TIMES if size < below)
        return "0 s" if value == 0 else f"{digits(value * factor)} {name}"
    if unit == "share":
        return f"{_percent(value)} %"
    if unit == "B":
        factor, name = next((each for each in _BYTES if value >= each[0]), _BYTES[-1])
        return f"{digits(value / factor)} {name}"
    return f"{digits(value)} {unit}".rstrip()


def digits(value: float) -> str:
    """Three digits that count, with commas; a whole number as it is."""
    if float(value).is_integer():
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _percent(share: float) -> str:
    """As `digits`; but what is not all is never written as 100."""
    text = digits(100 * share)
    places = 2
    while text == "100" and share != 1 and places < 9:
        text = f"{100 * share:.{places}f}".rstrip("0").rstrip(".")
        places += 1
    return text


def between(low: float | None, high: float | None, unit: str = "") -> str:
    """Two ends of an interval; empty where there is none."""
    return "" if low is None or high is None else f"{shown(low, unit)} to {shown(high, unit)}"


def counted(count: int, one: str, many: str = "") -> str:
    """1 job, 2 jobs."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"

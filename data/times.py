"""Times as users write them: dates, seconds since 1970, days as numbers, or a pattern of their own."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import UserError
from data.values import Read, null_where, numbers, plain, present

UTC_TIME = pa.timestamp("us", tz="UTC")
_ZONE = r"(Z|[+-]\d\d(:?\d\d)?)$"
_ORDER_BELOW = 1e8  # seconds: March 1973, before any log that this reads
_LOOKED_AT = 1 << 14  # times, to learn how they are written
_UNITS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1, "nanoseconds": 1e-3}


@dataclass
class Times:
    """Times in UTC. How they are written is decided by the first ones and holds for the whole file.

    ISO dates and times with or without a zone (UTC then); seconds, milliseconds, microseconds or nanoseconds since
    1970, by magnitude; days as `20240131`; anything else by `pattern` (strptime).
    """

    name: str
    where: str  # the file, for the sentence
    notes: list[str]
    pattern: str = ""
    form: str = ""  # "ISO", "days", "order" or one of _UNITS; empty until the first value
    is_naive: bool = field(default=False)

    def __call__(self, array: pa.Array) -> Read:
        array = plain(array, self.name)
        kind = array.type
        if pa.types.is_temporal(kind):
            if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
                raise UserError(f"{self.where}: column '{self.name}' holds {kind} values, which are no dates.")
            self._decide("ISO", array)
            if not getattr(kind, "tz", None):
                self._note_naive(array)
            values = array.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
            return Read(_utc(values), np.zeros(len(array), bool), "")
        if self.form in (*_UNITS, "order"):
            return self._epoch(array)
        array = present(array) if pa.types.is_string(kind) else array
        if self.pattern:
            return self._by_pattern(array)
        if not self.form and len(array) > array.null_count:
            self._look(array.drop_null()[:_LOOKED_AT])
        if self.form in ("", "ISO", "days"):
            return self._iso(array.cast(pa.string()))
        return self._epoch(array)

    def _look(self, array: pa.Array) -> None:
        read = numbers(array, self.name)
        present = read.values.drop_null().to_numpy(zero_copy_only=False)
        if len(present) * 2 <= len(array) - array.null_count:
            self._decide("ISO", array)
            parsed = self._iso(array).values
            if parsed.null_count * 2 > len(array) + array.null_count:
                raise UserError(
                    f"{self.where}: the times in column '{self.name}' are not understood (the first is "
                    f"'{array.drop_null()[0].as_py()[:80]}'): write them as 2024-01-31 18:30:00, or give their pattern "
                    "with --time-format such as '%d/%m/%Y %H:%M'."
                )
            return
        size = float(np.median(np.abs(present)))
        if size >= _ORDER_BELOW:
            form = "seconds" if size < 1e11 else "milliseconds" if size < 1e14 else "microseconds"
            self._decide(form if size < 1e17 else "nanoseconds", array)
        elif _are_days(present):
            self._decide("days", array)
        else:
            self._decide("order", array)

    def _decide(self, form: str, array: pa.Array) -> None:
        if not self.form and len(array) > array.null_count:
            self.form = form
            said = {
                "ISO": "dates",
                "days": "days written as YYYYMMDD",
                "order": "small numbers that are no dates: taken as the order of the rows",
            }
            self.notes.append(f"'{self.name}' holds {said.get(form, f'{form} since 1970')}")

    def _note_naive(self, array: pa.Array) -> None:
        if not self.is_naive and len(array) > array.null_count:
            self.is_naive = True
            self.notes.append(f"'{self.name}' names no time zone: read as UTC")

    def _epoch(self, array: pa.Array) -> Read:
        complaint = f"is not a number of {self.form}" if self.form in _UNITS else "is not a number"
        scale = _UNITS.get(self.form, 1_000_000)
        try:
            whole = array.cast(pa.int64())
        except pa.ArrowInvalid:
            read = numbers(array, self.name)
            micro = read.values.to_numpy(zero_copy_only=False) * scale
            too_far = np.abs(micro) > 2**62
            micro = np.where(too_far | np.isnan(micro), 0, np.rint(np.where(too_far, 0, micro)))
            values = pc.if_else(read.values.is_valid(), pa.array(np.nan_to_num(micro).astype(np.int64)), None)
            bad = read.bad | too_far
        else:
            # Clipped before the product, which would wrap around; 1900 to 2200 is checked by the schema's rules.
            limit = int(2**62 / max(scale, 1))
            ends = pc.min_max(whole).as_py()
            if ends["min"] is not None and not -limit <= ends["min"] <= ends["max"] <= limit:
                whole = pc.min_element_wise(
                    pc.max_element_wise(whole, -limit, skip_nulls=False), limit, skip_nulls=False
                )
            values = pc.divide(whole, 1_000) if scale < 1 else pc.multiply(whole, int(scale))
            bad = np.zeros(len(array), bool)
        return Read(null_where(values, bad).cast(UTC_TIME), bad, complaint)

    def _iso(self, array: pa.Array) -> Read:
        zoned = self._has_zone(array)
        if self.form != "days" and not pc.all(pc.or_(zoned, array.is_null())).as_py():
            self._note_naive(array)
        try:
            values = _utc(array.cast(UTC_TIME if pc.any(zoned).as_py() else pa.timestamp("us")))
        except pa.ArrowInvalid:
            # Mixed, with more digits than microseconds, or partly wrong: slower, but tells which.
            array = pc.replace_substring_regex(array, r"(?i)\s*(utc|gmt)$", "Z")
            # In two goes: among times with a zone pandas gives one without the zone of the one before it.
            zoned = self._has_zone(array)
            with_zone, without = (_parsed(pc.if_else(mask, array, None)) for mask in (zoned, pc.invert(zoned)))
            values = pc.coalesce(with_zone, without)
        bad = np.asarray(pc.and_(array.is_valid(), values.is_null()))
        return Read(values, bad, "is not a date or time")

    def _has_zone(self, array: pa.Array) -> pa.Array:
        if self.form == "days":
            return pa.array(np.zeros(len(array), bool))
        # A date alone also ends in something like a zone: 2024-01-31.
        zoned = pc.and_(pc.match_substring_regex(array, _ZONE), pc.greater(pc.utf8_length(array), 10))
        return zoned.fill_null(False)

    def _by_pattern(self, array: pa.Array) -> Read:
        texts = array.cast(pa.string()).to_pandas()
        try:
            parsed = pd.to_datetime(texts, format=self.pattern, errors="coerce", utc=True)
        except ValueError as failure:
            raise UserError(
                f"--time-format {self.pattern!r} cannot be used ({failure}): use a strptime pattern."
            ) from None
        if not self.form and parsed.isna().all() and len(texts.dropna()):
            raise UserError(
                f"{self.where}: no time in column '{self.name}' has the pattern {self.pattern!r} (the first is "
                f"'{texts.dropna().iloc[0][:80]}'): mend --time-format."
            )
        if not self.form and len(texts.dropna()):
            self.form = "pattern"
            self.notes.append(f"'{self.name}' is read by the pattern {self.pattern}")
        values = pa.Array.from_pandas(parsed).cast(UTC_TIME, safe=False)
        bad = np.asarray(pc.and_(array.is_valid(), values.is_null()))
        return Read(values, bad, f"does not have the pattern {self.pattern}")


def _parsed(texts: pa.Array) -> pa.Array:
    parsed = pd.to_datetime(texts.to_pandas().astype(object), format="ISO8601", errors="coerce", utc=True)
    return pa.Array.from_pandas(parsed).cast(UTC_TIME, safe=False)


def _utc(naive_or_zoned: pa.Array) -> pa.Array:
    if naive_or_zoned.type.tz is None:
        return pc.assume_timezone(naive_or_zoned, "UTC")
    return naive_or_zoned.cast(UTC_TIME)


def _are_days(values: np.ndarray) -> bool:
    month, day = values // 100 % 100, values % 100
    in_range = (values >= 18_000_101) & (values <= 22_001_231)
    return bool((in_range & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).mean() > 0.9)

/** New York wall time, as charts draw it: milliseconds since 1970 as if New York were UTC. */

const HOUR_MS = 3_600_000;

const NEW_YORK = new Intl.DateTimeFormat("en-US", {
  timeZone: "America/New_York",
  hourCycle: "h23",
  year: "numeric",
  month: "numeric",
  day: "numeric",
  hour: "numeric",
  minute: "numeric",
  second: "numeric",
});

// The clock changes on a full hour of UTC, so one offset serves a whole hour.
const offsets = new Map<number, number>();

/** Shift a UTC time to New York's wall time; what is no time stays NaN. */
export function newYorkMs(utcMs: number): number {
  if (!Number.isFinite(utcMs)) return Number.NaN;
  const hour = Math.floor(utcMs / HOUR_MS);
  let offset = offsets.get(hour);
  if (offset === undefined) {
    offset = offsetAt(hour * HOUR_MS);
    offsets.set(hour, offset);
  }
  return utcMs + offset;
}

function offsetAt(utcMs: number): number {
  const parts = NEW_YORK.formatToParts(utcMs);
  const number = (type: Intl.DateTimeFormatPartTypes): number =>
    Number(parts.find((part) => part.type === type)?.value);
  const wall = Date.UTC(
    number("year"),
    number("month") - 1,
    number("day"),
    number("hour"),
    number("minute"),
    number("second"),
  );
  return wall - utcMs;
}

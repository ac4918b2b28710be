/** Numbers and times as a trader reads them. Locale-free: a price looks the same everywhere. */
import { newYorkMs } from "./newyork";

/** What is shown for "no value". */
export const NOTHING = "–";

/**
 * A price: two decimals, four below a dollar, and as many as it has (up to four) where it was
 * traded between the cents. Zero is how the feed says that a side is missing.
 */
export function price(value: number): string {
  if (!Number.isFinite(value) || value === 0) return NOTHING;
  return grouped(value.toFixed(isCents(value) && Math.abs(value) >= 1 ? 2 : 4));
}

/** A difference of prices: unlike a price it may be zero or below, and cents are enough. */
export function difference(value: number): string {
  if (!Number.isFinite(value)) return NOTHING;
  const text = grouped(Math.abs(value).toFixed(isCents(value) ? 2 : 4));
  return value < -5e-5 ? `−${text}` : text;
}

/** Whole cents, but for the noise of binary fractions. */
function isCents(value: number): boolean {
  return Math.abs(value * 100 - Math.round(value * 100)) < 1e-6;
}

/** A whole number with separators. */
export function count(value: number): string {
  return Number.isFinite(value) ? grouped(String(Math.round(value))) : NOTHING;
}

function grouped(digits: string): string {
  const point = digits.indexOf(".");
  const whole = point < 0 ? digits : digits.slice(0, point);
  const fraction = point < 0 ? "" : digits.slice(point);
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + fraction;
}

/** New York's wall clock as if it were UTC; a fraction of a millisecond is cut off. */
function newYork(ms: number): Date {
  return new Date(Math.floor(newYorkMs(ms)));
}

/** New York time to the millisecond: 09:30:01.123. */
export function timeOfDay(ms: number): string {
  return Number.isFinite(ms) ? newYork(ms).toISOString().slice(11, 23) : NOTHING;
}

/** New York time to the minute: 09:30. */
export function minuteOfDay(ms: number): string {
  return Number.isFinite(ms) ? newYork(ms).toISOString().slice(11, 16) : NOTHING;
}

/** New York time to the second: 09:30:01. */
export function secondOfDay(ms: number): string {
  return timeOfDay(ms).slice(0, 8);
}

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"] as const;

/** A time within a week of now, as New York says it: Mon 09:30 ET. */
export function weekday(ms: number): string {
  return Number.isFinite(ms) ? `${DAYS[newYork(ms).getUTCDay()]} ${minuteOfDay(ms)} ET` : NOTHING;
}

/** New York's date: 2026-09-21. */
export function date(ms: number): string {
  return Number.isFinite(ms) ? newYork(ms).toISOString().slice(0, 10) : NOTHING;
}

/** A delay in the unit that fits: 12 ms, 1.4 s, 3 min. */
export function lag(seconds: number): string {
  if (seconds < 0.0005) return "< 1 ms";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  return age(seconds);
}

/** A length of time in whole units: 3 s, 2 min 5 s, 1 h 4 min. */
export function age(seconds: number): string {
  const whole = Math.max(Math.floor(seconds), 0);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** A length of time in the unit that fits: 400 ms, 1.4 s, 12 s, 3 min, 1.5 h. */
export function span(seconds: number): string {
  if (seconds < 9.95) return lag(seconds);
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  if (seconds < 3570) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 360) / 10} h`;
}

/** Messages a second: 0.4/s, 12/s, 1,204/s. */
export function rate(perSecond: number): string {
  const text = perSecond > 0 && perSecond < 9.95 ? perSecond.toFixed(1) : count(perSecond);
  return `${text}/s`;
}

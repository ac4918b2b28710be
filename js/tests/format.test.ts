import { describe, expect, it } from "vitest";
import * as format from "../src/format";

describe("price", () => {
  it.each([
    [227.12, "227.12"],
    [227.1, "227.10"],
    [1234567.5, "1,234,567.50"],
    [561.0045, "561.0045"],
    [0.5123, "0.5123"],
    [0.1 + 0.2 + 1, "1.30"],
    [0, "–"],
    [Number.NaN, "–"],
    [Number.POSITIVE_INFINITY, "–"],
  ])("%d is %s", (value, text) => expect(format.price(value)).toBe(text));
});

describe("difference", () => {
  it.each([
    [227.15 - 227.12, "0.03"],
    [0, "0.00"],
    [-0.02, "−0.02"],
    [0.0045, "0.0045"],
    [-1e-12, "0.00"],
  ])("%d is %s", (value, text) => expect(format.difference(value)).toBe(text));
});

describe("count", () => {
  it.each([
    [0, "0"],
    [999, "999"],
    [1000, "1,000"],
    [3_000_000_000, "3,000,000,000"],
    [Number.NaN, "–"],
  ])("%d is %s", (value, text) => expect(format.count(value)).toBe(text));
});

describe("New York time", () => {
  it.each([
    ["2026-09-21T13:30:00.123Z", "09:30:00.123", "2026-09-21"],
    ["2026-01-05T14:30:00.000Z", "09:30:00.000", "2026-01-05"],
    // The clocks change: an hour that is missing, and one that is there twice.
    ["2026-03-08T06:59:59.999Z", "01:59:59.999", "2026-03-08"],
    ["2026-03-08T07:00:00.000Z", "03:00:00.000", "2026-03-08"],
    ["2026-11-01T05:59:00.000Z", "01:59:00.000", "2026-11-01"],
    ["2026-11-01T06:00:00.000Z", "01:00:00.000", "2026-11-01"],
    ["2026-09-22T03:59:59.000Z", "23:59:59.000", "2026-09-21"],
  ])("%s is %s on %s", (iso, time, date) => {
    const ms = Date.parse(iso);
    expect(format.timeOfDay(ms)).toBe(time);
    expect(format.minuteOfDay(ms)).toBe(time.slice(0, 5));
    expect(format.secondOfDay(ms)).toBe(time.slice(0, 8));
    expect(format.date(ms)).toBe(date);
  });

  it("a fraction of a millisecond is cut off, not rounded up", () => {
    expect(format.timeOfDay(Date.parse("2026-09-21T13:30:00.123Z") + 0.999)).toBe("09:30:00.123");
  });

  it("a day of the week is New York's", () => {
    expect(format.weekday(Date.parse("2026-09-21T13:30:00Z"))).toBe("Mon 09:30 ET");
    expect(format.weekday(Date.parse("2026-09-21T03:30:00Z"))).toBe("Sun 23:30 ET");
  });

  it("no time is nothing", () => {
    expect(format.timeOfDay(Number.NaN)).toBe("–");
    expect(format.secondOfDay(Number.NaN)).toBe("–");
    expect(format.weekday(Number.NaN)).toBe("–");
  });
});

describe("lengths of time and rates", () => {
  it.each([
    [0.0001, "< 1 ms"],
    [0.0124, "12 ms"],
    [1.44, "1.4 s"],
    [42.7, "42 s"],
    [125, "2 min 5 s"],
    [-0.003, "< 1 ms"],
  ])("a lag of %d s is %s", (value, text) => expect(format.lag(value)).toBe(text));

  it.each([
    [0.9, "0 s"],
    [59.9, "59 s"],
    [65, "1 min 5 s"],
    [3840, "1 h 4 min"],
    [-5, "0 s"],
  ])("an age of %d s is %s", (value, text) => expect(format.age(value)).toBe(text));

  it.each([
    [0.4, "400 ms"],
    [2, "2.0 s"],
    [9.96, "10 s"],
    [59.6, "1 min"],
    [3569, "59 min"],
    [3599, "1 h"],
    [5400, "1.5 h"],
    [100_000, "27.8 h"],
  ])("a span of %d s is about %s", (value, text) => expect(format.span(value)).toBe(text));

  it.each([
    [0, "0/s"],
    [0.42, "0.4/s"],
    [12.4, "12/s"],
    [1204, "1,204/s"],
  ])("a rate of %d is %s", (value, text) => expect(format.rate(value)).toBe(text));
});

import { describe, expect, it } from "vitest";
import { newYorkMs } from "../src/newyork";

const utc = (text: string): number => Date.parse(text);

describe("newYorkMs", () => {
  it("is four hours behind UTC in summer and five in winter", () => {
    expect(newYorkMs(utc("2026-09-21T13:30:00Z"))).toBe(utc("2026-09-21T09:30:00Z"));
    expect(newYorkMs(utc("2026-12-21T14:30:00Z"))).toBe(utc("2026-12-21T09:30:00Z"));
  });

  it("changes with New York's clocks, to the millisecond", () => {
    expect(newYorkMs(utc("2026-11-01T05:59:59.999Z"))).toBe(utc("2026-11-01T01:59:59.999Z"));
    expect(newYorkMs(utc("2026-11-01T06:00:00Z"))).toBe(utc("2026-11-01T01:00:00Z"));
  });

  it("keeps fractions of a millisecond", () => {
    expect(newYorkMs(utc("2026-09-21T13:30:00Z") + 0.25) % 1).toBe(0.25);
  });

  it("keeps a missing time missing", () => {
    expect(newYorkMs(Number.NaN)).toBeNaN();
  });
});

import { describe, expect, it } from "vitest";
import { readings } from "../src/readout";

const at = Date.parse("2026-09-21T09:30:01.250Z");

/** The readings of a row as one text. */
function told(channel: string, row: Record<string, number>): string {
  return readings(channel, (column) => row[column] ?? Number.NaN)
    .map(({ label, value }) => `${label} ${value}`.trim())
    .join(", ");
}

describe("readings", () => {
  it("tells both sides of a quote with their sizes, and the spread", () => {
    const row = { time: at, bid_price: 187.01, bid_size: 300, ask_price: 187.03, ask_size: 1200 };
    expect(told("quotes", row)).toBe(
      "09:30:01.250, bid 187.01 × 300, ask 187.03 × 1,200, spread 0.02",
    );
  });

  it("says nothing of a side that is missing, and nothing of the spread", () => {
    const row = { time: at, bid_price: 187.01, bid_size: 300, ask_price: Number.NaN, ask_size: 0 };
    expect(told("quotes", row)).toBe("09:30:01.250, bid 187.01 × 300, ask – × 0, spread –");
  });

  it("keeps a price that was traded between the cents", () => {
    expect(told("trades", { time: at, price: 10.0075, size: 5 })).toContain("price 10.0075");
  });

  it("tells a bar by its minute and a daily one by its date", () => {
    const row = { time: at - 1_250, open: 1, high: 2, low: 1, close: 2, volume: 3e10, up: 1 };
    expect(told("bars", row)).toMatch(/^09:30, open 1\.00, .*, volume 30,000,000,000$/);
    expect(told("daily_bars", row)).toMatch(/^2026-09-21, /);
  });

  it("has nothing to say before the first row", () => {
    expect(readings("quotes", () => Number.NaN)).toEqual([]);
  });
});

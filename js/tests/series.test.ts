import { describe, expect, it } from "vitest";
import { ChartRows, Series, sourceColumns } from "../src/series";
import { made } from "./fixtures";

const f64 = (...values: number[]): Float64Array => Float64Array.from(values);
const open = Date.parse("2026-09-21T13:30:00Z");
const openInNewYork = Date.parse("2026-09-21T09:30:00Z");

describe("sourceColumns", () => {
  it("makes a gap of a quote's missing side, and of the mid with it", () => {
    const columns = sourceColumns("quotes", {
      timestamp: f64(open, open + 1),
      bid_price: f64(10, 0),
      bid_size: f64(100, 0),
      ask_price: f64(10.02, 10.03),
      ask_size: f64(200, 300),
    });
    expect([...(columns.time ?? [])]).toEqual([openInNewYork, openInNewYork + 1]);
    expect(columns.bid_price?.[0]).toBe(10);
    expect(columns.bid_price?.[1]).toBeNaN();
    expect(columns.mid?.[0]).toBeCloseTo(10.01, 10);
    expect(columns.mid?.[1]).toBeNaN();
  });

  it("tells rising bars from falling ones by number and by filling", () => {
    const columns = sourceColumns("bars", {
      timestamp: f64(open, open + 60_000),
      open: f64(10, 12),
      high: f64(13, 12.5),
      low: f64(9, 10),
      close: f64(12, 11),
      volume: f64(3e10, 5),
    });
    expect([...(columns.up ?? [])]).toEqual([1, 0]);
    expect([...(columns.filled ?? [])]).toEqual([0, 1]);
    expect([...(columns.body_low ?? [])]).toEqual([10, 11]);
    expect([...(columns.body_high ?? [])]).toEqual([12, 12]);
    expect(columns.volume?.[0]).toBe(3e10);
  });

  it("names a column that is missing", () => {
    expect(() => sourceColumns("trades", { timestamp: f64(open) })).toThrow('"price"');
  });
});

describe("Series", () => {
  const times = (series: Series): number[] => [...(series.tail().time ?? [])];

  it("keeps the newest rows and drops the oldest", () => {
    const series = new Series(3);
    for (let time = 1; time <= 20; time++) expect(series.append({ time: f64(time) })).toBe(1);
    expect(times(series)).toEqual([18, 19, 20]);
    expect(series.length).toBe(3);
  });

  it("takes the newest of more rows than it can hold", () => {
    const series = new Series(3);
    series.append({ time: f64(1) });
    expect(series.append({ time: f64(2, 3, 4, 5, 6) })).toBe(3);
    expect(times(series)).toEqual([4, 5, 6]);
  });

  it("puts a bar that is told again in the place of the first telling", () => {
    const series = new Series(3);
    expect(series.merge({ time: f64(60, 120), close: f64(1, 2) })).toBe(2);
    expect(series.merge({ time: f64(180), close: f64(3) })).toBe(1);
    expect(series.merge({ time: f64(120, 240), close: f64(9, 4) })).toBe(-1);
    expect(times(series)).toEqual([120, 180, 240]);
    expect([...(series.tail().close ?? [])]).toEqual([9, 3, 4]);
  });

  it("puts a trade that was reported late where its time is", () => {
    const series = new Series(4);
    expect(series.add({ time: f64(1, 2), price: f64(10, 20) })).toBe(2);
    expect(series.add({ time: f64(2, 5), price: f64(21, 50) })).toBe(2);
    expect(series.add({ time: f64(6, 2, 1), price: f64(60, 22, 11) })).toBe(-1);
    expect(times(series)).toEqual([2, 2, 5, 6]);
    expect([...(series.tail().price ?? [])]).toEqual([21, 22, 50, 60]);
    expect(series.add({ time: f64(7), price: f64(70) })).toBe(1);
  });

  it("puts a bar that comes late where its time is", () => {
    const series = new Series(9);
    series.merge({ time: f64(60, 240), close: f64(1, 4) });
    expect(series.merge({ time: f64(180, 300), close: f64(3, 5) })).toBe(-1);
    expect(times(series)).toEqual([60, 180, 240, 300]);
  });

  it("hands out copies, because Bokeh shifts the arrays it is given", () => {
    const series = new Series(3);
    series.append({ time: f64(1, 2) });
    series.tail().time?.fill(9);
    expect(times(series)).toEqual([1, 2]);
    expect([...(series.tail(1).time ?? [])]).toEqual([2]);
  });

  it("finds the row in force at a time", () => {
    const series = new Series(3);
    series.append({ time: f64(5, 10, 10, 20) });
    expect(series.rowAt(9)).toBe(-1);
    expect(series.rowAt(10)).toBe(1);
    expect(series.rowAt(15)).toBe(1);
    expect(series.rowAt(99)).toBe(2);
  });

  it("answers NaN outside its rows, and starts anew when cleared", () => {
    const series = new Series(3);
    expect(series.at("time", -1)).toBeNaN();
    series.append({ time: f64(1, 2) });
    expect(series.at("time", -1)).toBe(2);
    expect(series.at("price", 0)).toBeNaN();
    series.clear();
    expect(series.length).toBe(0);
    expect(series.at("time", -1)).toBeNaN();
  });

  it("lets one block trade run out of the panel instead of pressing all others flat", () => {
    const series = new Series(100);
    const time = Float64Array.from({ length: 100 }, (_, row) => row);
    series.append({ time, size: time.map((row) => (row === 50 ? 1e6 : 100)) });
    expect(series.roof("size", { start: 0, end: 100 })).toBeCloseTo(440);
    expect(series.roof("size", { start: 60, end: 100 })).toBeCloseTo(110);
    expect(series.roof("size", { start: 200, end: 300 })).toBeCloseTo(110);
  });
});

describe("ChartRows", () => {
  const words = ["", "corrected", "canceled", "error", "incorrect"];
  const categories = { amended: { from: 0, names: words } };
  const trades = (prices: number[], amended: number[], kind: "snapshot" | "delta") =>
    made(
      { timestamp: prices.map((_, row) => open + row), price: prices, size: prices, amended },
      { kind, categories: kind === "snapshot" ? categories : {} },
    );
  const prices = (rows: ChartRows): number[] => [...(rows.series.tail().price ?? [])];

  it("draws no trade that does not count, neither its price nor its size", () => {
    const rows = new ChartRows("trades", 100);
    rows.apply(trades([10, 999, 11, 998, 997], [0, 2, 1, 3, 4], "snapshot"));
    expect(prices(rows)).toEqual([10, 11]);
    expect([...(rows.series.tail().size ?? [])]).toEqual([10, 11]);
    const change = rows.apply(trades([12, 996], [0, 2], "delta"));
    expect(prices(rows)).toContain(12);
    expect(prices(rows)).not.toContain(996);
    expect(change.replaced).toBe(true);
  });

  it("has no more rows when all of them were cancelled", () => {
    const rows = new ChartRows("trades", 100);
    rows.apply(trades([10], [0], "snapshot"));
    rows.apply(trades([10], [2], "snapshot"));
    expect(rows.series.length).toBe(0);
  });
});

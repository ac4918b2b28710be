import { describe, expect, it } from "vitest";
import { KeyedRows, makeRows, TapeRows } from "../src/columns";
import { batchOf, made, told } from "./fixtures";

const NAMES = { symbol: { from: 0, names: ["AAPL", "MSFT", "SPY"] } };

function shown(rows: KeyedRows | TapeRows, name: string): unknown[] {
  return Array.from({ length: rows.length }, (_, row) => rows.value(row, name));
}

describe("KeyedRows", () => {
  it("holds the newest row of each symbol, in the order of asking", () => {
    const rows = new KeyedRows(["MSFT", "AAPL"]);
    for (const each of told("keyed")) rows.apply(batchOf(each));
    expect(shown(rows, "symbol")).toEqual(["MSFT", "AAPL"]);
    expect(shown(rows, "bid_price")).toEqual([415.2, 227.11]);
    expect(rows.position).toBe(5);
  });

  it("shows a symbol before anything is known of it", () => {
    const rows = new KeyedRows(["MSFT", "AAPL"]);
    expect(shown(rows, "symbol")).toEqual(["MSFT", "AAPL"]);
    rows.apply(batchOf(told("keyed")[0]));
    expect(shown(rows, "bid_price")).toEqual([null, 227.12]);
  });

  it("puts symbols nobody named behind, by name", () => {
    const rows = new KeyedRows(["*"]);
    const columns = { symbol: [2, 0], bid_price: [1, 2] };
    rows.apply(made(columns, { shape: "keyed", categories: NAMES }));
    expect(shown(rows, "symbol")).toEqual(["AAPL", "SPY"]);
    expect(shown(rows, "bid_price")).toEqual([2, 1]);
  });

  it("shows other symbols when others are asked for, and remembers what it knew", () => {
    const rows = new KeyedRows(["MSFT", "AAPL"]);
    for (const each of told("keyed")) rows.apply(batchOf(each));
    const before = rows.key(0);
    rows.ask(["AAPL", "TSLA"]);
    expect(shown(rows, "symbol")).toEqual(["AAPL", "TSLA"]);
    expect(shown(rows, "bid_price")).toEqual([227.11, null]);
    expect(rows.key(0)).not.toBe(before);
    rows.ask(["MSFT", "*"]);
    expect(shown(rows, "symbol")).toEqual(["MSFT", "AAPL"]);
  });

  it("knows what rose and what fell, and when", () => {
    const rows = new KeyedRows();
    rows.apply(made({ symbol: [0, 1], bid_price: [5, 5] }, { shape: "keyed", categories: NAMES }));
    expect(rows.changed(0, "bid_price")).toBe(0);
    rows.apply(made({ symbol: [0, 1], bid_price: [6, 4] }, { kind: "delta", shape: "keyed" }));
    expect([rows.move(0, "bid_price"), rows.move(1, "bid_price")]).toEqual([1, -1]);
    expect(rows.changed(0, "bid_price")).toBe(rows.version);
    rows.apply(made({ symbol: [0], bid_price: [6] }, { kind: "delta", shape: "keyed" }));
    expect(rows.move(0, "bid_price")).toBe(1);
    expect(rows.changed(0, "bid_price")).toBe(rows.version - 1);
  });

  it("gives other keys when rows are arranged anew", () => {
    const rows = new KeyedRows();
    rows.apply(made({ symbol: [1], bid_price: [5] }, { shape: "keyed", categories: NAMES }));
    const before = rows.key(0);
    rows.apply(made({ symbol: [0], bid_price: [5] }, { kind: "delta", shape: "keyed" }));
    expect(shown(rows, "symbol")).toEqual(["AAPL", "MSFT"]);
    expect(rows.key(0)).not.toBe(before);
    expect(rows.key(1)).toBe(rows.key(0) + 1);
  });

  it("grows to any number of symbols and keeps what it has", () => {
    const rows = new KeyedRows();
    const many = Array.from({ length: 1000 }, (_, at) => at);
    const names = many.map((at) => `S${String(at).padStart(4, "0")}`);
    const categories = { symbol: { from: 0, names } };
    rows.apply(made({ symbol: [0], bid_price: [7] }, { shape: "keyed", categories }));
    rows.apply(
      made({ symbol: many.slice(1), bid_price: many.slice(1) }, { kind: "delta", shape: "keyed" }),
    );
    expect(rows.length).toBe(1000);
    expect(rows.value(0, "bid_price")).toBe(7);
    expect(rows.value(999, "bid_price")).toBe(999);
  });

  it("forgets everything at a snapshot", () => {
    const rows = new KeyedRows();
    rows.apply(made({ symbol: [0, 1], bid_price: [1, 2] }, { shape: "keyed", categories: NAMES }));
    const names = { symbol: { from: 0, names: ["F"] } };
    rows.apply(made({ symbol: [0], bid_price: [9] }, { shape: "keyed", categories: names }));
    expect(shown(rows, "symbol")).toEqual(["F"]);
    expect(rows.changed(0, "bid_price")).toBe(0);
  });
});

describe("TapeRows", () => {
  it("shows the newest row first", () => {
    const rows = new TapeRows();
    const [first, second] = told("tape");
    rows.apply(batchOf(first));
    rows.apply(batchOf(second));
    expect(shown(rows, "price")).toEqual([415, 561.0045, 227.13, 415.2, 227.12]);
    expect(shown(rows, "symbol")).toEqual(["MSFT", "SPY", "AAPL", "MSFT", "AAPL"]);
    expect(shown(rows, "trade_id")).toContain(2n ** 63n + 1n);
  });

  it("starts again where rows are missing in between", () => {
    const rows = new TapeRows();
    for (const each of told("tape")) rows.apply(batchOf(each));
    expect(shown(rows, "price")).toEqual([231, 230, 229]);
    expect(rows.position).toBe(10);
  });

  it("keeps as many rows as it has room for", () => {
    const rows = new TapeRows(3);
    rows.apply(made({ symbol: [0, 0], price: [1, 2] }, { categories: NAMES }));
    rows.apply(made({ symbol: [0, 0], price: [3, 4] }, { kind: "delta", position: 4 }));
    expect(shown(rows, "price")).toEqual([4, 3, 2]);
    rows.apply(made({ symbol: [0, 0, 0, 0], price: [5, 6, 7, 8] }, { kind: "delta", position: 8 }));
    expect(shown(rows, "price")).toEqual([8, 7, 6]);
  });

  it("gives each row a key that stays with it", () => {
    const rows = new TapeRows();
    rows.apply(made({ symbol: [0, 0], price: [1, 2] }, { categories: NAMES }));
    const key = rows.key(0);
    rows.apply(made({ symbol: [0], price: [3] }, { kind: "delta", position: 3 }));
    expect(rows.key(1)).toBe(key);
    expect(rows.value(1, "price")).toBe(2);
  });

  it("compares a price with the one before of the same symbol; an equal one keeps its direction", () => {
    const rows = new TapeRows();
    const columns = { symbol: [0, 1, 0, 0, 1], price: [10, 50, 11, 11, 49] };
    rows.apply(made(columns, { categories: NAMES }));
    const moves = [4, 3, 2, 1, 0].map((row) => rows.move(row, "price"));
    expect(moves).toEqual([0, 0, 1, 1, -1]);
  });
});

describe("rows that were amended", () => {
  const categories = {
    ...NAMES,
    amended: { from: 0, names: ["", "corrected", "canceled", "error", "incorrect", "updated"] },
  };

  it("are noticed until a snapshot has none", () => {
    const rows = new TapeRows();
    rows.apply(made({ symbol: [0, 0], price: [1, 2], amended: [0, 0] }, { categories }));
    expect(rows.amended).toBe(false);
    rows.apply(made({ symbol: [0], price: [3], amended: [2] }, { kind: "delta", position: 3 }));
    rows.apply(made({ symbol: [0], price: [4], amended: [0] }, { kind: "delta", position: 4 }));
    expect(rows.amended).toBe(true);
    expect(shown(rows, "amended")).toEqual(["", "canceled", "", ""]);
    rows.apply(made({ symbol: [0], price: [1], amended: [0] }, { categories }));
    expect(rows.amended).toBe(false);
  });

  it("give no direction when they do not count, and none to the next price", () => {
    const rows = new TapeRows();
    const columns = { symbol: [0, 0, 0, 0], price: [10, 99, 11, 10], amended: [0, 2, 0, 1] };
    rows.apply(made(columns, { categories }));
    expect([3, 2, 1, 0].map((row) => rows.move(row, "price"))).toEqual([0, 0, 1, -1]);
  });
});

describe("cells", () => {
  it("not-a-number, an unknown code and an unknown column are nothing", () => {
    const rows = makeRows("tape", []);
    rows.apply(made({ symbol: [-1], price: [Number.NaN] }, { categories: NAMES }));
    expect(rows.value(0, "price")).toBeNull();
    expect(rows.value(0, "symbol")).toBeNull();
    expect(rows.value(0, "volume")).toBeNull();
    expect(rows.value(7, "price")).toBeNull();
  });

  it("hostile text stays a text", () => {
    const categories = { symbol: { from: 0, names: ["<img src=x onerror=alert(1)>"] } };
    const rows = makeRows("keyed", []);
    rows.apply(made({ symbol: [0], price: [1] }, { shape: "keyed", categories }));
    expect(rows.value(0, "symbol")).toBe("<img src=x onerror=alert(1)>");
  });
});

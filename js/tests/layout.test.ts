import { describe, expect, it } from "vitest";
import { makeRows } from "../src/columns";
import { fitColumns, layout } from "../src/layout";
import { made } from "./fixtures";

const QUOTE = ["timestamp", "symbol", "bid_price", "bid_size", "ask_price", "ask_size"];

function headings(columns: readonly { heading: string }[]): string[] {
  return columns.map((column) => column.heading);
}

describe("layout", () => {
  it("puts a quote in the order of a book", () => {
    expect(headings(layout("quotes", QUOTE))).toEqual([
      "Symbol",
      "Bid size",
      "Bid",
      "Ask",
      "Ask size",
      "Spread",
      "Time",
    ]);
  });

  it("shows what a channel it does not know has, with readable headings", () => {
    const columns = layout("corrections", ["timestamp", "symbol", "original_price"]);
    expect(headings(columns)).toEqual(["Time", "Symbol", "Original price"]);
    expect(columns[2]?.text(1.5)).toBe("1.50");
  });

  it("has no spread where a side is missing, and no size there", () => {
    const rows = makeRows("tape", []);
    rows.apply(made({ bid_price: [10, 10], ask_price: [10.03, 0] }));
    const columns = layout("quotes", QUOTE);
    const spread = columns.find((column) => column.heading === "Spread");
    expect(spread?.from?.(rows, 0)).toBeNull();
    expect(spread?.text(spread.from?.(rows, 1) ?? null)).toBe("0.03");
    expect(columns.find((column) => column.heading === "Ask size")?.text(0)).toBe("–");
  });
});

describe("a column of amendments", () => {
  const TRADE = ["timestamp", "symbol", "price", "size", "exchange", "conditions", "tape"];

  it("stands behind the others, and before them where there is little room", () => {
    const columns = layout("trades", [...TRADE, "amended"]);
    expect(headings(columns).at(-1)).toBe("Amended");
    const narrow = headings(fitColumns(columns, 480).map(({ spec }) => spec));
    expect(narrow).toEqual(["Time", "Symbol", "Price", "Size", "Amended"]);
  });

  it("takes no room where the frame has none", () => {
    expect(headings(layout("trades", TRADE))).not.toContain("Amended");
  });
});

describe("fitColumns", () => {
  const columns = layout("quotes", QUOTE);
  const at = (width: number) => fitColumns(columns, width);

  it.each([320, 480, 700, 1600, 2560])("fits %i pixels", (width) => {
    const used = at(width).reduce((sum, column) => sum + column.width, 0);
    expect(used).toBeLessThanOrEqual(width);
  });

  it("never drops symbol, bid and ask", () => {
    expect(headings(at(100).map(({ spec }) => spec))).toEqual(["Symbol", "Bid", "Ask"]);
  });

  it("drops both sizes or none", () => {
    for (let width = 200; width < 700; width += 10) {
      const names = at(width).map(({ spec }) => spec.name);
      expect(names.includes("bid_size")).toBe(names.includes("ask_size"));
    }
  });

  it("does not stretch columns across a wide page", () => {
    const widest = Math.max(...at(2560).map((column) => column.width / column.spec.width));
    expect(widest).toBeLessThanOrEqual(1.5);
  });
});

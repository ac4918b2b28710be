// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KeyedRows, type Rows, TapeRows } from "../src/columns";
import { Grid, ROW_HEIGHT } from "../src/grid";
import { made } from "./fixtures";

const NAMES = { symbol: { from: 0, names: ["AAPL", "MSFT", "<b>F</b>"] } };

/** A grid in a page of a given size; happy-dom lays nothing out, so the sizes are told to it. */
function put(channel: string, rows: Rows, size = { width: 900, height: 28 + 10 * ROW_HEIGHT }) {
  const grid = new Grid({ channel, height: null, empty: "Nothing yet." });
  document.body.append(grid.element);
  const scroll = grid.element.querySelector<HTMLElement>(".anb-scroll");
  if (scroll === null) throw new Error("the grid has nothing to scroll");
  Object.defineProperty(scroll, "clientWidth", { value: size.width });
  Object.defineProperty(scroll, "clientHeight", { value: size.height });
  grid.show(rows);
  grid.draw();
  return { grid, scroll };
}

/** The texts on the screen, row by row from the top. */
function lines(): string[][] {
  const rows = [...document.querySelectorAll<HTMLElement>(".anb-row:not([hidden])")];
  const top = (row: HTMLElement) =>
    Number(/translateY\((-?\d+)px\)/.exec(row.style.transform)?.[1]);
  return rows
    .sort((one, other) => top(one) - top(other))
    .map((row) => [...row.children].map((cell) => cell.textContent ?? ""));
}

function column(heading: string): string[] {
  const heads = [...document.querySelectorAll(".anb-head .anb-cell")];
  const at = heads.findIndex((cell) => cell.textContent === heading);
  return lines().map((line) => line[at] ?? "");
}

function cell(row: number, heading: string): HTMLElement {
  const heads = [...document.querySelectorAll(".anb-head .anb-cell")];
  const at = heads.findIndex((head) => head.textContent === heading);
  const found = document.querySelectorAll<HTMLElement>(".anb-row:not([hidden])")[row]?.children[at];
  if (found === undefined) throw new Error(`no cell ${heading} in row ${row}`);
  return found as HTMLElement;
}

function tape(prices: number[], position = prices.length, kind: "snapshot" | "delta" = "snapshot") {
  const symbol = prices.map(() => 0);
  return made({ symbol, price: prices }, { kind, position, categories: NAMES });
}

beforeEach(() => document.body.replaceChildren());
afterEach(() => document.body.replaceChildren());

describe("a keyed table", () => {
  let rows: KeyedRows;

  beforeEach(() => {
    rows = new KeyedRows(["AAPL", "MSFT"]);
    rows.apply(
      made(
        { symbol: [0, 1], bid_price: [227.12, 415.2], ask_price: [227.14, 415.3] },
        { shape: "keyed", categories: NAMES },
      ),
    );
  });

  const change = (symbol: number, bid: number) =>
    rows.apply(
      made(
        { symbol: [symbol], bid_price: [bid], ask_price: [bid + 0.02] },
        { kind: "delta", shape: "keyed" },
      ),
    );

  it("shows each symbol with its prices", () => {
    put("quotes", rows);
    expect(column("Symbol")).toEqual(["AAPL", "MSFT"]);
    expect(column("Bid")).toEqual(["227.12", "415.20"]);
    expect(column("Spread")).toEqual(["0.02", "0.10"]);
  });

  it("marks a rise and a fall by more than a colour, and flashes anew each time", () => {
    const { grid } = put("quotes", rows);
    expect(cell(0, "Bid").dataset["flash"]).toBeUndefined();
    change(0, 228);
    grid.draw();
    expect(cell(0, "Bid").dataset["move"]).toBe("1");
    const flash = cell(0, "Bid").dataset["flash"];
    expect(flash).toMatch(/^up-/);
    change(0, 229);
    grid.draw();
    expect(cell(0, "Bid").dataset["flash"]).toMatch(/^up-/);
    expect(cell(0, "Bid").dataset["flash"]).not.toBe(flash);
    change(0, 220);
    grid.draw();
    expect(cell(0, "Bid").dataset["flash"]).toMatch(/^down-/);
    expect(cell(1, "Bid").dataset["flash"]).toBeUndefined();
  });

  it("touches no text that stays the same", () => {
    const { grid } = put("quotes", rows);
    const before = cell(1, "Bid").firstChild;
    change(0, 230);
    grid.draw();
    expect(cell(1, "Bid").firstChild).toBe(before);
    expect(column("Bid")).toEqual(["230.00", "415.20"]);
  });

  it("draws markup in a symbol as text", () => {
    put("quotes", rows).grid.draw();
    rows.ask(["AAPL", "MSFT", "*"]);
    change(2, 1.5);
    put("quotes", rows);
    expect(document.querySelector(".anb-row b")).toBeNull();
    expect(column("Symbol")).toContain("<b>F</b>");
  });
});

describe("a tape", () => {
  it("shows the newest row on top and moves the others down unwritten", () => {
    const rows = new TapeRows();
    rows.apply(tape([10, 11]));
    const { grid } = put("trades", rows);
    expect(column("Price")).toEqual(["11.00", "10.00"]);
    const second = document.querySelector<HTMLElement>('.anb-row[style*="translateY(0px)"]');
    rows.apply(tape([12], 3, "delta"));
    grid.draw();
    expect(column("Price")).toEqual(["12.00", "11.00", "10.00"]);
    expect(second?.style.transform).toBe(`translateY(${ROW_HEIGHT}px)`);
  });

  it("makes elements for what is in sight only, however many rows there are", () => {
    const rows = new TapeRows();
    rows.apply(tape(Array.from({ length: 5_000 }, (_, at) => at + 1)));
    const { grid, scroll } = put("trades", rows);
    const elements = document.querySelectorAll(".anb-row").length;
    expect(elements).toBeLessThan(30);
    scroll.scrollTop = 2_000 * ROW_HEIGHT;
    grid.draw();
    expect(column("Price")).toContain("3,000.00");
    expect(document.querySelectorAll(".anb-row").length).toBe(elements);
  });

  it("holds the rows that somebody reads, and says how many are newer", () => {
    const rows = new TapeRows();
    rows.apply(tape(Array.from({ length: 1_000 }, (_, at) => at + 1)));
    const { grid, scroll } = put("trades", rows);
    scroll.scrollTop = 100 * ROW_HEIGHT;
    grid.draw();
    const before = column("Price");
    rows.apply(tape([2001, 2002, 2003], 1_003, "delta"));
    grid.draw();
    expect(scroll.scrollTop).toBe(103 * ROW_HEIGHT);
    expect(column("Price")).toEqual(before);
    const newer = document.querySelector<HTMLButtonElement>(".anb-newer");
    expect(newer?.hidden).toBe(false);
    expect(newer?.textContent).toContain("3 newer");
    scroll.scrollTop = 0;
    scroll.dispatchEvent(new Event("scroll"));
    expect(newer?.hidden).toBe(true);
    expect(column("Price")[0]).toBe("2,003.00");
  });
});

describe("rows that were amended", () => {
  const categories = { ...NAMES, amended: { from: 0, names: ["", "corrected", "canceled"] } };
  const amended = (
    codes: number[],
    position = codes.length,
    kind: "snapshot" | "delta" = "delta",
  ) =>
    made(
      { symbol: codes.map(() => 0), price: codes.map((_, at) => position + at), amended: codes },
      { kind, position, categories: kind === "snapshot" ? categories : {} },
    );
  const element = (row: number) =>
    document.querySelector<HTMLElement>(`.anb-row[style*="translateY(${row * ROW_HEIGHT}px)"]`);

  it("say what they are by more than a colour, and why to the pointer", () => {
    const rows = new TapeRows();
    rows.apply(amended([0, 1, 2], 3, "snapshot"));
    put("trades", rows);
    expect(column("Amended")).toEqual(["canceled", "corrected", ""]);
    expect([0, 1, 2].map((row) => element(row)?.dataset["amended"])).toEqual([
      "void",
      "changed",
      undefined,
    ]);
    expect(element(0)?.title).toContain("does not count");
    expect(element(1)?.title).toContain("right values");
    expect(element(2)?.title).toBe("");
  });

  it("leave nothing of it on an element that another row takes over", () => {
    const rows = new TapeRows(3);
    rows.apply(amended([0, 0, 2], 3, "snapshot"));
    const { grid } = put("trades", rows, { width: 900, height: 28 + 2 * ROW_HEIGHT });
    for (let position = 4; position < 40; position++) {
      rows.apply(amended([0], position));
      grid.draw();
      const marked = document.querySelectorAll(".anb-row:not([hidden])[data-amended]");
      expect(marked.length).toBe(position < 6 ? 1 : 0);
    }
  });

  it("take room for a column from the first of them on", () => {
    const rows = new TapeRows();
    rows.apply(amended([0, 0], 2, "snapshot"));
    const { grid } = put("trades", rows);
    const headings = () => document.querySelector(".anb-head")?.textContent ?? "";
    expect(headings()).not.toContain("Amended");
    rows.apply(amended([2], 3));
    grid.draw();
    expect(headings()).toContain("Amended");
    expect(column("Amended")).toEqual(["canceled", "", ""]);
    const anew = new TapeRows();
    anew.apply(amended([0], 4, "snapshot"));
    grid.show(anew);
    grid.draw();
    expect(headings()).toContain("Amended");
  });
});

describe("a tape that is told anew", () => {
  const upTo = (rows: number, without: number[] = []) =>
    Array.from({ length: rows }, (_, at) => at + 1).filter((price) => !without.includes(price));
  const told = (prices: number[]) =>
    made(
      { timestamp: prices, symbol: prices.map(() => 0), price: prices },
      { position: prices.length, categories: NAMES },
    );

  function put1000() {
    const rows = new TapeRows();
    // The rows 500 and 990 come by a fill.
    rows.apply(told(upTo(1_000, [500, 990])));
    const { grid, scroll } = put("trades", rows);
    scroll.scrollTop = 100 * ROW_HEIGHT;
    grid.draw();
    return { rows, grid, scroll, before: column("Price") };
  }

  it("leaves the rows that somebody reads where they are", () => {
    const { grid, scroll, before } = put1000();
    const anew = new TapeRows();
    anew.apply(told(upTo(1_003)));
    grid.show(anew);
    grid.draw();
    expect(scroll.scrollTop).toBe(104 * ROW_HEIGHT);
    expect(column("Price")).toEqual(before);
    expect(document.querySelector(".anb-newer")?.textContent).toContain("4 newer");
  });

  it("counts what had arrived and was not drawn yet", () => {
    const { rows, grid, scroll, before } = put1000();
    rows.apply(tape([1_001, 1_002], 1_000, "delta"));
    const anew = new TapeRows();
    anew.apply(told(upTo(1_002, [500])));
    grid.show(anew);
    grid.draw();
    expect(scroll.scrollTop).toBe(103 * ROW_HEIGHT);
    expect(column("Price")).toEqual(before);
  });

  it("shows the top to whoever is there", () => {
    const { grid, scroll } = put1000();
    scroll.scrollTop = 0;
    grid.draw();
    const anew = new TapeRows();
    anew.apply(told(upTo(1_003)));
    grid.show(anew);
    grid.draw();
    expect(scroll.scrollTop).toBe(0);
    expect(column("Price")[0]).toBe("1,003.00");
  });
});

describe("a tape that is quicker than its reader", () => {
  it("shows the oldest rows it has when those that were read are gone", () => {
    const rows = new TapeRows(50);
    rows.apply(tape(Array.from({ length: 50 }, (_, at) => at + 1)));
    const { grid, scroll } = put("trades", rows);
    scroll.scrollTop = 20 * ROW_HEIGHT;
    grid.draw();
    rows.apply(
      tape(
        Array.from({ length: 500 }, (_, at) => at + 1000),
        550,
        "delta",
      ),
    );
    grid.draw();
    const top = scroll.scrollTop / ROW_HEIGHT;
    expect(top).toBeLessThanOrEqual(40);
    expect(column("Price").at(-1)).toBe("1,450.00");
  });
});

describe("any table", () => {
  it("says that there is nothing yet", () => {
    const rows = new TapeRows();
    rows.apply(tape([]));
    const { grid } = put("trades", rows);
    const empty = document.querySelector<HTMLElement>(".anb-empty");
    expect([empty?.hidden, empty?.textContent]).toEqual([false, "Nothing yet."]);
    rows.apply(tape([10], 1, "delta"));
    grid.draw();
    expect(empty?.hidden).toBe(true);
  });

  it("drops columns on a narrow page", () => {
    const rows = new KeyedRows(["AAPL"]);
    put("quotes", rows, { width: 280, height: 300 });
    rows.apply(
      made(
        { symbol: [0], bid_price: [1], ask_price: [2], bid_size: [3], ask_size: [4] },
        { shape: "keyed", categories: NAMES },
      ),
    );
    put("quotes", rows, { width: 280, height: 300 });
    const headings = [...document.querySelectorAll(".anb-head:last-of-type .anb-cell")];
    expect(headings.map((head) => head.textContent)).not.toContain("Bid size");
  });

  it("is a table to a screen reader", () => {
    const rows = new TapeRows();
    rows.apply(tape([10]));
    put("trades", rows);
    expect(document.querySelectorAll("[role=columnheader]").length).toBeGreaterThan(1);
    expect(document.querySelectorAll("[role=row] [role=cell]").length).toBeGreaterThan(1);
  });
});

/** Which columns a table shows, in which order, and how wide. */

import type { Cell, Rows } from "./columns";
import * as format from "./format";

/** How a cell is meant: decides its alignment, colour and weight (see grid.css). */
export type Role = "symbol" | "price" | "size" | "time" | "text" | "number";

export interface ColumnSpec {
  readonly name: string;
  readonly heading: string;
  readonly role: Role;
  /** The side of the book, or what may recede. */
  readonly tone?: "bid" | "ask" | "muted";
  /** Pixels it needs. */
  readonly width: number;
  /** When there is no room for all, those of the highest number go first. */
  readonly rank: number;
  /** Shows by arrow and flash whether it rose or fell. */
  readonly ticks?: boolean;
  readonly text: (cell: Cell) => string;
  /** Computed from the row instead of read from a column. */
  readonly from?: (rows: Rows, row: number) => Cell;
}

const number =
  (text: (value: number) => string) =>
  (cell: Cell): string =>
    typeof cell === "number" ? text(cell) : format.NOTHING;

const plain = (cell: Cell): string => (cell === null ? "" : String(cell));
const price = number(format.price);
const count = number(format.count);
/** Nobody quotes nothing: the size of a side that is missing. */
const quoted = number((value) => (value === 0 ? format.NOTHING : format.count(value)));

function spread(rows: Rows, row: number): Cell {
  const bid = rows.value(row, "bid_price");
  const ask = rows.value(row, "ask_price");
  // A side that is missing has price 0; a spread to nothing is none.
  return typeof bid === "number" && typeof ask === "number" && bid > 0 && ask > 0
    ? ask - bid
    : null;
}

const SYMBOL: ColumnSpec = {
  name: "symbol",
  heading: "Symbol",
  role: "symbol",
  width: 76,
  rank: 0,
  text: plain,
};

const TIME: ColumnSpec = {
  name: "timestamp",
  heading: "Time",
  role: "time",
  tone: "muted",
  width: 108,
  rank: 3,
  text: number(format.timeOfDay),
};

const MINUTE: ColumnSpec = {
  ...TIME,
  heading: "Minute",
  width: 62,
  rank: 1,
  text: number(format.minuteOfDay),
};

const DATE: ColumnSpec = {
  ...TIME,
  heading: "Date",
  width: 96,
  text: number(format.date),
};

const CONDITIONS = muted("conditions", "Cond.", 82, 8);
const AMENDED = muted("amended", "Amended", 100, 4);
const TAPE = muted("tape", "Tape", 62, 9);

function muted(name: string, heading: string, width: number, rank: number): ColumnSpec {
  return { name, heading, role: "text", tone: "muted", width, rank, text: plain };
}

function priceColumn(name: string, heading: string, rank: number, ticks = false): ColumnSpec {
  return { name, heading, role: "price", width: 96, rank, ticks, text: price };
}

function sizeColumn(name: string, heading: string, rank: number): ColumnSpec {
  return { name, heading, role: "size", width: 88, rank, text: count };
}

const CANDLE: readonly ColumnSpec[] = [
  priceColumn("open", "Open", 3),
  priceColumn("high", "High", 3),
  priceColumn("low", "Low", 3),
  priceColumn("close", "Close", 0, true),
  sizeColumn("volume", "Volume", 2),
  { ...priceColumn("vwap", "VWAP", 5), tone: "muted" },
  { ...sizeColumn("trade_count", "Trades", 6), tone: "muted" },
];

const LAYOUTS: Readonly<Record<string, readonly ColumnSpec[]>> = {
  quotes: [
    SYMBOL,
    { ...sizeColumn("bid_size", "Bid size", 2), tone: "bid", width: 80, text: quoted },
    { ...priceColumn("bid_price", "Bid", 0, true), tone: "bid" },
    { ...priceColumn("ask_price", "Ask", 0, true), tone: "ask" },
    { ...sizeColumn("ask_size", "Ask size", 2), tone: "ask", width: 80, text: quoted },
    {
      name: "spread",
      heading: "Spread",
      role: "number",
      tone: "muted",
      width: 76,
      rank: 4,
      text: number(format.difference),
      from: spread,
    },
    TIME,
    muted("bid_exchange", "Bid ex.", 72, 6),
    muted("ask_exchange", "Ask ex.", 72, 6),
    CONDITIONS,
    TAPE,
  ],
  trades: [
    TIME,
    SYMBOL,
    priceColumn("price", "Price", 0, true),
    sizeColumn("size", "Size", 1),
    muted("exchange", "Ex.", 58, 5),
    CONDITIONS,
    TAPE,
    AMENDED,
  ],
  bars: [MINUTE, SYMBOL, ...CANDLE, AMENDED],
  updated_bars: [MINUTE, SYMBOL, ...CANDLE],
  daily_bars: [SYMBOL, ...CANDLE, DATE],
  statuses: [
    SYMBOL,
    { ...muted("status_message", "Status", 150, 0), tone: "ask" },
    { ...muted("reason_message", "Reason", 200, 4) },
    TIME,
    muted("status_code", "Code", 66, 6),
    muted("reason_code", "Reason code", 88, 6),
    TAPE,
  ],
  lulds: [
    SYMBOL,
    { ...priceColumn("limit_down", "Limit down", 0, true), tone: "bid" },
    { ...priceColumn("limit_up", "Limit up", 0, true), tone: "ask" },
    muted("indicator", "Ind.", 58, 4),
    TIME,
    TAPE,
  ],
};

/** The columns for a channel, as far as the frame has them; for a channel unknown, all it has. */
export function layout(channel: string, names: readonly string[]): readonly ColumnSpec[] {
  const known = LAYOUTS[channel];
  if (known !== undefined) {
    const there = known.filter((column) => column.from || names.includes(column.name));
    if (there.length > 0) return there;
  }
  return names.map(generic);
}

function generic(name: string, rank: number): ColumnSpec {
  if (name === "timestamp") return TIME;
  if (name === "symbol") return SYMBOL;
  const heading = name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());
  const wide = Math.max(72, 24 + 7 * heading.length);
  if (/price|limit/.test(name)) return { ...priceColumn(name, heading, rank), width: wide };
  if (/size|volume|count/.test(name)) return { ...sizeColumn(name, heading, rank), width: wide };
  return muted(name, heading, wide, rank);
}

/** A column with the pixels it was given. */
export interface Fitted {
  readonly spec: ColumnSpec;
  readonly width: number;
}

/** Beyond this share of its need a column only puts distance between numbers. */
const LARGEST = 1.5;

/**
 * Choose the columns for a width: drop the least important until the rest fit, those of one
 * rank together (a high without its low would mislead), then share out what is left. The order
 * stays; rank 0 is never dropped (the table scrolls sideways instead).
 */
export function fitColumns(columns: readonly ColumnSpec[], width: number): readonly Fitted[] {
  let shown = columns;
  while (total(shown) > width) {
    const least = Math.max(...shown.map((column) => column.rank));
    if (least === 0) break;
    shown = shown.filter((column) => column.rank !== least);
  }
  const scale = Math.min(Math.max(width / total(shown), 1), LARGEST);
  return shown.map((spec) => ({ spec, width: Math.floor(spec.width * scale) }));
}

function total(columns: readonly ColumnSpec[]): number {
  return columns.reduce((sum, column) => sum + column.width, 0);
}

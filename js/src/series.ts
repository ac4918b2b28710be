/**
 * The rows a chart shows, as the columns of its Bokeh source.
 *
 * Pure: a frame's columns in, float64 arrays out. Everything is float64 because Bokeh
 * keeps the first array's type when it streams, and would cut later values down to it.
 */
import { amendment } from "./amended";
import type { ChartMessage } from "./chartmodel";
import type { Batch, BatchColumn } from "./delta";
import { newYorkMs } from "./newyork";
import { Vocabulary } from "./vocabulary";

/** Named columns of equal length. */
export type Columns = Readonly<Record<string, Float64Array>>;

/** What a message did to the rows: how many it added at the end, or that it changed others. */
export type Change = { readonly added: number; readonly replaced: boolean };

/** The rows of one chart, brought up to date by the messages of its kernel. */
export class ChartRows {
  readonly series: Series;
  /** Whose rows these are; "" before the first message. */
  symbol = "";
  readonly #channel: string;
  /** Bars are told again while they form or when a late trade changes them. */
  readonly #retold: boolean;
  #vocabulary = new Vocabulary();

  constructor(channel: string, capacity: number) {
    this.#channel = channel;
    this.#retold = channel.endsWith("bars");
    this.series = new Series(capacity);
  }

  /** Take in a message; the caller has made sure that none is missing before it. */
  apply({ header, columns }: Batch): Change {
    // Rows that were skipped leave a hole: what is before it would be joined by a false line.
    this.symbol = (header as ChartMessage).symbol;
    const anew = header.kind === "snapshot" || header.skipped > 0;
    if (anew) this.series.clear();
    this.#vocabulary.learn(header.categories);
    const counts = this.#counting(columns.get("amended"));
    const frame: Record<string, Float64Array> = {};
    for (const { name, values } of columns.values()) {
      if (values instanceof Float64Array) frame[name] = counts ? values.filter(counts) : values;
    }
    const rows = sourceColumns(this.#channel, frame);
    const added = this.#retold ? this.series.merge(rows) : this.series.add(rows);
    return { added: Math.max(added, 0), replaced: anew || added < 0 };
  }

  /** Which rows are drawn: a trade that was cancelled made no price and no volume. */
  #counting(amended: BatchColumn | undefined): ((_: number, row: number) => boolean) | undefined {
    if (amended === undefined) return undefined;
    const isVoid = (code: number | bigint) =>
      amendment(this.#vocabulary.text(amended.name, Number(code)))?.kind === "void";
    return (_, row) => !isVoid(amended.values[row] ?? -1);
  }
}

/** Turn a frame's columns into the source columns of its channel. */
export function sourceColumns(channel: string, frame: Columns): Record<string, Float64Array> {
  const time = column(frame, "timestamp").map(newYorkMs);
  if (channel === "quotes") return { time, ...quoteColumns(frame) };
  if (channel === "trades") {
    return { time, price: column(frame, "price"), size: column(frame, "size") };
  }
  return { time, ...barColumns(frame) };
}

/** A side without a price (0 on the wire) becomes a gap in the line, not a fall to zero. */
function quoteColumns(frame: Columns): Record<string, Float64Array> {
  const bid_price = column(frame, "bid_price").map(positive);
  const ask_price = column(frame, "ask_price").map(positive);
  const mid = bid_price.map((bid, row) => (bid + (ask_price[row] ?? Number.NaN)) / 2);
  const [bid_size, ask_size] = [column(frame, "bid_size"), column(frame, "ask_size")];
  return { bid_price, bid_size, ask_price, ask_size, mid };
}

function barColumns(frame: Columns): Record<string, Float64Array> {
  const open = column(frame, "open");
  const close = column(frame, "close");
  return {
    open,
    high: column(frame, "high"),
    low: column(frame, "low"),
    close,
    volume: column(frame, "volume"),
    body_low: open.map((value, row) => Math.min(value, at(close, row))),
    body_high: open.map((value, row) => Math.max(value, at(close, row))),
    up: open.map((value, row) => (at(close, row) >= value ? 1 : 0)),
    filled: open.map((value, row) => (at(close, row) >= value ? 0 : 1)),
  };
}

function at(values: Float64Array, row: number): number {
  return values[row] ?? Number.NaN;
}

function joined(first: Float64Array, second: Float64Array): Float64Array {
  const both = new Float64Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

function positive(price: number): number {
  return price > 0 ? price : Number.NaN;
}

function column(frame: Columns, name: string): Float64Array {
  const values = frame[name];
  if (values === undefined) throw new Error(`The kernel sent no column "${name}".`);
  return values;
}

/** The share of rows whose volume is not out of the ordinary, and what is far above that. */
const USUAL = 0.95;
const FAR_ABOVE = 4;

/** The newest rows, at most `capacity` of them, oldest first. */
export class Series {
  #columns: Record<string, Float64Array> = {};
  #start = 0;
  #end = 0;
  readonly capacity: number;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** Forget every row. */
  clear(): void {
    this.#columns = {};
    this.#start = this.#end = 0;
  }

  /** Add rows at the end; the oldest fall out. Returns how many were added. */
  append(rows: Record<string, Float64Array>): number {
    const added = Object.values(rows)[0]?.length ?? 0;
    const kept = Math.min(added, this.capacity);
    this.#makeRoom(rows, kept);
    for (const [name, values] of Object.entries(rows)) {
      this.#columns[name]?.set(values.subarray(added - kept), this.#end);
    }
    this.#end += kept;
    this.#start = Math.max(this.#start, this.#end - this.capacity);
    return kept;
  }

  /**
   * Add rows, each where its time belongs: a trade may be reported a minute late, and a line that
   * ran back to it would be a lie. Returns how many were added at the end, or -1 if any was not.
   */
  add(rows: Record<string, Float64Array>): number {
    const times = rows["time"] ?? new Float64Array();
    const newest = this.at("time", -1);
    if (times.every((time, row) => !(time < (row === 0 ? newest : (times[row - 1] ?? time))))) {
      return this.append(rows);
    }
    const held = this.tail();
    const all = Object.entries(rows).map(
      ([name, values]) => [name, joined(held[name] ?? new Float64Array(), values)] as const,
    );
    const byTime = Object.fromEntries(all)["time"] ?? new Float64Array();
    // Of one time, the order of arrival stays: sorting is stable.
    const order = [...byTime.keys()].sort((one, other) => at(byTime, one) - at(byTime, other));
    this.clear();
    this.append(
      Object.fromEntries(
        all.map(([name, values]) => [name, Float64Array.from(order, (row) => at(values, row))]),
      ),
    );
    return -1;
  }

  /**
   * Add rows, except those that tell a time anew: they take the place of the row that told it
   * before. Returns how many were added at the end, or -1 if anything else changed.
   */
  merge(rows: Record<string, Float64Array>): number {
    const times = rows["time"] ?? new Float64Array();
    let [added, replaced] = [0, false];
    times.forEach((time, row) => {
      const known = this.rowAt(time);
      if (known >= 0 && this.at("time", known) === time) {
        for (const [name, values] of Object.entries(rows)) {
          this.#columns[name]?.fill(
            values[row] ?? Number.NaN,
            this.#start + known,
            this.#start + known + 1,
          );
        }
        replaced = true;
      } else {
        const one = Object.entries(rows).map(([name, values]) => [
          name,
          values.slice(row, row + 1),
        ]);
        const count = this.add(Object.fromEntries(one));
        replaced ||= count < 0;
        added += count;
      }
    });
    return replaced ? -1 : added;
  }

  /** Copies of the newest `count` rows (all of them by default); the caller owns them. */
  tail(count = this.length): Record<string, Float64Array> {
    const from = Math.max(this.#start, this.#end - count);
    return Object.fromEntries(
      Object.entries(this.#columns).map(([name, values]) => [name, values.slice(from, this.#end)]),
    );
  }

  /** One value; the row counts from the oldest, or from the end if it is negative. */
  at(name: string, row: number): number {
    const index = row < 0 ? this.#end + row : this.#start + row;
    if (index < this.#start || index >= this.#end) return Number.NaN;
    return this.#columns[name]?.[index] ?? Number.NaN;
  }

  /** The last row that is not later than `time`, or -1. Rows are in order of their times. */
  rowAt(time: number): number {
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.at("time", middle) <= time) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /**
   * How high a panel of volumes should reach for the rows of a span. One block trade would press
   * all others flat, so what is far above the rest runs out of the panel.
   */
  roof(name: string, span: { readonly start: number; readonly end: number }): number {
    const from = this.#start + Math.max(this.rowAt(span.start), 0);
    const to = this.#start + this.rowAt(span.end) + 1;
    const values = (this.#columns[name]?.slice(from, to) ?? new Float64Array()).sort();
    const highest = values[values.length - 1] ?? 0;
    const usual = values[Math.floor(values.length * USUAL)] ?? 0;
    return 1.1 * (usual > 0 ? Math.min(highest, FAR_ABOVE * usual) : highest);
  }

  // Rows lie in buffers of twice the capacity, so that moving them down is rare.
  #makeRoom(rows: Record<string, Float64Array>, count: number): void {
    const move = this.#end + count > 2 * this.capacity;
    for (const name of Object.keys(rows)) {
      const values = this.#columns[name];
      if (values === undefined) {
        this.#columns[name] = new Float64Array(2 * this.capacity).fill(Number.NaN);
      } else if (move) {
        values.copyWithin(0, this.#start, this.#end);
      }
    }
    if (move) [this.#start, this.#end] = [0, this.length];
  }
}

/** What a chart's row says in words: under the cursor, or the newest one. */
import * as format from "./format";

/** A value of the read-out; `tone` is a design token for its colour. */
export interface Reading {
  readonly label: string;
  readonly value: string;
  readonly tone?: string;
}

const DAY_MS = 86_400_000;

/** Read a row aloud; `value` gives its columns, NaN for what is not there. */
export function readings(channel: string, value: (column: string) => number): Reading[] {
  const time = value("time");
  if (Number.isNaN(time)) return [];
  const when = { label: "", value: wallTime(time, channel) };
  if (channel === "quotes") return [when, ...quote(value)];
  if (channel === "trades") {
    return [
      when,
      { label: "price", value: format.price(value("price")) },
      { label: "size", value: format.count(value("size")) },
    ];
  }
  return [when, ...bar(value)];
}

function quote(value: (column: string) => number): Reading[] {
  const [bid, ask] = [value("bid_price"), value("ask_price")];
  return [
    {
      label: "bid",
      value: `${format.price(bid)} × ${format.count(value("bid_size"))}`,
      tone: "bid",
    },
    {
      label: "ask",
      value: `${format.price(ask)} × ${format.count(value("ask_size"))}`,
      tone: "ask",
    },
    {
      label: "spread",
      value: Number.isNaN(ask - bid) ? format.NOTHING : format.difference(ask - bid),
    },
  ];
}

function bar(value: (column: string) => number): Reading[] {
  const tone = value("up") === 1 ? "up" : "down";
  return [
    ...["open", "high", "low", "close"].map((column) => ({
      label: column,
      value: format.price(value(column)),
      tone,
    })),
    { label: "volume", value: format.count(value("volume")) },
  ];
}

/** Wall time on the chart's axis: of a day its date, of a minute hours and minutes. */
function wallTime(ms: number, channel: string): string {
  const text = new Date(Math.floor(ms)).toISOString();
  if (channel === "daily_bars" || (channel.endsWith("bars") && ms % DAY_MS === 0)) {
    return text.slice(0, 10);
  }
  return channel.endsWith("bars") ? text.slice(11, 16) : text.slice(11, 23);
}

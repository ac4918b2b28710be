/** What the details below a badge say, as texts. */
import * as format from "./format";
import type { Freshness, Market, ShownSymbol, Status, StreamState, SymbolTrading } from "./model";
import { skew, type Tone } from "./warnings";

export interface Row {
  readonly label: string;
  readonly value: string;
  readonly tone?: Tone;
}

export interface Section {
  readonly title: string;
  readonly rows: readonly Row[];
}

export interface Report {
  /** Numbers. Which there are does not change with what they say, so that nothing jumps. */
  readonly sections: readonly Section[];
  /** One line for each symbol of the view. */
  readonly symbols: readonly SymbolLine[];
  /** What is to be told by name: sentences, and only where there is something to tell. */
  readonly notes: readonly Row[];
}

/** One symbol: what is to be thought of it, how much comes, and what is allowed. */
export interface SymbolLine {
  readonly symbol: string;
  readonly state: string;
  /** A shape that differs from state to state. */
  readonly mark: string;
  readonly tone: Tone;
  readonly rate: string;
  readonly last: string;
  readonly band: string;
}

/**
 * The report of a status, with the age of the last data message now, and the seconds since
 * the status was made.
 */
export function report(
  status: Status,
  word: string,
  age_s: number | null,
  since_s: number,
): Report {
  return {
    sections: [
      { title: "Connection", rows: connection(status, word) },
      { title: "Delay", rows: delay(status, age_s) },
      { title: "Symbols", rows: symbols(status) },
      { title: "Losses", rows: losses(status) },
    ],
    symbols: status.shown.first.map((each) => symbolLine(each, status.state, since_s)),
    notes: [...unlisted(status), ...stale(status), ...refused(status), ...trading(status)],
  };
}

const FRESHNESS: Readonly<Record<Freshness, readonly [mark: string, word: string, Tone]>> = {
  live: ["●", "Live", "good"],
  quiet: ["○", "Quiet", "muted"],
  stale: ["◐", "Stale", "warn"],
  waiting: ["◌", "Nothing yet", "muted"],
  closed: ["■", "Market closed", "muted"],
};

function symbolLine(each: ShownSymbol, stream: StreamState, since_s: number): SymbolLine {
  const { symbol, age_s, rate } = each;
  const [mark, state, tone] = symbolState(each, stream);
  return {
    symbol,
    mark,
    state,
    tone,
    rate: rate > 0 && stream === "live" ? format.rate(rate) : "",
    last: age_s === null ? "" : `${format.age(age_s + since_s)} ago`,
    band: [...band(each)].join(""),
  };
}

function symbolState({ halted, subscription, freshness }: ShownSymbol, stream: StreamState) {
  if (subscription === "refused") return ["✕", "Refused", "bad"] as const;
  if (stream !== "live") return ["◌", "Not connected", "muted"] as const;
  if (halted) return ["■", "Halted", "bad"] as const;
  if (subscription === "pending") return ["◌", "Pending", "warn"] as const;
  return FRESHNESS[freshness] ?? (["?", freshness, "muted"] as const);
}

function connection(status: Status, word: string): readonly Row[] {
  const { feed, origin, market } = status;
  return [
    { label: "State", value: word },
    { label: "Feed", value: feed.toUpperCase() + (origin === "live" ? "" : `, ${origin}`) },
    { label: "Market", value: marketPhase(market) },
    { label: market.phase === "open" ? "Closes" : "Opens", value: marketTime(market) },
    { label: "Received", value: format.count(status.received) },
    { label: "Reconnects", value: format.count(status.reconnects) },
  ];
}

const PHASES: Readonly<Record<Market["phase"], string>> = {
  open: "Open",
  pre: "Pre-market",
  post: "After hours",
  closed: "Closed",
  unknown: "Unknown",
};

function marketPhase({ phase }: Market): string {
  return PHASES[phase] ?? phase;
}

function marketTime({ phase, opens_ms, closes_ms }: Market): string {
  return format.weekday((phase === "open" ? closes_ms : opens_ms) ?? Number.NaN);
}

function delay(status: Status, age_s: number | null): readonly Row[] {
  const { skew_s } = status;
  return [
    late("Median", status.lag_s),
    late("99 of 100 within", status.lag_p99_s),
    late("Newest", status.lag_now_s),
    { label: "Last message", value: age_s === null ? "never" : `${format.age(age_s)} ago` },
    warned("Clock", skew_s === null ? "no difference seen" : skew(skew_s), skew_s !== null),
  ];
}

function late(label: string, seconds: number | null): Row {
  if (seconds === null) return { label, value: format.NOTHING };
  return warned(label, format.lag(seconds), seconds > 1);
}

function symbols({ subscriptions, freshness }: Status): readonly Row[] {
  const { confirmed, pending, refused } = subscriptions;
  return [
    { label: "Confirmed", value: format.count(confirmed) },
    warned("Pending", format.count(pending), pending > 0),
    warned("Refused", format.count(refused), refused > 0, "bad"),
    { label: "Live", value: format.count(freshness.live) },
    // Either is silence that is as it should be.
    { label: "Quiet", value: format.count(freshness.quiet + freshness.closed) },
    warned("Stale", format.count(freshness.stale), freshness.stale > 0),
    { label: "Nothing yet", value: format.count(freshness.waiting) },
  ];
}

function losses({ gaps, dropped, unreadable, coalesced }: Status): readonly Row[] {
  return [
    warned("Gaps open", format.count(gaps.open), gaps.open > 0),
    warned("Repair pending", format.count(gaps.pending), gaps.pending > 0),
    { label: "Repaired", value: format.count(gaps.repaired) },
    warned("Missed", format.count(gaps.missed), gaps.missed > 0, "bad"),
    warned("Dropped by handlers", format.count(dropped), dropped > 0),
    warned("Unreadable", format.count(unreadable), unreadable > 0),
    { label: "Overtaken rows", value: format.count(coalesced) },
  ];
}

function warned(label: string, value: string, warn: boolean, tone: Tone = "warn"): Row {
  return warn ? { label, value, tone } : { label, value };
}

function* unlisted({ shown: { first, count } }: Status): Generator<Row> {
  const more = count - first.length;
  if (more > 0) yield { label: "Shown", value: `${format.count(more)} more symbols` };
}

/** Those that have no line of their own. */
function* stale({ stale: { first, count }, shown }: Status): Generator<Row> {
  const listed = new Set(shown.first.filter(isStale).map(({ symbol }) => symbol));
  const names = first.filter((symbol) => !listed.has(symbol));
  const more = count - listed.size - names.length;
  if (names.length + more === 0) return;
  yield { label: "Stale", value: names.join(", ") + andMore(more), tone: "warn" };
}

function isStale({ subscription, freshness }: ShownSymbol): boolean {
  return subscription === "confirmed" && freshness === "stale";
}

function* refused({ refused: first, subscriptions }: Status): Generator<Row> {
  for (const { channel, symbol, reason } of first) {
    const name = `${symbol} ${channel.replaceAll("_", " ")}`;
    yield { label: "Refused", value: reason === "" ? name : `${name}: ${reason}`, tone: "bad" };
  }
  const more = subscriptions.refused - first.length;
  if (more > 0) yield { label: "Refused", value: `${format.count(more)} more`, tone: "bad" };
}

/** Halts; and the bands of symbols that have no line of their own. */
function* trading({ trading: { first, count }, shown }: Status): Generator<Row> {
  const listed = new Set(shown.first.filter(hasBand).map(({ symbol }) => symbol));
  for (const each of first) {
    if (!each.halted && each.message === "" && listed.has(each.symbol)) continue;
    const value = [each.symbol, ...halt(each), ...band(each)].join(" · ");
    yield each.halted ? { label: "Halted", value, tone: "bad" } : { label: "Trading", value };
  }
  const named = new Set([...listed, ...first.map(({ symbol }) => symbol)]);
  const more = count - named.size;
  if (more > 0) {
    yield { label: "Trading", value: `${format.count(more)} more with a status or band` };
  }
}

function* halt({ message, reason, since_ms }: SymbolTrading): Generator<string> {
  if (since_ms !== null) yield `since ${format.secondOfDay(since_ms)}`;
  if (message !== "") yield message;
  if (reason !== "") yield reason;
}

function hasBand({ limit_down, limit_up }: ShownSymbol): boolean {
  return limit_down !== null || limit_up !== null;
}

function* band(each: Pick<SymbolTrading, "limit_down" | "limit_up">): Generator<string> {
  const { limit_down, limit_up } = each;
  if (limit_down === null && limit_up === null) return;
  const [low, high] = [limit_down ?? Number.NaN, limit_up ?? Number.NaN];
  yield `band ${format.price(low)} to ${format.price(high)}`;
}

function andMore(count: number): string {
  return count > 0 ? ` and ${format.count(count)} more` : "";
}

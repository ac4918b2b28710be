/** What somebody who looks at a view should know now, the most important first. */
import * as format from "./format";
import type { Status } from "./model";

export type Tone = "good" | "warn" | "bad" | "muted";

export interface Warning {
  readonly kind: "stale" | "halted" | "refused" | "gap" | "clock" | "market" | "loss";
  readonly text: string;
  readonly tone: Tone;
}

/** A clock that is this wrong makes times on the screen misleading. */
const CLOCK_S = 2;

/**
 * What is the matter at this moment comes before what has been: one gap that could not be
 * repaired in the morning must not hide a halt in the afternoon.
 */
export function warnings(status: Status): readonly Warning[] {
  const live = status.state === "live";
  return [
    ...(live ? symbols(status) : []),
    ...gaps(status),
    ...(live ? times(status) : []),
    ...losses(status),
  ];
}

function* symbols({ stale, trading, refused, subscriptions }: Status): Generator<Warning> {
  const halted = trading.first.filter((each) => each.halted).map(({ symbol }) => symbol);
  if (stale.count > 0) {
    yield { kind: "stale", text: `STALE ${named(stale.first, stale.count)}`, tone: "warn" };
  }
  if (trading.halted > 0) {
    yield { kind: "halted", text: `HALTED ${named(halted, trading.halted)}`, tone: "bad" };
  }
  if (subscriptions.refused > 0) {
    const names = refused.map(({ symbol }) => symbol);
    const text = `REFUSED ${named(names, subscriptions.refused)}`;
    yield { kind: "refused", text, tone: "bad" };
  }
}

function* gaps({ state, gaps: { open, pending } }: Status): Generator<Warning> {
  // Whoever stops a stream knows that nothing comes.
  if (open > 0 && state !== "stopped") {
    yield { kind: "gap", text: `${many(open, "gap")} open`, tone: "warn" };
  }
  if (pending > 0) {
    yield { kind: "gap", text: `${many(pending, "gap")}, repair pending`, tone: "warn" };
  }
}

function* times({ skew_s, market }: Status): Generator<Warning> {
  if (skew_s !== null && Math.abs(skew_s) >= CLOCK_S) {
    yield { kind: "clock", text: `clock ${skew(skew_s)}`, tone: "warn" };
  }
  if (market.phase === "closed") {
    const opens = market.opens_ms === null ? "" : ` · opens ${format.weekday(market.opens_ms)}`;
    yield { kind: "market", text: `market closed${opens}`, tone: "muted" };
  }
}

function* losses(status: Status): Generator<Warning> {
  const { open, pending, missed, repaired } = status.gaps;
  const { dropped, unreadable } = status;
  if (missed > 0) yield { kind: "loss", text: `${many(missed, "gap")} missed`, tone: "bad" };
  if (dropped > 0) {
    yield { kind: "loss", text: `${format.count(dropped)} dropped by handlers`, tone: "warn" };
  }
  if (unreadable > 0) {
    yield { kind: "loss", text: `${format.count(unreadable)} unreadable`, tone: "warn" };
  }
  // Where any is not, that is what matters.
  if (repaired > 0 && open + pending + missed === 0) {
    yield { kind: "gap", text: `${many(repaired, "gap")} repaired`, tone: "muted" };
  }
}

/** By how much, and in which direction, a clock is wrong: "1 h ahead". */
export function skew(seconds: number): string {
  return `${format.span(Math.abs(seconds))} ${seconds < 0 ? "behind" : "ahead"}`;
}

/** "1 gap", "2 gaps". */
export function many(count: number, thing: string): string {
  return `${format.count(count)} ${thing}${count === 1 ? "" : "s"}`;
}

/** One name and how many more there are. */
function named(first: readonly string[], count: number): string {
  const more = count > 1 ? ` +${format.count(count - 1)}` : "";
  return `${first[0] ?? ""}${more}`.trim();
}

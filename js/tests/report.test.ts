import { describe, expect, it } from "vitest";
import type { ShownSymbol, Status } from "../src/model";
import { report } from "../src/report";
import { LIVE, STATUSES } from "./fixtures";

function told(status: Status, age_s: number | null = 0): Record<string, string> {
  const rows = report(status, "Live", age_s, 0).sections.flatMap((section) => section.rows);
  return Object.fromEntries(rows.map(({ label, value }) => [label, value]));
}

const notes = (status: Status): string[] =>
  report(status, "Live", 0, 0).notes.map(({ label, value }) => `${label}: ${value}`);

describe("report", () => {
  it("tells everything about a stream", () => {
    expect(told(STATUSES.troubled, 3)).toEqual({
      State: "Live",
      Feed: "SIP, simulated",
      Market: "Open",
      Closes: "Mon 16:00 ET",
      Received: "90,210",
      Reconnects: "3",
      Median: "20 ms",
      "99 of 100 within": "1.3 s",
      Newest: "19 ms",
      "Last message": "3 s ago",
      Clock: "1 h ahead",
      Confirmed: "9",
      Pending: "1",
      Refused: "1",
      Live: "2",
      Quiet: "0",
      Stale: "6",
      "Nothing yet": "1",
      "Gaps open": "0",
      "Repair pending": "2",
      Repaired: "4",
      Missed: "1",
      "Dropped by handlers": "1,204",
      Unreadable: "2",
      "Overtaken rows": "310",
    });
  });

  it("names what has a name", () => {
    expect(notes(STATUSES.troubled)).toEqual([
      "Stale: F, GM, KO, PEP and 1 more",
      "Refused: XYZ trades: The plan allows 30 symbols.",
      "Halted: AAPL · since 10:12:21 · Trading Halt · Volatility pause · band 217.60 to 240.50",
    ]);
    expect(notes(STATUSES.live)).toEqual([]);
  });

  it("says how many it does not name", () => {
    const nothing = { message: "", reason: "", since_ms: null };
    const band = { ...nothing, symbol: "F", halted: false, limit_up: 11, limit_down: null };
    const status = {
      ...LIVE,
      subscriptions: { confirmed: 0, pending: 0, refused: 1_001 },
      refused: [{ channel: "updated_bars", symbol: "GM", reason: "" }],
      trading: { halted: 0, count: 9, first: [band] },
    };
    expect(notes(status)).toEqual([
      "Refused: GM updated bars",
      "Refused: 1,000 more",
      "Trading: F · band – to 11.00",
      "Trading: 8 more with a status or band",
    ]);
  });

  const shown = (fields: Partial<ShownSymbol>): ShownSymbol => ({
    symbol: "AAPL",
    subscription: "confirmed",
    freshness: "live",
    rate: 12.5,
    age_s: 2,
    halted: false,
    limit_up: null,
    limit_down: null,
    ...fields,
  });
  const line = (fields: Partial<ShownSymbol>, status: Partial<Status> = {}) => {
    const full = { ...LIVE, ...status, shown: { count: 1, first: [shown(fields)] } };
    return report(full, "Live", 0, 3).symbols[0];
  };

  it("has a line for each symbol of the view, and goes on counting", () => {
    expect(report(STATUSES.live, "Live", 0, 0).symbols.map(({ symbol }) => symbol)).toEqual([
      "AAPL",
      "MSFT",
    ]);
    expect(line({ limit_down: 217.6, limit_up: 240.5 })).toEqual({
      symbol: "AAPL",
      state: "Live",
      mark: "●",
      tone: "good",
      rate: "13/s",
      last: "5 s ago",
      band: "band 217.60 to 240.50",
    });
    expect(line({ rate: 0, age_s: null })).toMatchObject({ rate: "", last: "", band: "" });
  });

  it.each<[string, Partial<ShownSymbol>]>([
    ["Quiet", { freshness: "quiet" }],
    ["Stale", { freshness: "stale" }],
    ["Nothing yet", { freshness: "waiting" }],
    ["Market closed", { freshness: "closed" }],
    ["Halted", { halted: true }],
    ["Pending", { subscription: "pending" }],
    ["Refused", { subscription: "refused", freshness: "stale" }],
  ])("says %s of a symbol, with a mark of its own", (state, fields) => {
    expect(line(fields)?.state).toBe(state);
    expect(line(fields)?.mark).not.toBe(line({})?.mark);
  });

  it("calls no symbol live while its stream is not", () => {
    for (const state of ["waiting", "reconnecting", "stopped", "failed"] as const) {
      expect(line({}, { state })).toMatchObject({ state: "Not connected", rate: "" });
    }
  });

  it("names no symbol twice that has a line, unless there is more to say", () => {
    const band = shown({ symbol: "F", limit_up: 11 });
    const nothing = { message: "", reason: "", since_ms: null, halted: false, limit_down: null };
    const first = [
      { ...nothing, symbol: "F", limit_up: 11 },
      { ...nothing, symbol: "GM", limit_up: 12 },
    ];
    const status = {
      ...LIVE,
      stale: { count: 1, first: ["MSFT"] },
      trading: { halted: 0, count: 2, first },
      shown: { count: 12, first: [band, shown({ symbol: "MSFT", freshness: "stale" })] },
    };
    expect(notes(status)).toEqual(["Shown: 10 more symbols", "Trading: GM · band – to 12.00"]);
  });

  it("says of what is unknown that it is", () => {
    expect(told({ ...LIVE, lag_s: null }, null)).toMatchObject({
      Market: "Unknown",
      Opens: "–",
      Median: "–",
      "99 of 100 within": "–",
      "Last message": "never",
      Clock: "no difference seen",
    });
  });

  it.each([
    ["pre", "Pre-market"],
    ["post", "After hours"],
    ["closed", "Closed"],
  ] as const)("says when the core session opens while the phase is %s", (phase, word) => {
    const market = { phase, opens_ms: Date.UTC(2026, 8, 21, 13, 30), closes_ms: null };
    expect(told({ ...LIVE, market })).toMatchObject({ Market: word, Opens: "Mon 09:30 ET" });
  });

  it("has the same rows whatever they say, so that nothing jumps", () => {
    expect(Object.keys(told(STATUSES.live))).toEqual(Object.keys(told(STATUSES.troubled)));
    expect(Object.keys(told(LIVE))).toEqual(Object.keys(told(STATUSES.closed)));
  });

  it("marks what is not as it should be", () => {
    const marked = report(STATUSES.troubled, "Live", 0, 0).sections.flatMap(({ rows }) =>
      rows.filter(({ tone }) => tone !== undefined).map(({ label }) => label),
    );
    expect(marked).toEqual([
      "99 of 100 within",
      "Clock",
      "Pending",
      "Refused",
      "Stale",
      "Repair pending",
      "Missed",
      "Dropped by handlers",
      "Unreadable",
    ]);
  });
});

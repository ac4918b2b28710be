import { describe, expect, it } from "vitest";
import type { Status } from "../src/model";
import { warnings } from "../src/warnings";
import { LIVE, STATUSES } from "./fixtures";

const told = (fields: Partial<Status>): string[] =>
  warnings({ ...LIVE, ...fields }).map(({ text }) => text);

const gaps = (fields: Partial<Status["gaps"]>) => ({ gaps: { ...LIVE.gaps, ...fields } });

describe("warnings", () => {
  it("has none for a stream of which all is well", () => {
    expect(warnings(STATUSES.live)).toEqual([]);
  });

  it("says all that is the matter, now before what has been", () => {
    expect(warnings(STATUSES.troubled).map(({ text }) => text)).toEqual([
      "STALE MSFT +5",
      "HALTED AAPL",
      "REFUSED XYZ",
      "2 gaps, repair pending",
      "clock 1 h ahead",
      "1 gap missed",
      "1,204 dropped by handlers",
      "2 unreadable",
    ]);
  });

  it("tells when the market opens, in New York", () => {
    expect(warnings(STATUSES.closed)).toEqual([
      { kind: "market", text: "market closed · opens Tue 09:30 ET", tone: "muted" },
    ]);
    const market = { phase: "closed", opens_ms: null, closes_ms: null } as const;
    expect(told({ market })).toEqual(["market closed"]);
    expect(told({ market: { ...market, phase: "pre" } })).toEqual([]);
  });

  it("counts a gap as one and more as more", () => {
    expect(told(gaps({ open: 1, pending: 1, missed: 2, repaired: 9 }))).toEqual([
      "1 gap open",
      "1 gap, repair pending",
      "2 gaps missed",
    ]);
  });

  it("tells of gaps that were repaired, quietly, and when all are", () => {
    const [warning] = warnings({ ...LIVE, ...gaps({ repaired: 1 }) });
    expect(warning).toEqual({ kind: "gap", text: "1 gap repaired", tone: "muted" });
    expect(told(gaps({ repaired: 9, pending: 1 }))).toEqual(["1 gap, repair pending"]);
  });

  it("tells of an open gap in every state but that of a stream that was stopped", () => {
    const open = gaps({ open: 2 });
    expect(told({ ...open, state: "waiting" })).toEqual(["2 gaps open"]);
    expect(told({ ...open, state: "failed" })).toEqual(["2 gaps open"]);
    expect(told({ ...open, state: "stopped" })).toEqual([]);
  });

  it.each([
    [1.9, []],
    [-1.9, []],
    [2, ["clock 2.0 s ahead"]],
    [-180, ["clock 3 min behind"]],
    [null, []],
  ])("a clock that is %s s ahead: %s", (skew_s, texts) => {
    expect(told({ skew_s })).toEqual(texts);
  });

  it("tells of a stream that is not live only what stays true", () => {
    const past = { ...STATUSES.troubled, state: "reconnecting" } as const;
    expect(warnings(past).map(({ kind }) => kind)).toEqual(["gap", "loss", "loss", "loss"]);
  });
});

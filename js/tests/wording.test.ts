import { describe, expect, it } from "vitest";
import type { Status, StreamState } from "../src/model";
import { type Moment, type Wording, wording } from "../src/wording";
import { LIVE, STATUSES } from "./fixtures";

const live = (fields: Partial<Status> = {}): Status => ({ ...LIVE, ...fields });

function words(status: Status | null, moment: Partial<Moment> = {}): Wording {
  return wording(status, { age_s: 0, silent_s: 0, waits_s: null, usual_rate: 1, ...moment });
}

function facts(status: Status, moment: Partial<Moment> = {}): string[] {
  return words(status, moment).facts.map((fact) => `${fact.label} ${fact.value}`.trim());
}

describe("wording", () => {
  it("says what a live stream does", () => {
    const { word, tone, stale, feed, origin, warnings } = words(LIVE, { age_s: 0.4 });
    expect([word, tone, stale, feed, origin]).toEqual(["Live", "good", false, "IEX", ""]);
    expect(warnings).toEqual([]);
    expect(facts(LIVE, { age_s: 0.4 })).toEqual(["100/s", "lag 12 ms", "last 0 s ago"]);
  });

  it("agrees with Python on what a status is", () => {
    expect(words(STATUSES.live).word).toBe("Live");
    expect(words(STATUSES.live).warnings).toEqual([]);
    expect(words(STATUSES.troubled)).toMatchObject({ word: "Live", origin: "SIMULATED" });
  });

  it.each([
    ["simulated", "SIMULATED"],
    ["replay", "REPLAY"],
  ] as const)("marks what is %s", (origin, label) => {
    expect(words(live({ origin })).origin).toBe(label);
  });

  it("has another word and another shape for each state", () => {
    const states: StreamState[] = [
      "connecting",
      "waiting",
      "live",
      "reconnecting",
      "stopped",
      "failed",
    ];
    const said = states.map((state) => words(live({ state })));
    expect(new Set(said.map(({ word }) => word)).size).toBe(states.length);
    expect(new Set(said.map(({ mark }) => mark)).size).toBe(states.length);
  });

  it("counts down for how long a place is waited for", () => {
    expect(facts(STATUSES.waiting, { age_s: null, waits_s: 86.2 })).toEqual([
      "gives up in 1 min 27 s",
    ]);
    expect(facts(STATUSES.live, { waits_s: 86.2 })).not.toContain("gives up in 1 min 27 s");
  });

  it.each([
    [4, 100, false],
    [6, 100, true],
    // A stream that speaks once in ten seconds is not stale after twenty.
    [20, 0.1, false],
    [101, 0.1, true],
  ])(
    "with nothing judged, %d s without data at a usual rate of %d: stale %s",
    (age_s, usual_rate, stale) => {
      expect(words(live({ rate: 0 }), { age_s, usual_rate }).stale).toBe(stale);
    },
  );

  it("leaves it to the kernel to judge, where it has", () => {
    const { freshness } = LIVE;
    const quiet = live({ freshness: { ...freshness, quiet: 1 } });
    expect(words(quiet, { age_s: 600, usual_rate: 100 }).word).toBe("Live");
    const stale = live({ freshness: { ...freshness, stale: 1, live: 1 }, all_stale: true });
    expect(words(stale)).toMatchObject({ word: "Stale", mark: "◐", tone: "warn", stale: true });
    const some = live({ freshness: { ...freshness, stale: 1, live: 1 } });
    expect(words(some, { age_s: 600 })).toMatchObject({ word: "Live", stale: false });
  });

  it("does not say twice that all is stale", () => {
    const { troubled } = STATUSES;
    expect(words(troubled).warnings[0]?.kind).toBe("stale");
    const all = words({ ...troubled, all_stale: true });
    expect(all.word).toBe("Stale");
    expect(all.warnings[0]?.kind).toBe("halted");
  });

  it("does not call the night stale", () => {
    expect(words(STATUSES.closed, { age_s: 50_000 })).toMatchObject({ word: "Live", stale: false });
    const unjudged = live({ market: { phase: "closed", opens_ms: null, closes_ms: null } });
    expect(words(unjudged, { age_s: 50_000 }).stale).toBe(false);
  });

  it("takes the kernel's silence for what it is, whatever it said last", () => {
    const said = words(STATUSES.troubled, { silent_s: 7 });
    expect(said).toMatchObject({ word: "No word from the kernel", tone: "bad", stale: true });
    expect(said.warnings).toEqual([]);
    expect(said.detail).toContain("7 s ago");
  });

  it("has words before it knows anything", () => {
    expect(words(null).word).toBe("Opening");
    expect(words(null, { silent_s: 6 }).word).toBe("Waiting for the kernel");
  });

  it("numbers of a stream that is not live are old numbers", () => {
    expect(words(live({ state: "reconnecting" })).stale).toBe(true);
    expect(words(live({ state: "connecting", received: 0 }), { age_s: null }).stale).toBe(false);
  });

  it("says what went wrong", () => {
    expect(words(live({ state: "failed", detail: "Wrong keys." })).detail).toBe("Wrong keys.");
  });
});

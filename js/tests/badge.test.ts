// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Badge, wording } from "../src/badge";
import type { Status, StreamState } from "../src/model";
import { LIVE } from "./fixtures";

const live = (fields: Partial<Status> = {}): Status => ({ ...LIVE, ...fields });

function facts(status: Status, age: number | null = 0): string[] {
  return wording(status, age, 0, status.rate).facts.map((fact) =>
    `${fact.label} ${fact.value}`.trim(),
  );
}

describe("wording", () => {
  it("says what a live stream does", () => {
    const words = wording(LIVE, 0.4, 0, 100);
    expect([words.word, words.tone, words.stale]).toEqual(["Live", "good", false]);
    expect(words.feed).toBe("IEX");
    expect(words.origin).toBe("");
    expect(facts(LIVE, 0.4)).toEqual(["100/s", "lag 12 ms", "last 0 s ago"]);
  });

  it.each([
    ["simulated", "SIMULATED"],
    ["replay", "REPLAY"],
  ] as const)("marks what is %s", (origin, label) => {
    expect(wording(live({ origin }), 0, 0, 1).origin).toBe(label);
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
    const said = states.map((state) => wording(live({ state }), 0, 0, 1));
    expect(new Set(said.map((words) => words.word)).size).toBe(states.length);
    expect(new Set(said.map((words) => words.mark)).size).toBe(states.length);
  });

  it.each([
    [4, 100, false],
    [6, 100, true],
    // A stream that speaks once in ten seconds is not stale after twenty.
    [20, 0.1, false],
    [101, 0.1, true],
  ])("after %d s without data at a usual rate of %d: stale %s", (age, rate, stale) => {
    expect(wording(live({ rate: 0 }), age, 0, rate).stale).toBe(stale);
  });

  it("takes the kernel's silence for what it is, whatever it said last", () => {
    const words = wording(LIVE, 0, 7, 100);
    expect([words.word, words.tone, words.stale]).toEqual(["No word from the kernel", "bad", true]);
    expect(words.detail).toContain("7 s ago");
  });

  it("numbers of a stream that is not live are old numbers", () => {
    expect(wording(live({ state: "reconnecting" }), 1, 0, 1).stale).toBe(true);
    expect(wording(live({ state: "connecting", received: 0 }), null, 0, 0).stale).toBe(false);
  });

  it("says what went wrong", () => {
    expect(wording(live({ state: "failed", detail: "Wrong keys." }), 1, 0, 1).detail).toBe(
      "Wrong keys.",
    );
    expect(facts(live({ reconnects: 2, unreadable: 1 }))).toContain("reconnects 2");
    expect(facts(live({ unreadable: 1 }))).toContain("unreadable 1");
  });
});

describe("Badge", () => {
  let now = 0;
  let badge: Badge;
  let root: HTMLElement;
  const text = () => root.textContent ?? "";

  beforeEach(() => {
    vi.useFakeTimers();
    now = 0;
    root = document.createElement("div");
    badge = new Badge(root, () => now);
    root.append(...badge.elements);
  });

  afterEach(() => {
    badge.destroy();
    vi.useRealTimers();
  });

  function wait(seconds: number): void {
    now += seconds * 1000;
    vi.advanceTimersByTime(seconds * 1000);
  }

  it("goes on counting the age while nothing arrives", () => {
    badge.update(live({ age_s: 2 }));
    wait(2);
    badge.heard();
    wait(0.5);
    expect(text()).toContain("last 4 s ago");
    expect(root.hasAttribute("data-stale")).toBe(false);
    wait(3);
    expect(text()).toContain("Stale");
    expect(root.hasAttribute("data-stale")).toBe(true);
  });

  it("shows that the kernel fell silent, and that it is back", () => {
    badge.update(LIVE);
    wait(6);
    expect(text()).toContain("No word from the kernel");
    badge.update(LIVE);
    expect(text()).toContain("Live");
    expect(root.dataset["tone"]).toBe("good");
  });

  it("does not count the time in which nobody looked", () => {
    badge.update(live({ age_s: 1 }));
    badge.listening(false);
    wait(3600);
    badge.listening(true);
    badge.draw();
    expect(text()).toContain("last 1 s ago");
    expect(text()).toContain("Live");
  });

  it("draws a sentence of the server as text", () => {
    badge.update(live({ state: "failed", detail: "<b>no</b>" }));
    expect(root.querySelector("b b")).toBeNull();
    expect(text()).toContain("<b>no</b>");
  });

  it("touches nothing while nothing changes", () => {
    badge.update(LIVE);
    const before = root.querySelector(".anb-state")?.firstChild;
    badge.update(LIVE);
    expect(root.querySelector(".anb-state")?.firstChild).toBe(before);
  });

  it("stops counting when it is destroyed", () => {
    badge.destroy();
    expect(vi.getTimerCount()).toBe(0);
  });
});

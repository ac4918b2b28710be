import { describe, expect, it } from "vitest";
import { Follow } from "../src/follow";

const MINUTE = 60_000;

/** A follower of five minutes with an hour of data behind it, and what it shows. */
function following() {
  const follow = new Follow(5 * MINUTE);
  const span = follow.advance(0, 60 * MINUTE);
  if (span === null) throw new Error("it does not follow");
  return { follow, span };
}

describe("Follow", () => {
  it("shows the window's width with the newest point near its right end", () => {
    const { span } = following();
    expect(span.end).toBeGreaterThan(60 * MINUTE);
    expect(span.end).toBeLessThan(60.3 * MINUTE);
    expect(span.start).toBeCloseTo(55 * MINUTE, -2);
  });

  it("fills the axis with what there is while data is young", () => {
    const follow = new Follow(5 * MINUTE);
    const span = follow.advance(0, MINUTE);
    expect(span?.start).toBeGreaterThan(-0.1 * MINUTE);
    expect(span?.start).toBeLessThanOrEqual(0);
  });

  it("never shrinks to nothing on a single point", () => {
    const span = new Follow(5 * MINUTE).advance(7, 7);
    expect((span?.end ?? 0) - (span?.start ?? 0)).toBeGreaterThan(1_000);
  });

  it("waits while there is no data", () => {
    expect(new Follow(MINUTE).advance(Number.NaN, Number.NaN)).toBeNull();
  });

  it("goes on following when the axis moved as it said itself", () => {
    const { follow, span } = following();
    expect(follow.moved(span)).toBe(true);
    expect(follow.advance(0, 61 * MINUTE)).not.toBeNull();
  });

  it("lets go when a person pans, and leaves the axis alone from then on", () => {
    const { follow, span } = following();
    expect(follow.moved({ start: span.start - MINUTE, end: span.end - MINUTE })).toBe(false);
    expect(follow.advance(0, 61 * MINUTE)).toBeNull();
  });

  it("keeps the width a person zoomed to while the newest point is in view", () => {
    const { follow, span } = following();
    expect(follow.moved({ start: span.end - 2 * MINUTE, end: span.end })).toBe(true);
    const next = follow.advance(0, 61 * MINUTE);
    expect((next?.end ?? 0) - (next?.start ?? 0)).toBeCloseTo(2 * MINUTE, -2);
  });

  it("lets go when a person zooms into the past", () => {
    const { follow, span } = following();
    expect(follow.moved({ start: span.start, end: span.start + MINUTE })).toBe(false);
  });

  it("comes back to the newest point with the window it had", () => {
    const { follow, span } = following();
    follow.moved({ start: span.start - MINUTE, end: span.end - MINUTE });
    follow.resume();
    expect(follow.following).toBe(true);
    const next = follow.advance(0, 62 * MINUTE);
    expect(next?.start).toBeCloseTo(57 * MINUTE, -2);
  });
});

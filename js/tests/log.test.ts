import { describe, expect, it } from "vitest";
import { KEPT, Log } from "../src/log";
import type { LogLine, LogNews } from "../src/model";
import { STATUSES } from "./fixtures";

function news(from: number, count: number, level: LogLine["level"] = "output"): LogNews {
  const lines = Array.from({ length: count }, (_, at) => ({
    time_ms: 0,
    source: "handler",
    level,
    text: `line ${from + at}`,
  }));
  return { from, lines };
}

const texts = (log: Log): string[] => log.since(0).map(({ text }) => text);

describe("Log", () => {
  it("takes what Python tells", () => {
    const log = new Log();
    log.take(STATUSES.troubled.log);
    log.take(STATUSES.live.log);
    expect(log.since(0).map(({ source, level }) => `${source} ${level}`)).toEqual([
      "on_quote output",
      "stream info",
      "on_quote error",
    ]);
  });

  it("keeps each line once, however often it is told", () => {
    const log = new Log();
    log.take(news(0, 2));
    log.take(news(0, 3));
    log.take(news(1, 2));
    expect(texts(log)).toEqual(["line 0", "line 1", "line 2"]);
  });

  it("says what it was not told", () => {
    const log = new Log();
    log.take(news(1, 1));
    log.take(news(1_202, 1));
    expect(texts(log)).toEqual([
      "1 earlier line is not shown",
      "line 1",
      "1,200 earlier lines are not shown",
      "line 1202",
    ]);
  });

  it("keeps the newest lines only", () => {
    const log = new Log();
    for (let from = 0; from < 3 * KEPT; from += 50) log.take(news(from, 50));
    expect(log.since(0)).toHaveLength(KEPT);
    expect(texts(log).at(-1)).toBe(`line ${3 * KEPT - 1}`);
    expect(log.end).toBe(3 * KEPT);
    expect(log.since(log.end - 2).map(({ at }) => at)).toEqual([3 * KEPT - 2, 3 * KEPT - 1]);
  });

  it("counts the errors that came since", () => {
    const log = new Log();
    log.take(news(0, 2, "error"));
    const seen = log.end;
    log.take(news(2, 3));
    expect(log.errorsSince(seen)).toBe(0);
    log.take(news(5, 1, "error"));
    expect(log.errorsSince(seen)).toBe(1);
    expect(log.errorsSince(0)).toBe(3);
  });
});

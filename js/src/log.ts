/** The lines of a stream's log that a page was told: one store for all views of a widget. */
import { count } from "./format";
import type { LogLine, LogNews } from "./model";

/** The page keeps so many lines, the newest. */
export const KEPT = 500;

/** A line with its place in this page's log. */
export interface KeptLine extends LogLine {
  readonly at: number;
}

export class Log {
  #lines: KeptLine[] = [];
  /** The kernel's number of the line that comes next. */
  #next = 0;
  #end = 0;

  /** The place of the line that comes next. */
  get end(): number {
    return this.#end;
  }

  /** Take in what a status brought; what was told before is known by its number. */
  take(news: LogNews | undefined): void {
    if (news === undefined) return;
    const missing = news.from - this.#next;
    const time_ms = news.lines[0]?.time_ms ?? Number.NaN;
    if (missing > 0) {
      const text = `${count(missing)} earlier ${missing === 1 ? "line is" : "lines are"} not shown`;
      this.#keep({ time_ms, source: "", level: "info", text });
    }
    for (const line of news.lines.slice(Math.max(-missing, 0))) this.#keep(line);
    this.#next = Math.max(this.#next, news.from + news.lines.length);
    this.#lines = this.#lines.slice(-KEPT);
  }

  /** The lines from a place on, as far as they are kept. */
  since(at: number): readonly KeptLine[] {
    return this.#lines.filter((line) => line.at >= at);
  }

  /** How many errors there are among them. */
  errorsSince(at: number): number {
    return this.since(at).filter(({ level }) => level === "error").length;
  }

  #keep(line: LogLine): void {
    this.#lines.push({ ...line, at: this.#end });
    this.#end += 1;
  }
}

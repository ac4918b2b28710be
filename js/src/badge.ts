/** The truth about a view, in one line: what state, whose data, what is the matter, how late. */
import { Details } from "./details";
import { element, pool, setText } from "./dom";
import { Log } from "./log";
import type { Status } from "./model";
import { report } from "./report";
import { many, type Warning } from "./warnings";
import { type Fact, type Wording, wording } from "./wording";

/** So many warnings have room in the line; a narrow one shows the first. */
const TOLD = 2;

/**
 * Draws the wording into a view's bar and goes on counting the age while nothing arrives. The
 * line is a button: it opens the details below it.
 */
export class Badge {
  readonly #root: HTMLElement;
  readonly #log: Log;
  readonly #line = element("div", "anb-badge");
  readonly #button = element("button", "anb-toggle");
  readonly #state = element("span", "anb-state");
  readonly #feed = element("span", "anb-chip");
  readonly #origin = element("span", "anb-chip");
  readonly #warnings = element("span", "anb-warnings");
  readonly #unread = element("span", "anb-unread");
  readonly #facts = element("div", "anb-facts");
  /** A change of state is worth a word to those who listen; the numbers are not. */
  readonly #said = element("span", "anb-said");
  readonly #detail = element("div", "anb-detail");
  readonly #details: Details;
  readonly #now: () => number;
  readonly #timer: ReturnType<typeof setInterval>;
  #status: Status | null = null;
  #heard: number;
  #listening = true;
  #paused = 0;
  /** When the last status was told. */
  #told = Number.NaN;
  #usualRate = 0;
  /** The place in the log up to which the person has seen it. */
  #seen = 0;

  /**
   * `root` is the view, whose tone and staleness follow the badge; `log` holds the lines that
   * came with its statuses. `now` gives milliseconds of a clock that does not go backwards.
   */
  constructor(root: HTMLElement, log: Log = new Log(), now = () => performance.now()) {
    this.#root = root;
    this.#log = log;
    this.#now = now;
    this.#heard = now();
    this.#details = new Details(log);
    this.#build();
    this.draw();
    this.#timer = setInterval(() => this.draw(), 500);
  }

  /**
   * The line itself; and what stands below it: the sentence, when there is something to explain,
   * and the details, when somebody wants to know.
   */
  get elements(): readonly [line: HTMLElement, ...below: HTMLElement[]] {
    return [this.#line, this.#detail, this.#details.element];
  }

  /** The kernel was heard, whatever it said. */
  heard(): void {
    this.#heard = this.#now();
  }

  /**
   * Whether the kernel is expected to speak. Time in which it is not counts neither as silence
   * nor as age: the next status knows better, and comes at once.
   */
  listening(listening: boolean): void {
    if (listening === this.#listening) return;
    const now = this.#now();
    if (listening) {
      this.#told += now - this.#paused;
      this.#heard += now - this.#paused;
    }
    this.#paused = now;
    this.#listening = listening;
  }

  update(status: Status): void {
    this.heard();
    this.#told = this.#heard;
    this.#status = status;
    if (status.rate > 0) this.#usualRate = status.rate;
    this.draw();
  }

  draw(): void {
    if (!this.#listening) return;
    const [now, status] = [this.#now(), this.#status];
    const since_s = (now - this.#told) / 1000;
    const age_s = later(status?.age_s, since_s);
    const words = wording(status, {
      age_s,
      silent_s: (now - this.#heard) / 1000,
      waits_s: later(status?.waits_s, -since_s),
      usual_rate: this.#usualRate,
    });
    this.#drawLine(words);
    this.#drawFacts(words.facts);
    this.#drawUnread();
    setText(this.#detail, words.detail);
    this.#root.dataset["tone"] = words.tone;
    this.#root.toggleAttribute("data-stale", words.stale);
    if (this.#details.open) {
      this.#details.draw(status && report(status, words.word, age_s, since_s));
    }
  }

  destroy(): void {
    clearInterval(this.#timer);
  }

  #drawLine(words: Wording): void {
    const told = words.warnings.slice(0, TOLD);
    setText(this.#state, words.word);
    this.#state.dataset["mark"] = words.mark;
    show(this.#feed, words.feed);
    show(this.#origin, words.origin);
    this.#drawWarnings(told, words.warnings.map(({ text }) => text).join("\n"));
    setText(this.#said, [words.word, ...told.map(({ text }) => text)].join(" "));
  }

  #drawWarnings(told: readonly Warning[], all: string): void {
    const shown = pool(this.#warnings, told.length, () => element("span", "anb-warning"));
    for (const [at, { text, kind, tone }] of told.entries()) {
      const warning = shown[at];
      if (warning === undefined) continue;
      setText(warning, text);
      warning.dataset["kind"] = kind;
      warning.dataset["tone"] = tone;
    }
    this.#warnings.hidden = told.length === 0;
    setTitle(this.#warnings, all);
  }

  #drawFacts(facts: readonly Fact[]): void {
    const shown = pool(this.#facts, facts.length, () => {
      const fact = element("span", "anb-fact");
      fact.append(document.createTextNode(""), element("b"));
      return fact;
    });
    for (const [at, { label, value, warn }] of facts.entries()) {
      const fact = shown[at];
      if (fact === undefined) continue;
      setText(fact.firstChild, label === "" ? "" : `${label} `);
      setText(fact.lastChild, value);
      fact.dataset["tone"] = warn ? "warn" : "";
    }
  }

  #drawUnread(): void {
    if (this.#details.open) this.#seen = this.#log.end;
    const errors = this.#seen === this.#log.end ? 0 : this.#log.errorsSince(this.#seen);
    show(this.#unread, errors === 0 ? "" : many(errors, "error"));
  }

  #toggle(): void {
    this.#details.open = !this.#details.open;
    this.#button.setAttribute("aria-expanded", String(this.#details.open));
    this.draw();
  }

  #build(): void {
    const button = this.#button;
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", this.#details.element.id);
    button.title = "Details of the stream, and its log";
    this.#origin.dataset["kind"] = "origin";
    this.#unread.title = "New in the log";
    this.#said.setAttribute("role", "status");
    button.append(this.#state, this.#feed, this.#origin, this.#warnings, this.#unread);
    this.#line.append(button, this.#facts, this.#said);
    button.addEventListener("click", () => this.#toggle());
    this.#facts.addEventListener("click", () => this.#toggle());
  }
}

/** What a number of seconds has become since it was told, not below zero; or it is not known. */
function later(seconds: number | null | undefined, since_s: number): number | null {
  return seconds === null || seconds === undefined ? null : Math.max(seconds + since_s, 0);
}

/** A part of the line that is there while it has something to say. */
function show(part: HTMLElement, text: string): void {
  setText(part, text);
  part.hidden = text === "";
}

function setTitle(part: HTMLElement, title: string): void {
  if (part.title !== title) part.title = title;
}

/** The truth about a view, in one line: what state, whose data, how much, how late, how old. */
import * as format from "./format";
import type { Status, StreamState } from "./model";

export type Tone = "good" | "warn" | "bad" | "muted";

/** What the badge shows at one moment. */
export interface Wording {
  readonly word: string;
  /** A shape that differs from state to state, for those who do not see its colour. */
  readonly mark: string;
  readonly tone: Tone;
  readonly feed: string;
  /** SIMULATED or REPLAY, or nothing for the real market. */
  readonly origin: string;
  readonly facts: readonly Fact[];
  readonly detail: string;
  /** The numbers in the view are not today's truth any more. */
  readonly stale: boolean;
}

export interface Fact {
  readonly label: string;
  readonly value: string;
  readonly warn?: boolean;
}

const STATES: Readonly<Record<StreamState, readonly [word: string, mark: string, tone: Tone]>> = {
  connecting: ["Connecting", "◌", "muted"],
  waiting: ["Waiting", "◔", "warn"],
  live: ["Live", "●", "good"],
  reconnecting: ["Reconnecting", "↻", "warn"],
  stopped: ["Stopped", "■", "muted"],
  failed: ["Failed", "✕", "bad"],
};

/** A kernel sends a sign of life every second; after this long without one it is missed. */
const SILENT_S = 5;

/** A live stream is stale when nothing came for this long, and for ten times its usual gap. */
const STALE_S = 5;
const STALE_GAPS = 10;

/**
 * The words for a status. `age_s` is the age of the last data message now, `silent_s` how long
 * the kernel has not been heard, `usual_rate` the stream's rate when it last had one.
 */
export function wording(
  status: Status | null,
  age_s: number | null,
  silent_s: number,
  usual_rate: number,
): Wording {
  if (status === null) {
    return {
      word: silent_s > SILENT_S ? "Waiting for the kernel" : "Opening",
      mark: "◌",
      tone: "muted",
      feed: "",
      origin: "",
      facts: [],
      detail: "",
      stale: false,
    };
  }
  let [word, mark, tone] = STATES[status.state] ?? [status.state, "?", "muted"];
  let detail = status.detail;
  let stale = status.state !== "live" && status.received > 0;
  const limit_s = Math.max(STALE_S, usual_rate > 0 ? STALE_GAPS / usual_rate : 0);
  const old = age_s !== null && age_s > limit_s;
  if (silent_s > SILENT_S && status.state !== "stopped") {
    [word, mark, tone, stale] = ["No word from the kernel", "✕", "bad", true];
    detail = `The kernel was last heard ${format.age(silent_s)} ago; it may have been restarted or be held up.`;
  } else if (status.state === "live" && old) {
    [word, mark, tone, stale] = ["Stale", "◐", "warn", true];
  }
  return {
    word,
    mark,
    tone,
    feed: status.feed.toUpperCase(),
    origin: status.origin === "live" ? "" : status.origin.toUpperCase(),
    facts: facts(status, age_s, old),
    detail,
    stale,
  };
}

function facts(status: Status, age_s: number | null, old: boolean): readonly Fact[] {
  const list: Fact[] = [];
  if (status.state === "live") list.push({ label: "", value: format.rate(status.rate) });
  if (status.state === "live" && status.lag_s !== null) {
    list.push({ label: "lag", value: format.lag(status.lag_s), warn: status.lag_s > 1 });
  }
  if (age_s !== null) list.push({ label: "last", value: `${format.age(age_s)} ago`, warn: old });
  if (status.reconnects > 0) {
    list.push({ label: "reconnects", value: format.count(status.reconnects) });
  }
  if (status.unreadable > 0) {
    list.push({ label: "unreadable", value: format.count(status.unreadable), warn: true });
  }
  return list;
}

function counts(status: Status | null): string {
  if (status === null) return "";
  const { received, coalesced } = status;
  const overtaken = `${format.count(coalesced)} rows overtaken by newer ones before they were drawn`;
  return `${format.count(received)} messages received; ${overtaken}`;
}

/** Draws the wording into a view's bar and goes on counting the age while nothing arrives. */
export class Badge {
  readonly #root: HTMLElement;
  readonly #line = element("div", "anb-badge");
  readonly #left = element("div", "");
  readonly #right = element("div", "");
  readonly #state = element("span", "anb-state");
  readonly #feed = element("span", "anb-chip");
  readonly #origin = element("span", "anb-chip");
  readonly #facts: HTMLElement[] = [];
  readonly #detail = element("div", "anb-detail");
  readonly #now: () => number;
  readonly #timer: ReturnType<typeof setInterval>;
  #status: Status | null = null;
  #heard: number;
  #listening = true;
  #paused = 0;
  #received = Number.NaN;
  #usualRate = 0;

  /**
   * `root` is the view, whose tone and staleness follow the badge. `now` gives milliseconds of
   * a clock that does not go backwards.
   */
  constructor(root: HTMLElement, now: () => number = () => performance.now()) {
    this.#root = root;
    this.#now = now;
    this.#heard = now();
    this.#origin.dataset["kind"] = "origin";
    this.#left.append(this.#state, this.#feed, this.#origin);
    this.#line.append(this.#left, this.#right);
    // A change of state is worth a word to those who listen; the numbers are not.
    this.#state.setAttribute("role", "status");
    this.draw();
    this.#timer = setInterval(() => this.draw(), 500);
  }

  /** The line itself, and the sentence that stands below it when there is something to explain. */
  get elements(): readonly [line: HTMLElement, detail: HTMLElement] {
    return [this.#line, this.#detail];
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
      this.#received += now - this.#paused;
      this.#heard += now - this.#paused;
    }
    this.#paused = now;
    this.#listening = listening;
  }

  update(status: Status): void {
    this.heard();
    this.#received = this.#heard - (status.age_s ?? Number.NaN) * 1000;
    this.#status = status;
    if (status.rate > 0) this.#usualRate = status.rate;
    this.draw();
  }

  draw(): void {
    if (!this.#listening) return;
    const now = this.#now();
    const age = Number.isNaN(this.#received) ? null : (now - this.#received) / 1000;
    const words = wording(this.#status, age, (now - this.#heard) / 1000, this.#usualRate);
    setText(this.#state, words.word);
    this.#state.dataset["mark"] = words.mark;
    setText(this.#feed, words.feed);
    setText(this.#origin, words.origin);
    setText(this.#detail, words.detail);
    this.#feed.hidden = words.feed === "";
    this.#origin.hidden = words.origin === "";
    this.#drawFacts(words.facts);
    this.#root.dataset["tone"] = words.tone;
    this.#root.toggleAttribute("data-stale", words.stale);
    this.#right.title = counts(this.#status);
  }

  destroy(): void {
    clearInterval(this.#timer);
  }

  #drawFacts(facts: readonly Fact[]): void {
    while (this.#facts.length < facts.length) {
      const fact = element("span", "anb-fact");
      fact.append(document.createTextNode(""), element("b", ""));
      this.#facts.push(fact);
      this.#right.append(fact);
    }
    for (const [at, shown] of this.#facts.entries()) {
      const fact = facts[at];
      shown.hidden = fact === undefined;
      if (fact === undefined) continue;
      setText(shown.firstChild, fact.label === "" ? "" : `${fact.label} `);
      setText(shown.lastChild, fact.value);
      shown.dataset["tone"] = fact.warn ? "warn" : "";
    }
  }
}

function element(tag: string, name: string): HTMLElement {
  const made = document.createElement(tag);
  made.className = name;
  return made;
}

/** Text is set only where it differs: an unchanged badge costs the page nothing. */
function setText(node: Node | null, text: string): void {
  if (node !== null && node.textContent !== text) node.textContent = text;
}

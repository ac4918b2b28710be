/** Draws the log: newest at the bottom, and the end stays in sight unless somebody scrolled up. */
import { element, setText } from "./dom";
import { secondOfDay } from "./format";
import { KEPT, type KeptLine, type Log } from "./log";

/** So close to the end counts as at the end: zoomed pages have fractions of a pixel. */
const NEAR_PX = 8;

export class LogView {
  readonly element = element("div", "anb-logbox");
  readonly #lines = element("div", "anb-log");
  readonly #empty = element("p", "anb-nothing");
  readonly #log: Log;
  #drawn = 0;
  #following = true;
  #top = 0;

  constructor(log: Log) {
    this.#log = log;
    const heading = element("h4");
    heading.textContent = "Log";
    this.#empty.textContent = "Errors, and what handlers print, will be here.";
    this.#lines.tabIndex = 0;
    this.#lines.setAttribute("role", "log");
    this.#lines.setAttribute("aria-label", "Log, times in New York");
    this.#lines.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.element.append(heading, this.#empty, this.#lines);
  }

  /** Draw it as it is shown anew: what was hidden has forgotten where it was. */
  open(): void {
    this.#following = true;
    this.draw();
    this.#lines.scrollTop = this.#lines.scrollHeight;
  }

  /** Add the lines that came since it was last drawn. */
  draw(): void {
    const box = this.#lines;
    this.#empty.hidden = this.#log.end > 0;
    box.hidden = this.#log.end === 0;
    if (this.#drawn === this.#log.end) return;
    box.append(...this.#log.since(this.#drawn).map(draw));
    while (box.children.length > KEPT) box.firstElementChild?.remove();
    this.#drawn = this.#log.end;
    if (this.#following) box.scrollTop = box.scrollHeight;
  }

  /** Only a person scrolls up; a box that gets narrower leaves its end without that. */
  #scrolled(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.#lines;
    if (scrollHeight - scrollTop - clientHeight < NEAR_PX) this.#following = true;
    else if (scrollTop < this.#top) this.#following = false;
    this.#top = scrollTop;
  }
}

function draw({ time_ms, source, level, text }: KeptLine): HTMLElement {
  const line = element("div", "anb-line");
  const [time, who, what] = [element("time"), element("span"), element("span")];
  setText(time, secondOfDay(time_ms));
  setText(who, source);
  who.title = source;
  setText(what, text);
  line.dataset["level"] = level;
  line.append(time, who, what);
  return line;
}
